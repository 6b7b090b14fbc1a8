"""Vidur's clock is a float of seconds; ours counts whole ns. They agree exactly up to 26 days."""

from __future__ import annotations

import math

_NS = 1e9


def to_seconds(time_ns: int) -> float:
    """Vidur's time for ours; different ns give different floats."""
    return time_ns / _NS


def to_ns(seconds: float) -> int:
    """The ns that `to_seconds` made ``seconds`` of."""
    return round(seconds * _NS)


def exact_span(start_ns: int, end_ns: int) -> float:
    """Seconds that lead from ``to_seconds(start_ns)`` to exactly ``to_seconds(end_ns)``.

    Vidur adds a step's time to its start: without this, rounding would decide whether a request
    that arrives as a step ends is in time for the next one.
    """
    start, end = to_seconds(start_ns), to_seconds(end_ns)
    span = end - start
    while start + span < end:
        span = math.nextafter(span, math.inf)
    while start + span > end:
        span = math.nextafter(span, -math.inf)
    return span
