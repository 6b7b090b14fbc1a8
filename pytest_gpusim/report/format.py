"""Numbers and names as a reader sees them; the same in terminal, Markdown and HTML."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

LABELS = {
    "ttft": "TTFT",
    "tpot": "TPOT",
    "itl": "ITL",
    "e2e": "E2E",
    "normalized_e2e": "normalized E2E",
    "queue_delay": "queue delay",
    "makespan": "makespan",
}
UNKNOWN = "n/a"


def milliseconds(nanoseconds: float | None) -> str:
    """A time in ms, or in s from 10 s on, with about four digits that mean something."""
    if nanoseconds is None:
        return UNKNOWN
    value = nanoseconds / 1e6
    if abs(value) >= 10_000:
        return f"{value / 1e3:,.2f} s"
    digits = 3 if abs(value) < 10 else 2 if abs(value) < 100 else 1 if abs(value) < 1000 else 0
    return f"{value:,.{digits}f} ms"


def signed_percent(ratio: float | None) -> str:
    """An error, with its sign."""
    return UNKNOWN if ratio is None else f"{ratio:+.1%}"


def percent(ratio: float | None) -> str:
    """A tolerance or the noise."""
    return UNKNOWN if ratio is None else f"{ratio:.1%}"


def figures(metrics: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any] | None]]:
    """(metric, statistic, figure) of every figure; one row with None for an unavailable metric."""
    for metric, table in metrics.items():
        if table is None or metric == "makespan":
            yield metric, "", table
        else:
            for statistic, figure in table.items():
                yield metric, statistic, figure
