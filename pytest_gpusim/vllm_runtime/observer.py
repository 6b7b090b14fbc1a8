"""vLLM's own schedulers, watched: what each step held, and when it was planned and done."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import perf_counter_ns
from typing import Any, NamedTuple


class Scheduled(NamedTuple):
    """One request in one step. ``context`` is what the KV cache held of it before the step."""

    request_id: str
    num_tokens: int
    context: int
    is_decode: bool


@dataclass(slots=True)
class PlannedStep:
    """A step as scheduled; request ids are the engine's internal ones."""

    planned_ns: int
    batch: list[Scheduled]
    admitted: dict[str, int]  # with the tokens found in the prefix cache
    preempted: int
    running: int
    waiting: int
    blocks_used: int


@dataclass
class Watch:
    """Steps in flight and steps done, in order; the driver takes the done ones away."""

    in_flight: dict[int, PlannedStep] = field(default_factory=dict)
    done: list[PlannedStep] = field(default_factory=list)


def watched_scheduler(asynchronous: bool) -> type[Any]:
    """A subclass of the scheduler that vLLM would use; its instances have a `Watch`, ``watch``."""
    from vllm.v1.core.sched.async_scheduler import AsyncScheduler
    from vllm.v1.core.sched.scheduler import Scheduler

    base: Any = AsyncScheduler if asynchronous else Scheduler

    class Watched(base):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.watch = Watch()

        def schedule(self, *args: Any, **kwargs: Any) -> Any:
            planned_ns = perf_counter_ns()
            output = super().schedule(*args, **kwargs)
            if output.num_scheduled_tokens:
                self.watch.in_flight[id(output)] = _planned(self, output, planned_ns)
            return output

        def update_from_output(self, scheduler_output: Any, *args: Any, **kwargs: Any) -> Any:
            result = super().update_from_output(scheduler_output, *args, **kwargs)
            step = self.watch.in_flight.pop(id(scheduler_output), None)
            if step is not None:
                self.watch.done.append(step)
            return result

    Watched.__name__ = f"Watched{base.__name__}"
    return Watched


def _planned(scheduler: Any, output: Any, planned_ns: int) -> PlannedStep:
    batch = []
    for request_id, tokens in output.num_scheduled_tokens.items():
        request = scheduler.requests[request_id]
        # schedule() has already counted this step's tokens as computed.
        context = request.num_computed_tokens - tokens
        is_decode = tokens == 1 and context >= request.num_prompt_tokens
        batch.append(Scheduled(request_id, tokens, context, is_decode))
    pool = scheduler.kv_cache_manager.block_pool
    return PlannedStep(
        planned_ns,
        batch,
        {new.req_id: new.num_computed_tokens for new in output.scheduled_new_reqs},
        len(output.preempted_req_ids or ()),
        len(scheduler.running),
        len(scheduler.waiting) + len(getattr(scheduler, "skipped_waiting", ())),
        pool.num_gpu_blocks - 1 - pool.get_num_free_blocks(),
    )
