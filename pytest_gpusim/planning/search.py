"""Along which loads a capacity is searched: request rates, or clients of a closed loop."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field

_LOWEST = 2.0**-10
CURVE = (0.25, 0.5, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5)
"""Loads of the curve, relative to the capacity."""


@dataclass
class Bounds:
    """What is known of one seed's capacity: between ``low``, which holds, and ``high``.

    Attributes:
        low: The highest load that held; 0 before one did, infinite where the most that there can be
            did.
        high: The lowest load that broke a limit; infinite before one did.
    """

    low: float = 0.0
    high: float = math.inf

    def learn(self, load: float, *, holds: bool) -> None:
        """Take in what a simulation showed."""
        if holds:
            self.low = load
        else:
            self.high = load


class Axis(ABC):
    """A kind of load.

    Attributes:
        name: Of its values, in tables and documents.
        unit: Of its values.
        everything: The most that there can be: all requests are there at once.
        least: The least that there can be.
        precision: Relative width at which a bisection ends.
    """

    name: str
    unit: str
    everything: float
    least: float
    precision: float

    @abstractmethod
    def first_bounds(self, served: float, *, holds: bool) -> Bounds:
        """What ``everything`` showed: requests served per second, and whether the limits held."""

    @abstractmethod
    def next(self, bounds: Bounds) -> float | None:
        """The load to try next; None where the bounds are close enough."""

    @abstractmethod
    def capacity(self, bounds: Bounds) -> float:
        """What closed bounds come to."""

    @abstractmethod
    def curve(self, capacity: float) -> list[float]:
        """Loads around a capacity, ascending."""

    @abstractmethod
    def beyond(self) -> str:
        """What is said where the limits hold at ``everything``."""


@dataclass
class Rates(Axis):
    """Requests per second, bisected by their logarithm from what the engine serves at most."""

    precision: float
    name: str = field(default="rate", init=False)
    unit: str = field(default="requests/s", init=False)
    everything: float = field(default=1e6, init=False)
    least: float = field(default=0.0, init=False)
    _lowest: float = field(default=math.inf, init=False)

    def first_bounds(self, served: float, *, holds: bool) -> Bounds:
        """See `Axis`."""
        self._lowest = min(self._lowest, served * _LOWEST)
        # Not known to break: what comes at once is no rate. It is where the search begins.
        return Bounds(math.inf, math.inf) if holds else _From(0.0, math.inf, served)

    def next(self, bounds: Bounds) -> float | None:
        """See `Axis`."""
        low, high = bounds.low, bounds.high
        if math.isinf(low) or high <= self._lowest:
            return None
        if low and math.isfinite(high):
            return _rounded(math.sqrt(low * high)) if high / low > 1 + self.precision else None
        if low:
            return _rounded(low * 2)
        start = bounds.start if isinstance(bounds, _From) else 1.0
        return _rounded(high / 2 if math.isfinite(high) else start)

    def capacity(self, bounds: Bounds) -> float:
        """See `Axis`."""
        low = bounds.low
        return low if math.isinf(low) or not low else math.sqrt(low * bounds.high)

    def curve(self, capacity: float) -> list[float]:
        """See `Axis`."""
        return [_rounded(part * capacity) for part in CURVE]

    def beyond(self) -> str:
        """See `Axis`."""
        return "the limits hold with all requests at once; take more requests"


@dataclass
class _From(Bounds):
    start: float = 1.0


@dataclass
class Clients(Axis):
    """Clients that each send their next request when the last is answered: whole numbers, up to
    ``everything``.
    """

    everything: float
    precision: float
    name: str = field(default="clients", init=False)
    unit: str = field(default="clients", init=False)
    least: float = field(default=1.0, init=False)

    def first_bounds(self, served: float, *, holds: bool) -> Bounds:
        """See `Axis`."""
        return Bounds(math.inf, math.inf) if holds else Bounds(0.0, self.everything)

    def next(self, bounds: Bounds) -> float | None:
        """See `Axis`."""
        low, high = bounds.low, bounds.high
        if math.isinf(low) or high - low <= 1:
            return None
        if low and high / low <= 1 + self.precision:
            return None
        middle = math.isqrt(int(max(low, 1) * high))
        return float(min(max(middle, low + 1), high - 1))

    def capacity(self, bounds: Bounds) -> float:
        """See `Axis`."""
        return bounds.low

    def curve(self, capacity: float) -> list[float]:
        """See `Axis`."""
        return sorted({float(min(max(1, round(p * capacity)), self.everything)) for p in CURVE})

    def beyond(self) -> str:
        """See `Axis`."""
        return (
            f"the limits hold at all {self.everything:.0f} clients; take more (--max-clients), up "
            "to as many as there are requests"
        )


def _rounded(rate: float) -> float:
    """Four digits: rates that differ by less are the same simulation."""
    return float(f"{rate:.4g}")
