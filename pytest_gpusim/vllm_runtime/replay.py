"""Replaying a workload: requests are sent at their time, or when the answer they wait for is there.

A load generator's own delays do not count as the engine's: a request arrives when it is due.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from time import perf_counter_ns
from typing import Any

from pytest_gpusim.vllm_runtime.driver import Driver, StepResult
from pytest_gpusim.workload import Load, SessionTurn, WorkloadRequest
from pytest_gpusim.workload.client import LoadClient
from pytest_gpusim.workload.contexts import Contexts

Emit = Callable[[dict[str, Any]], None]

_SPIN_NS = 300_000  # a sleep may end this late
_HEARTBEAT_NS = 2_000_000_000


def replay(driver: Driver, command: Mapping[str, Any], emit: Emit) -> None:
    """Run a workload and emit what happens, as it happens.

    ``command``: ``requests``, rows of `WorkloadRequest` in order of arrival; ``prompts``, token ids
    by prompt id; ``max_concurrency``, None for no limit; ``sessions``, rows of (request id, session
    id, turn, think time in ns); ``continues``, rows of (request id, earlier turn's request id,
    tokens of its prompt and answer that the prompt begins with); ``wait``, false to skip the
    engine's idle time. Emits ``cache kept`` where the prefix cache could not be emptied,
    ``started``, then ``sent``, ``refused``, ``step`` and ``idle`` events, with times in ns since
    the start, then ``ended``.
    """
    client = LoadClient(
        [WorkloadRequest(*row) for row in command["requests"]],
        Load(command["max_concurrency"]),
        {request_id: SessionTurn(*turn) for request_id, *turn in command["sessions"]},
    )
    contexts = Contexts(
        {int(prompt_id): ids for prompt_id, ids in command["prompts"].items()},
        {request_id: (earlier, tokens) for request_id, earlier, tokens in command["continues"]},
    )
    if not driver.reset_prefix_cache():
        emit({"event": "cache kept"})
    gc.collect()
    gc.freeze()
    emit({"event": "started"})
    skipped = 0  # idle time that was not waited for
    origin = perf_counter_ns()
    while True:
        now = perf_counter_ns() - origin + skipped
        sent, refused = [], False
        for request in client.take(now):
            number = request.request_id
            at = perf_counter_ns() - origin + skipped
            arrival = client.arrival_ns[number]
            try:
                driver.add(number, contexts.ids_of(request), request.num_decode_tokens)
            except Exception as error:  # what vLLM refuses costs one request, not the run
                emit({
                    "event": "refused", "request": number, "sent": at, "arrival": arrival,
                    "type": type(error).__name__, "message": _first_line(error),
                })  # fmt: skip
                client.done(number, at)
                refused = True
            else:
                sent.append([number, at, arrival])
        if sent:
            emit({"event": "sent", "requests": sent})
        due = client.next_due()
        if refused and due is not None and due <= now:
            continue  # one that it made way for
        if driver.busy:
            result = driver.step()
            emit(_step_event(driver, result, origin - skipped))
            for request_id, ids in result.tokens:
                contexts.heard(request_id, ids)
            for request_id, _ in result.finished:
                client.done(request_id, result.end_ns - origin + skipped)
        elif due is None:
            break
        elif command.get("wait", True):
            _wait_until(origin + due, emit)
        else:
            skipped += max(0, due - now)
    emit({"event": "ended", "at": perf_counter_ns() - origin + skipped})


def _step_event(driver: Driver, result: StepResult, origin: int) -> dict[str, Any]:
    rows = [
        {
            "planned": step.planned_ns - origin,
            "batch": [(driver.our_id(s.request_id), *s[1:]) for s in step.batch],
            "admitted": [[driver.our_id(i), hit] for i, hit in step.admitted.items()],
            "state": [step.running, step.waiting, step.blocks_used, step.preempted],
        }
        for step in result.steps
    ]
    return {
        "event": "step",
        "at": [result.start_ns - origin, result.end_ns - origin],
        "cpu_ns": result.cpu_ns,
        "steps": rows,
        "tokens": result.tokens,
        "finished": result.finished,
    }


def _wait_until(moment: int, emit: Emit) -> None:
    while (left := moment - perf_counter_ns()) > _SPIN_NS:
        time.sleep(min(left - _SPIN_NS, _HEARTBEAT_NS) / 1e9)
        if left > _HEARTBEAT_NS:
            emit({"event": "idle"})
    while perf_counter_ns() < moment:
        pass


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
