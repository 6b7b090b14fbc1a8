"""The figures of a comparison: each metric under each statistic, on both sides.

Repeated runs are the only basis of confidence: queueing makes the requests of one run depend on
each other, so resampling them would promise more than was measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pytest_gpusim.compare.judging.equivalence import Estimate, RunSpread, estimate
from pytest_gpusim.compare.measure import RunMetrics
from pytest_gpusim.compare.metrics import (
    GOODPUT,
    METRICS,
    STATISTICS,
    THROUGHPUTS,
    TIMES,
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
        real: The figure in each real run, in the metric's unit.
        sim: The figure in the simulated run, or in each seed of a stochastic simulation.
        num_values: How many values it summarizes, in the run that has the fewest.
        history: The spread between earlier runs of the same case.
        instant: The figure of a simulation in which nothing takes time; None where there is none.
    """

    metric: Metric
    statistic: Statistic
    real: tuple[float, ...]
    sim: tuple[float, ...]
    num_values: int = 1
    history: RunSpread | None = None
    instant: float | None = 0.0

    @property
    def name(self) -> str:
        """``ttft_p50``, ``makespan``."""
        return figure_name(self.metric, self.statistic)

    @property
    def label(self) -> str:
        """``TTFT p50``, ``makespan``."""
        return f"{self.metric.label} {self.statistic.name}".strip()

    @cached_property
    def estimate(self) -> Estimate:
        """How far the simulation is off, as a ratio where no run has a zero."""
        return estimate(self.real, self.sim, history=self.history)

    @property
    def real_value(self) -> float:
        """The geometric mean of the real runs; the mean where one of them has a zero."""
        return self.estimate.real

    @property
    def sim_value(self) -> float:
        """The simulated figure, likewise over the seeds."""
        return self.estimate.sim

    @property
    def error(self) -> float | None:
        """(sim - real) / real; None where the real one is zero and the simulated one is not."""
        return self.estimate.error

    @property
    def half_width(self) -> float:
        """Half the interval of the error; 0 where it is not known."""
        interval = self.estimate.interval
        return (interval[1] - interval[0]) / 2 if interval else 0.0

    @property
    def values_beyond(self) -> float:
        """How many values lie beyond the statistic."""
        return self.statistic.values_beyond(self.num_values)

    def to_json(self) -> dict[str, Any]:
        """The figure in ``comparison.json``."""
        found = self.estimate
        common = {
            "error": found.error,
            "run_sd": found.relative_sd,
            "interval": list(found.interval) if found.interval else None,
        }
        if self.metric.unit == "ns":
            return {"real_ns": round(found.real), "sim_ns": round(found.sim), **common}
        return {"real": found.real, "sim": found.sim, "unit": self.metric.unit, **common}


@dataclass(frozen=True)
class Figures:
    """All figures of a comparison.

    Attributes:
        by_name: Each figure that can be had, under its flat name.
        unavailable: Metric -> why it cannot be had.
        limits_ns: Metric -> the limit that `GOODPUT` counts within.
        lacking: Metrics that the real runs have, and the simulation does not.
    """

    by_name: Mapping[str, Figure]
    unavailable: Mapping[str, str]
    limits_ns: Mapping[str, float] = field(default_factory=dict)
    lacking: frozenset[str] = frozenset()

    def get(self, metric: str, statistic: str = WHOLE.name) -> Figure | None:
        """One figure; None where its metric cannot be had."""
        found = METRICS[metric]
        for known in found.statistics:
            if known.name == statistic:
                return self.by_name.get(figure_name(found, known))
        raise KeyError(f"{metric} has no statistic {statistic!r}")

    def metrics_json(self) -> dict[str, Any]:
        """``metrics`` of ``comparison.json``; a metric that cannot be had is None."""
        return {name: self._entries(METRICS[name]) for name in TIMES}

    def throughput_json(self) -> dict[str, Any]:
        """``throughput`` of ``comparison.json``."""
        return {name: self._entries(METRICS[name]) for name in THROUGHPUTS}

    def goodput_json(self) -> dict[str, Any] | None:
        """``goodput`` of ``comparison.json``; None where no limits are stated."""
        entry = self._entries(GOODPUT)
        return {"limits_ns": dict(self.limits_ns), **entry} if entry else None

    def _entries(self, metric: Metric) -> Any:
        found = {
            statistic.name: self.by_name[name].to_json()
            for statistic in metric.statistics
            if (name := figure_name(metric, statistic)) in self.by_name
        }
        return found.get(WHOLE.name, found) or None


def summarize(values: np.ndarray) -> dict[str, float]:
    """Each of `STATISTICS` of some values, by name."""
    return {statistic.name: statistic.of(values) for statistic in STATISTICS}


def compare_metrics(
    real: Sequence[RunMetrics],
    sim: Sequence[RunMetrics],
    *,
    slo: Mapping[str, float] | None = None,
    history: Mapping[str, RunSpread] | None = None,
) -> Figures:
    """Every figure that all runs have, and why the others cannot be had.

    Args:
        real: The metrics of each real run.
        sim: Those of the simulated run, or of each seed.
        slo: Metric -> limit, ns: what `GOODPUT` counts within; without any, there is none.
        history: Spread between earlier runs, by name of the figure.
    """
    by_name: dict[str, Figure] = {}
    unavailable: dict[str, str] = {}
    lacking: set[str] = set()
    for metric in METRICS.values():
        if metric is GOODPUT and not slo:
            continue
        columns = [
            run.goodput(slo or {}) if metric is GOODPUT else run.values(metric.name)
            for run in (*real, *sim)
        ]
        known = [column for column in columns if column is not None]
        if len(known) < len(columns):
            if all(column is not None for column in columns[: len(real)]):
                lacking.add(metric.name)
            unavailable[metric.name] = next(
                run.unavailable[name]
                for run in (*real, *sim)
                for name in (metric.name, *(slo or {}))
                if name in run.unavailable
            )
            continue
        instant = real[0].instant(metric.name)
        for statistic in metric.statistics:
            values = tuple(statistic.of(column) for column in known)
            name = figure_name(metric, statistic)
            by_name[name] = Figure(
                metric,
                statistic,
                values[: len(real)],
                values[len(real) :],
                min(len(column) for column in known),
                (history or {}).get(name),
                instant,
            )
    return Figures(by_name, unavailable, dict(slo or {}), frozenset(lacking))
