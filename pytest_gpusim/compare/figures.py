"""The figures of a comparison: each metric under each statistic, on both sides.

Repeated runs are the only basis of confidence: queueing makes the requests of one run depend on
each other, so resampling them would promise more than was measured.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_gpusim.compare.measure import RunMetrics
from pytest_gpusim.compare.metrics import (
    METRICS,
    STATISTICS,
    WHOLE,
    Metric,
    Statistic,
    figure_name,
)

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Figure:
    """One number of a comparison, as each run has it.

    Attributes:
        metric: What was measured.
        statistic: What summarizes it.
        real: The figure in each real run, ns.
        sim: The figure in the simulated run, ns.
    """

    metric: Metric
    statistic: Statistic
    real: tuple[float, ...]
    sim: float

    @property
    def name(self) -> str:
        """``ttft_p50``, ``makespan``."""
        return figure_name(self.metric, self.statistic)

    @property
    def label(self) -> str:
        """``TTFT p50``, ``makespan``."""
        return f"{self.metric.label} {self.statistic.name}".strip()

    @property
    def real_value(self) -> float:
        """The median of the real runs, ns."""
        return statistics.median(self.real)

    @property
    def error(self) -> float | None:
        """(sim - real) / real; None where the real one is zero and the simulated one is not."""
        real = self.real_value
        if real > 0:
            return (self.sim - real) / real
        return 0.0 if self.sim == real else None

    @property
    def noise(self) -> float | None:
        """The largest distance of a real run from the median, relative to it."""
        real = self.real_value
        if real <= 0 or len(self.real) < 2:
            return None
        return max(abs(value - real) for value in self.real) / real

    def to_json(self) -> dict[str, Any]:
        """The figure in ``comparison.json``."""
        return {
            "real_ns": round(self.real_value),
            "sim_ns": round(self.sim),
            "error": self.error,
            "noise": self.noise,
        }


@dataclass(frozen=True)
class Figures:
    """All figures of a comparison.

    Attributes:
        by_name: Each figure that can be had, under its flat name.
        unavailable: Metric -> why it cannot be had.
    """

    by_name: Mapping[str, Figure]
    unavailable: Mapping[str, str]

    def get(self, metric: str, statistic: str = WHOLE.name) -> Figure | None:
        """One figure; None where its metric cannot be had."""
        found = METRICS[metric]
        for known in found.statistics:
            if known.name == statistic:
                return self.by_name.get(figure_name(found, known))
        raise KeyError(f"{metric} has no statistic {statistic!r}")

    def to_json(self) -> dict[str, Any]:
        """``metrics`` of ``comparison.json``; a metric that cannot be had is None."""
        document: dict[str, Any] = {}
        for metric in METRICS.values():
            entries = {
                statistic.name: self.by_name[figure_name(metric, statistic)].to_json()
                for statistic in metric.statistics
                if metric.name not in self.unavailable
            }
            document[metric.name] = entries.get(WHOLE.name, entries) or None
        return document


def summarize(values: np.ndarray) -> dict[str, float]:
    """Each of `STATISTICS` of some values, by name."""
    return {statistic.name: statistic.of(values) for statistic in STATISTICS}


def compare_metrics(real: Sequence[RunMetrics], sim: RunMetrics) -> Figures:
    """Every figure that all runs have, and why the others cannot be had."""
    by_name: dict[str, Figure] = {}
    unavailable: dict[str, str] = {}
    for metric in METRICS.values():
        columns = [run.values(metric.name) for run in (*real, sim)]
        known = [column for column in columns if column is not None]
        if len(known) < len(columns):
            unavailable[metric.name] = next(
                run.unavailable[metric.name]
                for run in (*real, sim)
                if metric.name in run.unavailable
            )
            continue
        for statistic in metric.statistics:
            *ours, theirs = (statistic.of(column) for column in known)
            figure = Figure(metric, statistic, tuple(ours), theirs)
            by_name[figure.name] = figure
    return Figures(by_name, unavailable)
