"""The vocabulary of a comparison: its metrics and the statistics that summarize them.

Definitions are the contract's ("Time and tokens"). Normalized E2E is the dynamic metric of the
Vidur paper (Agrawal et al., MLSys 2024). All times are nanoseconds. Everything that lists metrics
or statistics (tolerances, the schema of ``comparison.json``, tables, pages) follows from here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pytest_gpusim.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

MS = 1_000_000


@dataclass(frozen=True)
class Statistic:
    """A summary of values.

    Attributes:
        name: Its key in ``comparison.json``; empty where a metric has one value per run, which
            then stands for itself.
        percent: The percentile, between 0 and 100; None for the mean.
    """

    name: str
    percent: float | None = None

    def of(self, values: np.ndarray) -> float:
        """The summary of some values; percentiles interpolate linearly (numpy's default)."""
        import numpy as np

        if self.percent is None:
            return float(values.mean())
        return float(np.percentile(values, self.percent))

    def values_beyond(self, count: int) -> float:
        """How many of ``count`` values lie beyond it; all where it is no percentile."""
        return count if self.percent is None else count * (100 - self.percent) / 100


STATISTICS = (
    Statistic("p50", 50),
    Statistic("p90", 90),
    Statistic("p95", 95),
    Statistic("p99", 99),
    Statistic("mean"),
)
"""What summarizes a metric that has many values."""
WHOLE = Statistic("")
"""What a metric with one value per run has instead."""


@dataclass(frozen=True)
class Metric:
    """Something that is measured in every run.

    Attributes:
        name: Its key in ``comparison.json``.
        label: How a reader sees it.
        per: What has a value: each request, each gap between tokens, or the run as a whole.
        floor_ns: An error below it is never held against a simulation.
        needs_end: Whether it needs to know when a request ended.
        headline: Whether errors are attributed of it.
    """

    name: str
    label: str
    per: Literal["request", "gap", "run"] = "request"
    floor_ns: float = 0.5 * MS
    needs_end: bool = True
    headline: bool = False

    @property
    def statistics(self) -> tuple[Statistic, ...]:
        """What summarizes it."""
        return (WHOLE,) if self.per == "run" else STATISTICS


_PER_TOKEN_NS = 0.05 * MS

METRICS = {
    metric.name: metric
    for metric in (
        Metric("ttft", "TTFT", needs_end=False, headline=True),
        Metric("tpot", "TPOT", floor_ns=_PER_TOKEN_NS, headline=True),
        Metric("itl", "ITL", per="gap", floor_ns=_PER_TOKEN_NS),
        Metric("e2e", "E2E", headline=True),
        Metric("normalized_e2e", "normalized E2E", floor_ns=_PER_TOKEN_NS),
        Metric("queue_delay", "queue delay", needs_end=False),
        Metric("makespan", "makespan", per="run"),
    )
}
"""All metrics, in the order of ``comparison.json``."""
PER_REQUEST = tuple(name for name, metric in METRICS.items() if metric.per == "request")
HEADLINES = tuple(name for name, metric in METRICS.items() if metric.headline)


def figure_name(metric: Metric, statistic: Statistic) -> str:
    """The flat name of a metric under a statistic: ``ttft_p50``, ``makespan``."""
    return f"{metric.name}_{statistic.name}" if statistic.name else metric.name


def all_figures() -> Iterator[tuple[str, Metric, Statistic]]:
    """(name, metric, statistic) of every figure that a comparison may hold."""
    for metric in METRICS.values():
        for statistic in metric.statistics:
            yield figure_name(metric, statistic), metric, statistic


def find_figure(name: str) -> tuple[Metric, Statistic]:
    """The metric and statistic of a flat name.

    Raises:
        UsageError: There is none of that name.
    """
    for known, metric, statistic in all_figures():
        if known == name:
            return metric, statistic
    many = [metric.name for metric in METRICS.values() if metric.per != "run"]
    one = [metric.name for metric in METRICS.values() if metric.per == "run"]
    raise UsageError(
        f"unknown tolerance {name!r}: expected <metric>_<stat> with a metric of {', '.join(many)} "
        f"and a stat of {', '.join(s.name for s in STATISTICS)}; {', '.join(one)}"
    )
