"""Replaying a workload against a server in an open loop: requests go out at their time.

A server that falls behind does not slow the load down. Only a concurrency limit that the user asks
for holds a request back, and its wait counts, since TTFT starts at the scheduled arrival.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter_ns

import aiohttp

from pytest_gpusim.backends.openai.client import Answer, complete
from pytest_gpusim.workload import WorkloadRequest

_SPIN_NS = 1_500_000  # a sleep may end this late


@dataclass
class Replay:
    """One pass over a workload. Times in answers are on the same clock as ``origin_ns``."""

    origin_ns: int
    answers: dict[int, Answer] = field(default_factory=dict)
    late_ns: dict[int, int] = field(default_factory=dict)
    """How late a request was handed over to be sent."""
    free_ns: dict[int, int] = field(default_factory=dict)
    """When the concurrency limit let it through."""


async def replay(
    session: aiohttp.ClientSession,
    url: str,
    requests: Sequence[WorkloadRequest],
    payload_of: Callable[[WorkloadRequest], bytes],
    *,
    timeout_s: float,
    max_concurrency: int | None,
    skip_idle: bool = False,
    scrub: Callable[[str], str] = str,
) -> Replay:
    """Send every request at its arrival time and wait for all answers.

    Args:
        session: Open, with its headers set.
        url: The completions endpoint.
        requests: In order of arrival.
        payload_of: The JSON body of a request; all are made before the first is sent.
        timeout_s: For each request, from its sending.
        max_concurrency: How many may be under way at once; None for no limit.
        skip_idle: Do not wait while nothing is under way (warm-up).
        scrub: Applied to error messages.
    """
    slots = asyncio.Semaphore(max_concurrency) if max_concurrency else None
    idle = asyncio.Event()
    idle.set()
    tasks: list[asyncio.Task[None]] = []
    running: set[asyncio.Task[None]] = set()
    payloads = [(request, payload_of(request)) for request in requests]
    gc.collect()
    gc.freeze()
    run = Replay(perf_counter_ns())

    async def one(request: WorkloadRequest, payload: bytes) -> None:
        if slots is not None:
            await slots.acquire()
        try:
            run.free_ns[request.request_id] = perf_counter_ns()
            run.answers[request.request_id] = await complete(
                session, url, payload, timeout_s=timeout_s, scrub=scrub
            )
        finally:
            if slots is not None:
                slots.release()

    def ended(task: asyncio.Task[None]) -> None:
        running.discard(task)
        if not running:
            idle.set()

    skipped = 0
    try:
        for request, payload in payloads:
            due = run.origin_ns + request.arrival_time_ns - skipped
            if skip_idle and due > perf_counter_ns():
                await _first_of(idle, due)
                skipped += max(0, due - perf_counter_ns())
            else:
                await _wait_until(due)
            run.late_ns[request.request_id] = max(0, perf_counter_ns() - due)
            task = asyncio.create_task(one(request, payload))
            tasks.append(task)
            running.add(task)
            idle.clear()
            task.add_done_callback(ended)
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        gc.unfreeze()
    return run


async def _wait_until(moment: int) -> None:
    while (left := moment - perf_counter_ns()) > 0:
        # The last bit is spent in turns with the streams that are under way.
        await asyncio.sleep((left - _SPIN_NS) / 1e9 if left > _SPIN_NS else 0)


async def _first_of(idle: asyncio.Event, moment: int) -> None:
    left = (moment - perf_counter_ns()) / 1e9
    try:
        async with asyncio.timeout(max(0.0, left)):
            await idle.wait()
    except TimeoutError:
        return
