"""Replaying a workload against a server: requests go out at their time, or after an answer.

In an open loop a server that falls behind does not slow the load down; a limit that the user asks
for besides holds requests back, and their wait counts, since TTFT starts at the scheduled arrival.
Where the workload itself has a limit or turns, arrival is when this client could send.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter_ns

import aiohttp

from pytest_gpusim.backends.openai.client import Answer, complete
from pytest_gpusim.workload import Load, Workload, WorkloadRequest
from pytest_gpusim.workload.client import LoadClient
from pytest_gpusim.workload.contexts import Contexts

_SPIN_NS = 1_500_000  # a sleep may end this late


@dataclass
class Replay:
    """One pass over a workload. Times in answers are on the same clock as ``origin_ns``."""

    origin_ns: int
    answers: dict[int, Answer] = field(default_factory=dict)
    could_send_ns: dict[int, int] = field(default_factory=dict)
    """When a request was due and the limit let it through, since the origin."""


async def replay(
    session: aiohttp.ClientSession,
    url: str,
    workload: Workload,
    contexts: Contexts,
    body_of: Callable[[WorkloadRequest, list[int] | str], bytes],
    *,
    timeout_s: float,
    load: Load,
    skip_idle: bool = False,
    scrub: Callable[[str], str] = str,
    heard: Callable[[], None] = lambda: None,
) -> Replay:
    """Send every request when it can be sent and wait for all answers.

    Args:
        session: Open, with its headers set.
        url: The completions endpoint.
        workload: Its requests and sessions.
        contexts: Its prompts.
        body_of: The JSON body of a request with its prompt; those that wait for no answer are all
            made before the first is sent.
        timeout_s: For each request, from its sending.
        load: How many may be under way at once.
        skip_idle: Do not wait while nothing is under way (warm-up).
        scrub: Applied to error messages.
        heard: Called after each answer; must be quick.
    """
    client = LoadClient(workload.requests, load, workload.sessions)
    bodies = {
        request.request_id: body_of(request, contexts.prompt_of(request))
        for request in workload.requests
        if not contexts.needs_answer(request.request_id)
    }
    answered = asyncio.Event()
    tasks: list[asyncio.Task[None]] = []
    under_way = skipped = 0
    gc.collect()
    gc.freeze()
    run = Replay(perf_counter_ns(), could_send_ns=client.arrival_ns)

    async def one(request: WorkloadRequest) -> None:
        nonlocal under_way
        number = request.request_id
        try:
            body = bodies.pop(number, None) or body_of(request, contexts.prompt_of(request))
            answer = await complete(session, url, body, timeout_s=timeout_s, scrub=scrub)
            run.answers[number] = answer
            contexts.heard(number, answer.token_ids)
            heard()
        finally:
            under_way -= 1
            client.done(number, perf_counter_ns() - run.origin_ns + skipped)
            answered.set()

    try:
        while True:
            now = perf_counter_ns() - run.origin_ns + skipped
            for request in client.take(now):
                tasks.append(asyncio.create_task(one(request)))
                under_way += 1
            due = client.next_due()
            answered.clear()
            if due is None:
                if not under_way:
                    break
                await answered.wait()
            elif skip_idle and not under_way:
                skipped += max(0, due - now)
            else:
                await _wait_until(run.origin_ns + due - skipped, answered)
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        gc.unfreeze()
    return run


async def _wait_until(moment: int, or_earlier: asyncio.Event) -> None:
    while (left := moment - perf_counter_ns()) > 0 and not or_earlier.is_set():
        if left <= _SPIN_NS:
            # The last bit is spent in turns with the streams that are under way.
            await asyncio.sleep(0)
            continue
        try:
            async with asyncio.timeout((left - _SPIN_NS) / 1e9):
                await or_earlier.wait()
        except TimeoutError:
            continue
