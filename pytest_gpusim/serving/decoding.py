"""The requests that decode, moved on by a clock: a step costs by what changes in it."""

from __future__ import annotations

from operator import attrgetter

from pytest_gpusim.serving.request import Request, RequestState

_DECODE = RequestState.DECODE
_SEAT = attrgetter("seat")


class Decoding:
    """Running requests of which each step computes one token.

    The clock is the index of the step being planned. A request's computed tokens are its
    ``offset`` plus the clock, so a step moves all of them without touching any. Each is noted for
    the step in which it next needs attention: a KV block is full, or its last token is due.
    """

    def __init__(self, block_size: int) -> None:
        self._block_size = block_size
        self._members: set[Request] = set()
        self._noted: dict[int, list[Request]] = {}
        self._offset_sum = 0
        self._offset_max: int | None = None  # None: to be found again

    def __len__(self) -> int:
        return len(self._members)

    def start(self, request: Request, clock: int) -> None:
        """Let a request whose known tokens are all computed decode from step ``clock`` on."""
        request.state = _DECODE
        request.offset = request.target - clock
        self._members.add(request)
        self._offset_sum += request.offset
        if self._offset_max is not None:
            self._offset_max = max(self._offset_max, request.offset)
        self.note(request, clock)

    def leave(self, request: Request) -> None:
        """Take a request out: its last token is planned, or it was preempted."""
        self._members.remove(request)
        self._offset_sum -= request.offset
        if request.offset == self._offset_max:
            self._offset_max = None

    def note(self, request: Request, clock: int) -> None:
        """Note the first step from ``clock`` on in which a request needs attention."""
        # Where the output's content is known, every step may fill a block that others find.
        if not request.keys_continue:
            due = len(request.blocks) * self._block_size
            if due >= request.last_computed:
                due = request.last_computed - 1
            due -= request.offset
            if due > clock:
                clock = due
        request.due = clock
        noted = self._noted.get(clock)
        if noted is None:
            self._noted[clock] = [request]
        else:
            noted.append(request)

    def take_due(self, clock: int) -> list[Request]:
        """The requests noted for step ``clock``, in the order of their seats."""
        noted = self._noted.pop(clock, None)
        if noted is None:
            return []
        # A preempted request's note is stale, and may lie beside a new one.
        due = [request for request in noted if request.state is _DECODE and request.due == clock]
        due.sort(key=_SEAT)
        return due

    def contexts(self, clock: int) -> tuple[int, int, int]:
        """How many decode in step ``clock``, and the sum and the largest of their contexts."""
        num = len(self._members)
        if not num:
            return 0, 0, 0
        if self._offset_max is None:
            self._offset_max = max(request.offset for request in self._members)
        return num, self._offset_sum + num * clock, self._offset_max + clock
