"""A workload's client with a front end between it and the engine."""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heappop, heappush
from itertools import count

from pytest_gpusim.serving.frontend import Frontend
from pytest_gpusim.workload import Workload, WorkloadRequest
from pytest_gpusim.workload.client import LoadClient


class FrontendClient:
    """What the engine sees of a `LoadClient`: requests an ingress later than they were sent.

    And the client sees an answer an egress after the step that ended it. Called as `LoadClient` is.
    """

    def __init__(self, workload: Workload, frontend: Frontend) -> None:
        self._client = LoadClient.of(workload)
        self._frontend = frontend
        self._prompts = {each.request_id: each.num_prefill_tokens for each in workload.requests}
        self._waits_for_answers = not workload.is_open_loop
        self._numbers = count()
        self._coming: list[tuple[int, int, WorkloadRequest]] = []
        self._answers: list[tuple[int, int, int]] = []

    @property
    def arrival_ns(self) -> dict[int, int]:
        """By request id, when the client could send each one."""
        return self._client.arrival_ns

    def next_due(self) -> int | None:
        """When something happens next on the way from or to the client; None: nothing will."""
        times = [heap[0][0] for heap in (self._coming, self._answers) if heap]
        due = self._client.next_due()
        return min(times if due is None else [*times, due], default=None)

    def take(self, now_ns: int) -> list[WorkloadRequest]:
        """The requests that reach the engine by ``now_ns`` and were not yet taken, in order."""
        while self._answers and self._answers[0][0] <= now_ns:
            time, _, request_id = heappop(self._answers)
            self._send(self._client.take(time - 1))
            self._client.done(request_id, time)
        self._send(self._client.take(now_ns))
        taken = []
        while self._coming and self._coming[0][0] <= now_ns:
            taken.append(heappop(self._coming)[2])
        return taken

    def done(self, request_id: int, now_ns: int) -> None:
        """The step that made the last token of a request ended."""
        if self._waits_for_answers:
            time = now_ns + self._frontend.egress_ns(self._prompts[request_id])
            heappush(self._answers, (time, next(self._numbers), request_id))

    def _send(self, requests: Iterable[WorkloadRequest]) -> None:
        for request in requests:
            time = self.arrival_ns[request.request_id]
            time += self._frontend.ingress_ns(request.num_prefill_tokens)
            heappush(self._coming, (time, next(self._numbers), request))
