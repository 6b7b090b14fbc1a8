"""Replaying a workload in an open loop: requests are sent at their time, come what may."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from time import perf_counter_ns
from typing import Any

from pytest_gpusim.vllm_runtime.driver import Driver, StepResult

Emit = Callable[[dict[str, Any]], None]

_SPIN_NS = 300_000  # a sleep may end this late
_HEARTBEAT_NS = 2_000_000_000


def replay(driver: Driver, command: Mapping[str, Any], emit: Emit) -> None:
    """Run a workload and emit what happens, as it happens.

    ``command``: ``requests``, rows of (request id, arrival ns, prompt id, output tokens) in order
    of arrival; ``prompts``, token ids by prompt id; ``wait``, false to skip the engine's idle time.
    Emits ``cache kept`` where the prefix cache could not be emptied, ``started``, then ``sent``,
    ``refused``, ``step`` and ``idle`` events, with times in ns since the start, then ``ended``.
    """
    prompts = {int(key): ids for key, ids in command["prompts"].items()}
    waiting = list(reversed(command["requests"]))
    if not driver.reset_prefix_cache():
        emit({"event": "cache kept"})
    gc.collect()
    gc.freeze()
    emit({"event": "started"})
    skipped = 0  # idle time that was not waited for
    origin = perf_counter_ns()
    while waiting or driver.busy:
        now = perf_counter_ns() - origin + skipped
        sent = []
        while waiting and waiting[-1][1] <= now:
            request_id, _, prompt_id, max_tokens = waiting.pop()
            at = perf_counter_ns() - origin + skipped
            try:
                driver.add(request_id, prompts[prompt_id], max_tokens)
            except Exception as error:  # what vLLM refuses costs one request, not the run
                emit({
                    "event": "refused", "request": request_id, "sent": at,
                    "type": type(error).__name__, "message": _first_line(error),
                })  # fmt: skip
            else:
                sent.append([request_id, at])
        if sent:
            emit({"event": "sent", "requests": sent})
        if driver.busy:
            result = driver.step()
            emit(_step_event(driver, result, origin - skipped))
        elif waiting:
            if command.get("wait", True):
                _wait_until(origin + waiting[-1][1], emit)
            else:
                skipped += max(0, waiting[-1][1] - now)
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
