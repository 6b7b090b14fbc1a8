"""From the answers of one replay to the rows of one run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pytest_gpusim.backends.openai_replay import Replay
from pytest_gpusim.workload import WorkloadRequest


def request_rows(requests: Sequence[WorkloadRequest], replay: Replay) -> list[dict[str, Any]]:
    """Rows of ``request_metrics.csv``, one per request of the workload."""
    return [_row(request, replay) for request in requests]


def token_rows(
    requests: Sequence[WorkloadRequest], replay: Replay
) -> Iterator[tuple[int, int, int, int]]:
    """Rows of ``token_metrics.csv``; a failed request's are those that came."""
    for request in requests:
        before = request.arrival_time_ns
        for index, time in enumerate(_times(request, replay)):
            yield request.request_id, index, time, time - before
            before = time


def timing(replay: Replay) -> dict[str, Any]:
    """How token times were had, for the run's metadata."""
    answers = [answer for answer in replay.answers.values() if answer.error is None]
    tokens = sum(len(answer.token_times_ns) for answer in answers)
    untimed = sum(not answer.tokens_timed for answer in answers)
    return {
        "token_times": untimed == 0,
        "requests_without_token_times": untimed,
        "tokens_counted_by": sorted({answer.counted for answer in answers}),
        "tokens_that_share_a_chunk": tokens - sum(answer.chunks for answer in answers),
    }


def prompt_lengths(requests: Sequence[WorkloadRequest], replay: Replay) -> dict[str, int]:
    """How many prompts have, by the server's count, the workload's length, another, or no count."""
    told = [(request, replay.answers[request.request_id].prompt_tokens) for request in requests]
    untold = sum(tokens is None for _, tokens in told)
    same = sum(tokens == request.num_prefill_tokens for request, tokens in told)
    return {"as_asked": same, "others": len(told) - same - untold, "not_told": untold}


def lateness(requests: Sequence[WorkloadRequest], replay: Replay) -> dict[str, Any]:
    """How late requests were sent, in ns: ``max_ns``, ``mean_ns`` and ``p99_ns`` by this process's
    own fault, ``max_since_arrival_ns`` with the wait for the concurrency limit.
    """
    import numpy as np

    since, own = [], []
    for request in requests:
        sent = replay.answers[request.request_id].sent_ns - replay.origin_ns
        free = replay.free_ns[request.request_id] - replay.origin_ns
        since.append(sent - request.arrival_time_ns)
        own.append(sent - free + replay.late_ns[request.request_id])
    late = np.array(own)
    return {
        "max_ns": int(late.max()),
        "mean_ns": int(late.mean()),
        "p99_ns": int(np.percentile(late, 99)),
        "max_since_arrival_ns": max(since),
    }


def _times(request: WorkloadRequest, replay: Replay) -> list[int]:
    """Token times from the run's start; none is before the arrival."""
    origin = replay.origin_ns
    return [time - origin for time in replay.answers[request.request_id].token_times_ns]


def _row(request: WorkloadRequest, replay: Replay) -> dict[str, Any]:
    answer = replay.answers[request.request_id]
    times = _times(request, replay)
    row: dict[str, Any] = {
        "request_id": request.request_id,
        "arrival_time_ns": request.arrival_time_ns,
        "sent_time_ns": answer.sent_ns - replay.origin_ns,
        "first_token_time_ns": times[0] if times else None,
        "ttft_ns": times[0] - request.arrival_time_ns if times else None,
        # What was prefilled: where it is not what was asked, the workload is another one.
        "num_prefill_tokens": answer.prompt_tokens or request.num_prefill_tokens,
        "num_cached_tokens": answer.cached_tokens,
        "num_decode_tokens": request.num_decode_tokens,
        "num_decode_tokens_actual": answer.num_tokens if times else None,
        "backend": "openai",
    }
    if answer.error is not None:
        row.update(status="error", error_type=answer.error[0], error_msg=answer.error[1])
    else:
        whole = answer.num_tokens >= request.num_decode_tokens
        row.update(status="ok" if whole else "early_stop", completion_time_ns=times[-1])
    return row
