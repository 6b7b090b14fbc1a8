"""A client that waits for answers, in Vidur's own event queue.

Vidur puts all arrivals into its queue before it starts. Under a concurrency limit, and in
conversations, they depend on what ends when; so the client's events are added as it goes.
"""

from __future__ import annotations

from typing import Any

from vidur.events.base_event import BaseEvent
from vidur.events.global_schedule_event import GlobalScheduleEvent
from vidur.simulator import Simulator
from vidur.types import EventType

from pytest_gpusim.simulators.vidur.clock import to_ns, to_seconds
from pytest_gpusim.simulators.vidur.entities import ReplayedRequest
from pytest_gpusim.simulators.vidur.session import Session

# Vidur orders events of one instant by their numbers, which count up from 1.
_FIRST, _SECOND = -1, 0


class ClientSimulator(Simulator):
    """Vidur's simulator with a client that sees its answers."""

    def __init__(self, config: Any, session: Session) -> None:
        self._session = session
        self._wakes_at: int | None = None  # ns of the client's next event
        super().__init__(config)

    def _init_event_queue(self) -> None:
        self._wake()

    def _add_events(self, events: list[BaseEvent]) -> None:
        super()._add_events(events)
        self._wake()

    def _wake(self) -> None:
        """See to it that the client looks up when it can send the next request."""
        now = to_ns(self._time)
        if self._wakes_at is not None and self._wakes_at <= now:
            self._wakes_at = None
        due = self._session.engine.client.next_due()
        if due is not None and (self._wakes_at is None or due < self._wakes_at):
            self._wakes_at = max(due, now)
            self._add_event(ClientEvent(to_seconds(self._wakes_at), self._session))


class ClientEvent(BaseEvent):
    """The client sends what it can: before the engine plans the next step at that instant."""

    def __init__(self, time: float, session: Session) -> None:
        super().__init__(time, EventType.REQUEST_ARRIVAL)
        self._session = session

    def handle_event(self, scheduler: Any, metrics_store: Any) -> list[BaseEvent]:
        """Hand the requests over, as `RequestArrivalEvent` does."""
        client = self._session.engine.client
        sent = [
            ReplayedRequest(source, client.arrival_ns[source.request_id])
            for source in client.take(to_ns(self.time))
        ]
        for request in sent:
            scheduler.add_request(request)
            metrics_store.on_request_arrival(self.time, request)
        self._session.requests += sent
        return [_ScheduleFirst(self.time)] if sent else []

    def _get_priority_number(self) -> tuple[float, int, Any]:
        return self._time, _FIRST, self._event_type


class _ScheduleFirst(GlobalScheduleEvent):
    def _get_priority_number(self) -> tuple[float, int, Any]:
        return self._time, _SECOND, self._event_type
