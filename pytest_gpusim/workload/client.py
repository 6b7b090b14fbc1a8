"""The client of a workload: which requests it sends, in which order, and when it may."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping, Sequence
from heapq import heappop, heappush
from itertools import count

from pytest_gpusim.workload.load import Load, SessionTurn, turns_followed
from pytest_gpusim.workload.trace import Workload, WorkloadRequest


class LoadClient:
    """Sends a workload's requests, in simulated or in real time.

    Call `take` for what is sent by now, and `done` for each request whose last token has arrived,
    in the order in which they arrive. First turns are due at their arrival, later ones a think time
    after the turn before. What is due is sent in order of that time; at one time first turns go
    first, in order of id, then later ones in the order in which the answers before them arrived. A
    limit makes requests wait in this order, as the semaphore of vLLM's benchmark client does
    (``limited_request_func`` in ``vllm/benchmarks/serve.py``).

    Attributes:
        arrival_ns: By request id, when each one taken so far could be sent: when it was due, or
            when the limit let it through.
    """

    def __init__(
        self,
        requests: Sequence[WorkloadRequest],
        load: Load,
        sessions: Mapping[int, SessionTurn],
        refused: Collection[int] = (),
    ) -> None:
        self.arrival_ns: dict[int, int] = {}
        follows = turns_followed(sessions)
        by_id = {request.request_id: request for request in requests} if follows else {}
        self._followers = {
            before: (by_id[request_id], sessions[request_id].think_time_ns)
            for request_id, before in follows.items()
        }
        self._arriving = [request for request in requests if request.request_id not in follows]
        self._place = 0  # in those
        self._later: list[tuple[int, int, WorkloadRequest]] = []  # a heap of turns that are due
        self._answers = count()
        self._refused = frozenset(refused)
        # When each free slot became free, the longest free first; None without a limit.
        self._free: deque[int] | None = None
        if load.max_concurrency is not None:
            self._free = deque([0] * min(load.max_concurrency, len(requests)))

    @classmethod
    def of(cls, workload: Workload) -> LoadClient:
        """The client of a workload as it is simulated: what the server refused is not sent."""
        return cls(workload.requests, workload.load, workload.sessions, workload.refused)

    def next_due(self) -> int | None:
        """When a request can be sent next; None while that takes an answer, or all are sent."""
        if self._free is not None and not self._free:
            return None
        due = self._earliest()
        if due is None or not self._free:
            return due
        return max(due, self._free[0])

    def take(self, now_ns: int) -> list[WorkloadRequest]:
        """The requests that can be sent by ``now_ns`` and were not yet taken, in order."""
        taken: list[WorkloadRequest] = []
        free = self._free
        while free is None or free:
            due = self._earliest()
            if due is None or due > now_ns:
                break
            if self._later and self._later[0][0] == due and not self._first_turn_due_at(due):
                request = heappop(self._later)[2]
            else:
                request = self._arriving[self._place]
                self._place += 1
            sent = due if free is None else max(due, free.popleft())
            self.arrival_ns[request.request_id] = sent
            if request.request_id in self._refused:
                self.done(request.request_id, sent)
            else:
                taken.append(request)
        return taken

    def done(self, request_id: int, now_ns: int) -> None:
        """The last token of a request arrived, or the word that it failed."""
        if self._free is not None:
            self._free.append(now_ns)
        follower = self._followers.get(request_id)
        if follower is not None:
            request, think_ns = follower
            heappush(self._later, (now_ns + think_ns, next(self._answers), request))

    def _earliest(self) -> int | None:
        arrival = None
        if self._place < len(self._arriving):
            arrival = self._arriving[self._place].arrival_time_ns
        if self._later and (arrival is None or self._later[0][0] < arrival):
            return self._later[0][0]
        return arrival

    def _first_turn_due_at(self, due: int) -> bool:
        arriving, place = self._arriving, self._place
        return place < len(arriving) and arriving[place].arrival_time_ns == due
