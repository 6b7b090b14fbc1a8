"""What a simulation hands to the classes that Vidur instantiates.

Vidur's configurations hold JSON values only, so they carry a session's number.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from pytest_gpusim.errors import EngineError
from pytest_gpusim.providers import SimulationInputs
from pytest_gpusim.simulators.engine import ServingEngine
from pytest_gpusim.simulators.fleet import Fleet

_numbers = count(1)
_open: dict[int, Session] = {}


@dataclass
class Session:
    """One simulation.

    Attributes:
        number: Its key in Vidur's configurations.
        inputs: What is simulated.
        fleet: Schedulers, step-time model and record of steps, by replica.
        scratch: A directory that goes when the simulation ends.
        batches: Batches of Vidur's own scheduler, where that one is used.
        requests: Vidur's requests.
    """

    number: int
    inputs: SimulationInputs
    fleet: Fleet
    scratch: Path
    batches: list[Any] = field(default_factory=list)
    requests: list[Any] = field(default_factory=list)
    _given: int = 0

    @property
    def engine(self) -> ServingEngine:
        """One of the engines, which share model, client and front end."""
        return self.fleet.engines[0]

    def next_engine(self) -> ServingEngine:
        """The engine of the next replica that Vidur makes."""
        self._given += 1
        return self.fleet.engines[self._given - 1]


@contextmanager
def open_session(inputs: SimulationInputs, fleet: Fleet, scratch: Path) -> Iterator[Session]:
    """A session that Vidur's classes can find while the block runs."""
    session = Session(next(_numbers), inputs, fleet, scratch)
    _open[session.number] = session
    try:
        yield session
    finally:
        del _open[session.number]


def session_of(number: int) -> Session:
    """The session that a configuration names."""
    if number not in _open:
        raise EngineError(
            "this part of Vidur's configuration belongs to 'gpusim simulate --simulator vidur', "
            "and cannot be chosen on Vidur's own command line"
        )
    return _open[number]
