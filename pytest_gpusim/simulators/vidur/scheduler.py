"""Vidur's replica and global schedulers and its source of requests."""

from __future__ import annotations

from typing import Any

from vidur.entities import Batch, Request
from vidur.request_generator.base_request_generator import BaseRequestGenerator
from vidur.scheduler import BaseGlobalScheduler
from vidur.scheduler.global_scheduler.lor_global_scheduler import LORGlobalScheduler
from vidur.scheduler.global_scheduler.round_robin_global_scheduler import RoundRobinGlobalScheduler
from vidur.scheduler.replica_scheduler.base_replica_scheduler import BaseReplicaScheduler
from vidur.scheduler.replica_scheduler.sarathi_replica_scheduler import SarathiReplicaScheduler

from pytest_gpusim.simulators.fleet import Router
from pytest_gpusim.simulators.vidur.clock import to_ns
from pytest_gpusim.simulators.vidur.entities import (
    EngineBatch,
    ReplayedRequest,
    SarathiBatch,
)
from pytest_gpusim.simulators.vidur.session import session_of
from pytest_gpusim.workload import Workload, read_workload


class WorkloadGenerator(BaseRequestGenerator):
    """Replays the open loop of a session, or that of a workload directory."""

    def generate_requests(self) -> list[Request]:
        """Vidur's requests, in order of arrival.

        Raises:
            UsageError: The directory's workload is no open loop.
        """
        if not self.config.session:
            workload = read_workload(self.config.directory)
            workload.require_open_loop("Vidur's own main")
            return _requests_of(workload)
        session = session_of(self.config.session)
        session.requests = _requests_of(session.inputs.workload)
        return session.requests


def _requests_of(workload: Workload) -> list[Request]:
    return [
        ReplayedRequest(request, request.arrival_time_ns)
        for request in workload.requests
        if request.request_id not in workload.refused
    ]


class VllmReplicaScheduler(BaseReplicaScheduler):
    """Lets the session's serving engine plan."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._engine = session_of(self._config.session).next_engine()

    def add_request(self, request: ReplayedRequest) -> None:
        """A request arrived."""
        self._engine.arrive(request.source)

    def _get_next_batch(self, time: float) -> EngineBatch | None:
        now = to_ns(time)
        timed = self._engine.next_step(now)
        if timed is None:
            return None
        return EngineBatch(self._replica_id, timed, now)

    def on_batch_end(self, batch: EngineBatch) -> None:
        """Deliver the batch's tokens."""
        super().on_batch_end(batch)
        self._engine.finish(batch.timed, batch.end_ns)

    def is_empty(self) -> bool:
        """Whether all that arrived is done."""
        return not self._engine.scheduler.num_unfinished

    @property
    def num_pending_requests(self) -> int:
        """What a router goes by: requests that run or wait."""
        return self._engine.scheduler.num_unfinished

    @property
    def memory_usage_percent(self) -> float:
        """KV blocks held."""
        blocks = self._engine.scheduler.blocks
        return 100 * blocks.num_used / (blocks.num_blocks - 1)


class ExactSarathiScheduler(SarathiReplicaScheduler):
    """Vidur's own scheduler; its batches get exact times."""

    def _get_next_batch(self, time: float) -> Batch | None:
        batch = super()._get_next_batch(time)
        if batch is None:
            return None
        return SarathiBatch(
            batch, to_ns(time), self._num_allocated_blocks, len(self._request_queue)
        )

    def on_batch_end(self, batch: SarathiBatch) -> None:
        """Remember the batch, and tell the client what is done."""
        super().on_batch_end(batch)
        session = session_of(self._config.session)
        session.batches.append(batch)
        for request in batch.requests:
            if request.completed:
                session.engine.client.done(request.source.request_id, batch.end_ns)


class SingleReplicaScheduler(BaseGlobalScheduler):
    """Uses the replica's real id: Vidur's own take 0, which is right once in a process."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        (self._only,) = self._replica_schedulers.values()

    def get_replica_scheduler(self, replica_id: Any) -> BaseReplicaScheduler:
        """The only one; asked for several times a step, so without hashing the id."""
        return self._only

    def get_replica_stage_scheduler(self, replica_id: Any, stage_id: int) -> Any:
        """A stage of the only replica."""
        return self._only.get_replica_stage_scheduler(stage_id)

    def schedule(self) -> list[tuple[Any, Request]]:
        """All queued requests, to the only replica."""
        replica_id = next(iter(self._replicas))
        batch = [(replica_id, request) for request in self._request_queue]
        self._request_queue.clear()
        return batch


class _RealIds:
    """Vidur's own routers take bare indices for ids, which is right once in a process."""

    _replicas: dict[Any, Any]

    def schedule(self) -> list[tuple[Any, Request]]:
        """What Vidur's router decides, under the replicas' real ids."""
        ids = list(self._replicas)
        return [(ids[place.id], request) for place, request in super().schedule()]  # type: ignore[misc]


class RoundRobinRouter(_RealIds, RoundRobinGlobalScheduler):
    """Vidur's own ``round_robin``."""


class LeastOutstandingRouter(LORGlobalScheduler):
    """Vidur's own ``lor``; it already goes by real ids."""


class RandomRouter(BaseGlobalScheduler):
    """As Vidur's own ``random``, which draws from a stream that has no seed."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._router = Router("random", len(self._replicas))

    def schedule(self) -> list[tuple[Any, Request]]:
        """Each queued request to a replica by chance."""
        self.sort_requests()
        ids = list(self._replicas)
        batch = [(ids[self._router.choose(())], request) for request in self._request_queue]
        self._request_queue.clear()
        return batch
