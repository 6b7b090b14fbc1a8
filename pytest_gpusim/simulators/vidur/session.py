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
from pytest_gpusim.registry import SimulationInputs
from pytest_gpusim.simulators.engine import ServingEngine

_numbers = count(1)
_open: dict[int, Session] = {}


@dataclass
class Session:
    """One simulation.

    Attributes:
        number: Its key in Vidur's configurations.
        inputs: What is simulated.
        engine: The scheduler, step-time model and record of steps.
        scratch: A directory that goes when the simulation ends.
        batches: Batches of Vidur's own scheduler, where that one is used.
        requests: Vidur's requests.
    """

    number: int
    inputs: SimulationInputs
    engine: ServingEngine
    scratch: Path
    batches: list[Any] = field(default_factory=list)
    requests: list[Any] = field(default_factory=list)


@contextmanager
def open_session(
    inputs: SimulationInputs, engine: ServingEngine, scratch: Path
) -> Iterator[Session]:
    """A session that Vidur's classes can find while the block runs."""
    session = Session(next(_numbers), inputs, engine, scratch)
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
