"""From the events of one replay to the rows of one run; whatever was heard is kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pytest_gpusim.runs.records import RequestRecord, asked_of, lateness
from pytest_gpusim.workload import Workload, WorkloadRequest


@dataclass
class _Progress:
    """What is known of one request; times in ns from the run's start."""

    arrival: int | None = None
    sent: int | None = None
    scheduled: int | None = None
    cached: int | None = None
    tokens: list[tuple[int, int]] = field(default_factory=list)  # time, token id
    finished: str | None = None
    error: tuple[str, str] | None = None


class ReplayRecord:
    """Collects a replay's events (see `pytest_gpusim.vllm_runtime.replay`).

    Attributes:
        ended: Whether the replay came to its end.
        cache_was_reset: Whether the prefix cache was empty when it began.
    """

    def __init__(self, workload: Workload) -> None:
        self.ended = False
        self.cache_was_reset = True
        self._workload = workload
        self._requests = workload.requests
        self._progress = {request.request_id: _Progress() for request in workload.requests}
        self._steps: list[dict[str, Any]] = []
        self._batches: list[dict[int, int]] = []
        self._lateness: list[tuple[int, int]] = []
        self._last_step_end = 0
        self._stepping_ns = 0
        self._computing_ns = 0

    def take(self, event: Mapping[str, Any]) -> None:
        """Take one event in."""
        kind = event["event"]
        if kind == "sent":
            for request_id, at, arrival in event["requests"]:
                self._sent(request_id, at, arrival)
        elif kind == "refused":
            self._sent(event["request"], event["sent"], event["arrival"])
            self._progress[event["request"]].error = (event["type"], event["message"])
        elif kind == "step":
            self._step(event)
        elif kind == "cache kept":
            self.cache_was_reset = False
        elif kind == "ended":
            self.ended = True

    def fail_unfinished(self, error_type: str, message: str) -> None:
        """The replay broke off: what has no end gets this error."""
        for request in self._requests:
            progress = self._progress[request.request_id]
            if progress.finished is None and progress.error is None:
                progress.error = (error_type, message)

    def finished_count(self) -> int:
        """Requests that came to their end."""
        return sum(progress.finished is not None for progress in self._progress.values())

    def records(self) -> list[RequestRecord]:
        """What became of each request of the workload, in order of id."""
        return [self._record(request) for request in self._requests]

    def step_rows(self) -> list[dict[str, Any]]:
        """Rows of ``step_metrics.csv``."""
        return self._steps

    def step_batches(self) -> list[dict[int, int]]:
        """Per step, tokens by request id."""
        return self._batches

    def lateness(self) -> dict[str, Any]:
        """How late requests were sent, in ns.

        An engine that is stepped by hand cannot take a request during a step, and would not look
        at it before the next one either; so ``max_ns``, ``mean_ns`` and ``p99_ns`` count from the
        end of that step. ``max_since_arrival_ns`` counts from the arrival.
        """
        return lateness([own for own, _ in self._lateness], [since for _, since in self._lateness])

    def interference(self) -> dict[str, Any]:
        """How much of the steps' time the engine's process did not compute.

        On a CPU with one thread that is time in which others held its core.
        """
        if not self._stepping_ns:
            return {"not_computing": None}
        return {"not_computing": round(1 - self._computing_ns / self._stepping_ns, 4)}

    def _sent(self, request_id: int, at: int, arrival: int) -> None:
        self._progress[request_id].sent = at
        self._progress[request_id].arrival = arrival
        self._lateness.append((max(0, at - max(arrival, self._last_step_end)), at - arrival))

    def _step(self, event: Mapping[str, Any]) -> None:
        start, end = event["at"]
        self._stepping_ns += end - start
        self._computing_ns += event["cpu_ns"]
        for step in event["steps"]:
            decodes = sum(is_decode for *_, is_decode in step["batch"])
            tokens = {int(entry[0]): int(entry[1]) for entry in step["batch"]}
            running, waiting, blocks, preempted = step["state"]
            self._steps.append(
                {
                    "step": len(self._steps),
                    "start_ns": start,
                    "duration_ns": end - start,
                    "num_prefill_tokens": sum(tokens.values()) - decodes,
                    "num_decode_tokens": decodes,
                    "num_sequences": len(tokens),
                    "running": running,
                    "waiting": waiting,
                    "kv_blocks_used": blocks,
                    "preempted": preempted,
                }
            )
            self._batches.append(tokens)
            for request_id, cached in step["admitted"]:
                progress = self._progress[request_id]
                if progress.scheduled is None:
                    progress.scheduled, progress.cached = step["planned"], cached
        for request_id, ids in event["tokens"]:
            self._progress[request_id].tokens += [(end, token) for token in ids]
        for request_id, reason in event["finished"]:
            self._progress[request_id].finished = reason
        self._last_step_end = end

    def _record(self, request: WorkloadRequest) -> RequestRecord:
        progress = self._progress[request.request_id]
        error = progress.error
        if error is None and progress.finished not in ("length", "stop"):
            error = ("Aborted", f"the engine ended it: {progress.finished}")
        if error is None and not progress.tokens:
            error = ("NoTokens", "the engine finished it without a token")
        return RequestRecord(
            request_id=request.request_id,
            arrival_ns=request.arrival_time_ns if progress.arrival is None else progress.arrival,
            sent_ns=progress.sent,
            scheduled_ns=progress.scheduled,
            num_prefill_tokens=request.num_prefill_tokens,
            num_cached_tokens=progress.cached,
            num_decode_tokens=request.num_decode_tokens,
            token_times_ns=[time for time, _ in progress.tokens],
            token_ids=[token for _, token in progress.tokens],
            error_type=error[0] if error else None,
            error_msg=error[1] if error else None,
            **asked_of(self._workload, request),
        )
