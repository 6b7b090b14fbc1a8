"""Numbers and names as a reader sees them; the same in terminal, Markdown and HTML."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pytest_gpusim.compare.metrics import METRICS, WHOLE

LABELS = {name: metric.label for name, metric in METRICS.items()}
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


def quantity(value: float | None, unit: str) -> str:
    """A figure in its unit."""
    if value is None:
        return UNKNOWN
    if unit == "ns":
        return milliseconds(value)
    if unit in ("share", "ratio"):
        return f"{value:.3g}" if unit == "ratio" else f"{value:.1%}"
    return f"{value:,.4g} {unit}"


def interval(ends: Sequence[float] | None) -> str:
    """Where an error lies."""
    return UNKNOWN if ends is None else f"[{ends[0]:+.1%}, {ends[1]:+.1%}]"


def runs_needed(judgement: Mapping[str, Any]) -> str:
    """How many real runs there are, and how many are needed: ``3 (5 needed)``."""
    needed = judgement["runs_needed"]
    if needed is None and judgement["run_sd"] is None:
        return str(judgement["num_runs"])
    return f"{judgement['num_runs']} ({'>100' if needed is None else needed} needed)"


def judged_error(judgement: Mapping[str, Any]) -> str:
    """How far a figure is off; of an agreement its value."""
    if judgement["decided_by"] == "limit":
        return quantity(judgement["error"], "ratio")
    return signed_percent(judgement["error"])


def allowed(judgement: Mapping[str, Any]) -> str:
    """What a figure may be off: its tolerance, or the floor where that decides."""
    if judgement["decided_by"] == "limit":
        return f"{judgement['tolerance']:.3g}"
    if judgement["decided_by"] == "floor":
        return quantity(judgement["floor"], judgement["unit"])
    return percent(judgement["tolerance"])


def signed_percent(ratio: float | None) -> str:
    """An error, with its sign."""
    return UNKNOWN if ratio is None else f"{ratio:+.1%}"


def percent(ratio: float | None) -> str:
    """A tolerance or the noise."""
    return UNKNOWN if ratio is None else f"{ratio:.1%}"


def entries(metric: str, table: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Statistic -> figure of a metric in ``comparison.json``; one of the run has no statistic."""
    return {WHOLE.name: table} if METRICS[metric].statistics == (WHOLE,) else dict(table)


def figures(metrics: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any] | None]]:
    """(metric, statistic, figure) of every figure; one row with None for an unavailable metric."""
    for metric, table in metrics.items():
        if table is None:
            yield metric, "", None
        else:
            for statistic, figure in entries(metric, table).items():
                yield metric, statistic, figure
