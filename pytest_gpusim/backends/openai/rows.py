"""From the answers of one replay to the records of one run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pytest_gpusim.backends.openai.replay import Replay
from pytest_gpusim.runs.records import RequestRecord, asked_of, lateness
from pytest_gpusim.workload import Workload, WorkloadRequest


def records(workload: Workload, replay: Replay) -> list[RequestRecord]:
    """What became of each request of the workload, in order of id."""
    return [_record(workload, request, replay) for request in workload.requests]


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


def sending(records: Sequence[RequestRecord], replay: Replay) -> dict[str, Any]:
    """How late requests were sent, by this process's own fault and after their arrival."""
    sent = {record.request_id: record.sent_ns or 0 for record in records}
    return lateness(
        [sent[number] - replay.could_send_ns[number] for number in sent],
        [sent[record.request_id] - record.arrival_ns for record in records],
    )


def _record(workload: Workload, request: WorkloadRequest, replay: Replay) -> RequestRecord:
    answer = replay.answers[request.request_id]
    times = [time - replay.origin_ns for time in answer.token_times_ns]
    arrival = request.arrival_time_ns
    if not workload.is_open_loop:
        arrival = replay.could_send_ns[request.request_id]
    return RequestRecord(
        request_id=request.request_id,
        arrival_ns=arrival,
        sent_ns=answer.sent_ns - replay.origin_ns,
        # What was prefilled: where it is not what was asked, the workload is another one.
        num_prefill_tokens=answer.prompt_tokens or request.num_prefill_tokens,
        num_cached_tokens=answer.cached_tokens,
        num_decode_tokens=request.num_decode_tokens,
        num_decode_tokens_actual=answer.num_tokens if times else None,
        token_times_ns=times,
        error_type=answer.error[0] if answer.error else None,
        error_msg=answer.error[1] if answer.error else None,
        engine=answer.engine,
        **asked_of(workload, request),
    )
