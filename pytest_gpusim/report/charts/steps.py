"""Charts of the engine's steps: their time, batch size, queue and KV cache over the run."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from pytest_gpusim.compare.series import ComparisonSeries, StepSeries
from pytest_gpusim.report.charts.canvas import MANY, REAL, SIM, Chart, legend_above

if TYPE_CHECKING:
    import numpy as np

_BINS = 600


def _duration(axis: Any, series: ComparisonSeries, tolerances: Mapping[str, float]) -> bool:
    sides = _both(series, "duration_ns")
    for steps, color, label in sides:
        axis.plot(steps.start_ns / 1e9, steps.duration_ns / 1e6, ".", ms=2.5, color=color,
                  alpha=0.5, mew=0, label=label, rasterized=len(steps.start_ns) > MANY)  # fmt: skip
    if sides:
        _finish(axis, "ms", markerscale=5)
    return bool(sides)


def _level(
    column: str, label: str, axis: Any, series: ComparisonSeries, tolerances: Mapping[str, float]
) -> bool:
    """A number that holds until the next step."""
    sides = _both(series, column)
    for steps, color, name in sides:
        seconds, values = _binned(steps.start_ns / 1e9, getattr(steps, column))
        axis.step(seconds, values, where="post", color=color, lw=1.1, alpha=0.85, label=name)
    if sides:
        _finish(axis, label)
        if column != "kv_used":
            axis.set_ylim(top=max(1.0, axis.get_ylim()[1]))  # of none there are no twentieths
    return bool(sides)


def _both(series: ComparisonSeries, column: str) -> list[tuple[StepSeries, str, str]]:
    """The sides whose steps have ``column``; none unless there is one to compare, or two."""
    import numpy as np

    sides = [(series.real_steps, REAL, "real"), (series.sim_steps, SIM, "simulated")]
    return [
        (steps, color, label)
        for steps, color, label in sides
        if steps is not None and len(steps.start_ns) and not np.isnan(getattr(steps, column)).all()
    ]


def _binned(seconds: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of many steps, the mean of each slice of time."""
    import numpy as np

    known = ~np.isnan(values)
    seconds, values = seconds[known], values[known]
    if len(seconds) <= _BINS:
        return seconds, values
    edges = np.linspace(seconds.min(), seconds.max(), _BINS + 1)
    place = np.clip(np.digitize(seconds, edges) - 1, 0, _BINS - 1)
    counts = np.bincount(place, minlength=_BINS)
    sums = np.bincount(place, weights=values, minlength=_BINS)
    there = counts > 0
    return edges[:-1][there], sums[there] / counts[there]


def _finish(axis: Any, label: str, **legend: Any) -> None:
    axis.set_xlabel("time, s")
    axis.set_ylabel(label)
    axis.set_ylim(bottom=0)
    legend_above(axis, **legend)


_GROUP = "Over the run"
STEP_CHARTS = (
    Chart("step_time", "Step time", _GROUP, "Each step of the engine at its start.", _duration),
    Chart(
        "batch_size",
        "Batch size",
        _GROUP,
        "Sequences in each step.",
        partial(_level, "num_sequences", "sequences"),
    ),
    Chart(
        "queue",
        "Queue",
        _GROUP,
        "Requests that wait while a step runs.",
        partial(_level, "waiting", "requests"),
    ),
    Chart(
        "kv_cache",
        "KV cache",
        _GROUP,
        "Share of the KV blocks in use, or their number where that of all is not known.",
        partial(_level, "kv_used", "in use"),
    ),
)
