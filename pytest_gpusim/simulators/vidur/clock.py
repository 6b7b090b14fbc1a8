"""Vidur's clock is a float of seconds; ours counts whole ns. Here they agree exactly.

A time is given to Vidur as a multiple of 2**-32 s, a quarter of a ns. Sums and differences of such
floats are exact up to 24 days. With seconds as they come, rounding would decide whether a request
that arrives as a step ends is in time for the next one.
"""

from __future__ import annotations

_TICKS = 1 << 32
_NS = 1_000_000_000


def to_seconds(time_ns: int) -> float:
    """Vidur's time for ours, right to an eighth of a ns; different ns give different floats."""
    return ((time_ns * _TICKS + _NS // 2) // _NS) / _TICKS


def to_ns(seconds: float) -> int:
    """The ns that `to_seconds` made ``seconds`` of; the nearest for any other float."""
    return round(seconds * _NS)


def exact_span(start_ns: int, end_ns: int) -> float:
    """Seconds that lead from ``to_seconds(start_ns)`` to exactly ``to_seconds(end_ns)``."""
    return to_seconds(end_ns) - to_seconds(start_ns)
