"""Vidur's requests, batches and stages, with exact times.

`EngineBatch` and `EngineStage` leave Vidur's per-request bookkeeping empty, since the serving
engine keeps the books: so a step costs per step, not per token.
"""

from __future__ import annotations

from array import array
from typing import Any

from vidur.entities import Batch, BatchStage, Request

from pytest_gpusim.serving.steptime import StepFeatures, StepTime
from pytest_gpusim.simulators.engine import TimedStep
from pytest_gpusim.simulators.vidur.clock import exact_span, to_ns, to_seconds
from pytest_gpusim.workload import WorkloadRequest


class ReplayedRequest(Request):
    """A request of a workload, that notes its token times and survives a preemption.

    Vidur's own forgets to reset the tokens of its stage, and takes what was prefilled so far for
    the whole prompt.
    """

    def __init__(self, source: WorkloadRequest, arrival_ns: int) -> None:
        super().__init__(
            to_seconds(arrival_ns), source.num_prefill_tokens, source.num_decode_tokens
        )
        self.source = source
        self.token_ns = array("q")
        self.scheduled_ns: int | None = None

    def on_batch_schedule(self, time: float) -> None:
        """Note when it was first scheduled."""
        super().on_batch_schedule(time)
        if self.scheduled_ns is None:
            self.scheduled_ns = to_ns(time)

    def on_batch_end(self, time: float, num_tokens_processed: int) -> None:
        """Note a token: every batch that ends with the prefill complete brings one."""
        super().on_batch_end(time, num_tokens_processed)
        if self._is_prefill_complete:
            self.token_ns.append(to_ns(time))

    def restart(self) -> None:
        """Lose all computation, and keep what was generated as part of the prompt."""
        unfinished_prompt = None if self._is_prefill_complete else self.size
        super().restart()
        if unfinished_prompt is not None:
            self._num_prefill_tokens, self._num_decode_tokens = unfinished_prompt
        self._num_stage_processed_tokens = 0
        self._is_prefill_stage_complete = False


class TimedBatch(Batch):
    """A batch whose time in whole ns is set by the predictor, before its stage is made."""

    start_ns: int
    duration_ns: int | None = None

    @property
    def end_ns(self) -> int:
        """When it ends; known once its stage is made."""
        assert self.duration_ns is not None
        return self.start_ns + self.duration_ns

    def settle_duration(self, execution_time: Any) -> float:
        """The stage's seconds: exact, and Vidur's own figure where no other was set."""
        if self.duration_ns is None:
            self.duration_ns = max(1, to_ns(execution_time.total_time))
        return exact_span(self.start_ns, self.end_ns)


class EngineBatch(TimedBatch):
    """A step that the serving engine planned."""

    def __init__(self, replica_id: Any, timed: TimedStep, start_ns: int) -> None:
        # Not super().__init__: it sums over all requests.
        self._id = Batch.generate_id()
        self._replica_id = replica_id
        self._requests: list[Request] = []
        self._num_q_tokens: list[int] = []
        self._num_kv_tokens: list[int] = []
        self._num_active_kvp_groups = None
        self._last_kvp_group_ids = None
        self._kvp_group_id = 0
        step = timed.step
        self._total_num_q_tokens = step.num_tokens
        self._total_num_q_tokens_rounded = (step.num_tokens + 7) // 8 * 8
        self._num_prefill_tokens = step.num_prefill_tokens
        self._scheduled = self._completed = False
        self._scheduled_at: float | None = None
        self._completed_at: float | None = None
        self.timed = timed
        self.start_ns = start_ns
        for tokens, context in timed.spans or ():
            self._num_q_tokens.append(tokens)
            self._num_kv_tokens.append(context + tokens)

    @property
    def features(self) -> StepFeatures:
        """What its time depends on."""
        return self.timed.features

    def on_schedule(self, time: float) -> None:
        """Note the time."""
        self._scheduled_at, self._scheduled = time, True

    def on_batch_end(self, time: float) -> None:
        """Note the time."""
        self._completed_at, self._completed = time, True

    def to_batch_stage(self, stage_id: int, execution_time: Any) -> EngineStage:
        """The batch's only stage."""
        return EngineStage(self, stage_id, execution_time, self.settle_duration(execution_time))


class EngineStage(BatchStage):
    """The stage of an `EngineBatch`."""

    def __init__(
        self, batch: EngineBatch, stage_id: int, execution_time: Any, seconds: float
    ) -> None:
        self._id = BatchStage.generate_id()
        self._requests = batch._requests
        self._num_q_tokens, self._num_kv_tokens = batch._num_q_tokens, batch._num_kv_tokens
        self._batch_id, self._replica_id = batch.id, batch.replica_id
        self._pipeline_stage, self._kvp_group_id = stage_id, 0
        self._execution_time = execution_time
        self._total_execution_time = self._model_execution_time = seconds
        self._scheduled = False
        self._scheduled_at: float | None = None
        self._completed_at: float | None = None

    def on_schedule(self, time: float) -> None:
        """Note the time."""
        self._scheduled_at, self._scheduled = time, True

    def on_stage_end(self, time: float) -> None:
        """Note the time."""
        self._completed_at = time


class SarathiBatch(TimedBatch):
    """A batch of Vidur's own scheduler, with Vidur's own bookkeeping."""

    def __init__(self, batch: Batch, start_ns: int, num_allocated_blocks: int, queued: int) -> None:
        super().__init__(batch.replica_id, batch.requests, batch.num_q_tokens, batch.num_kv_tokens)
        self.start_ns = start_ns
        self.num_allocated_blocks = num_allocated_blocks
        self.num_waiting = queued
        self.tokens = dict(
            zip((r.source.request_id for r in batch.requests), batch.num_q_tokens, strict=True)
        )
        self.features = features_of(batch)
        self.time: StepTime | None = None

    def to_batch_stage(self, stage_id: int, execution_time: Any) -> BatchStage:
        """The batch's only stage, with the exact time."""
        stage = super().to_batch_stage(stage_id, execution_time)
        stage._total_execution_time = self.settle_duration(execution_time)
        return stage


def features_of(batch: Batch) -> StepFeatures:
    """What the time of a batch of Vidur's own depends on."""
    chunks, contexts = [], []
    for request, tokens in zip(batch.requests, batch.num_q_tokens, strict=True):
        if request.is_prefill_complete:
            # Vidur counts the newest token as processed when it is emitted, not when computed.
            contexts.append(request.num_processed_tokens - 1)
        else:
            chunks.append((tokens, request.num_processed_tokens))
    return StepFeatures(
        chunks,
        len(contexts),
        sum(contexts),
        len(batch.requests),
        min(contexts, default=0),
        max(contexts, default=0),
    )
