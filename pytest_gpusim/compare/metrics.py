"""The vocabulary of a comparison: its metrics and the statistics that summarize them.

Definitions are the contract's ("Time and tokens"). Normalized E2E is the dynamic metric of the
Vidur paper (Agrawal et al., MLSys 2024). All times are nanoseconds. Everything that lists metrics
or statistics (tolerances, the schema of ``comparison.json``, tables, pages) follows from here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypedDict

from pytest_gpusim.errors import UsageError, meant

if TYPE_CHECKING:
    import numpy as np

    from pytest_gpusim.compare.tolerance import Given

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
        floor: An error below it, in ``unit``, is never held against a simulation.
        unit: ``ns``, ``requests/s``, ``tokens/s`` or ``share``.
        needs_end: Whether it needs to know when a request ended.
        headline: Whether errors are attributed of it, and judged when nobody says.
    """

    name: str
    label: str
    per: Literal["request", "gap", "run"] = "request"
    floor: float = 0.5 * MS
    unit: str = "ns"
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
        Metric("tpot", "TPOT", floor=_PER_TOKEN_NS, headline=True),
        Metric("itl", "ITL", per="gap", floor=_PER_TOKEN_NS),
        Metric("e2e", "E2E", headline=True),
        Metric("normalized_e2e", "normalized E2E", floor=_PER_TOKEN_NS),
        Metric("queue_delay", "queue delay", floor=2 * MS, needs_end=False),
        Metric("makespan", "makespan", per="run"),
        Metric("request_throughput", "request throughput", "run", 0.0, "requests/s"),
        Metric("output_throughput", "output throughput", "run", 0.0, "tokens/s"),
        Metric("goodput", "goodput", "run", 0.01, "share"),
    )
}
"""All metrics, in the order of ``comparison.json``.

Throughputs are named as by ``vllm bench serve``; goodput is the share of requests within limits.
"""
TIMES = tuple(name for name, metric in METRICS.items() if metric.unit == "ns")
"""What stands below ``metrics`` in ``comparison.json``."""
THROUGHPUTS = tuple(name for name, metric in METRICS.items() if metric.unit.endswith("/s"))
GOODPUT = METRICS["goodput"]
PER_REQUEST = tuple(name for name, metric in METRICS.items() if metric.per == "request")
_ALIASES = {"throughput": "request_throughput"}
HEADLINES = tuple(name for name, metric in METRICS.items() if metric.headline)


@dataclass(frozen=True)
class Agreement:
    """A respect in which single requests of two runs agree, beyond what quantiles tell.

    Attributes:
        name: Its key in ``comparison.json`` below ``distribution``.
        label: How a reader sees it.
        upper: Whether a limit on it is an upper one.
    """

    name: str
    label: str
    upper: bool = True


AGREEMENTS = (
    Agreement("mape", "error per request"),
    Agreement("wasserstein", "distance of distributions"),
    Agreement("rank_correlation", "rank correlation", upper=False),
)


def find_agreement(name: str) -> tuple[Metric, Agreement] | None:
    """``ttft_mape`` as its metric and its respect; None where the name is none."""
    for metric in HEADLINES:
        for agreement in AGREEMENTS:
            if name == f"{metric}_{agreement.name}":
                return METRICS[metric], agreement
    return None


def _agreement_names() -> Iterator[str]:
    return (f"{metric}_{each.name}" for metric in HEADLINES for each in AGREEMENTS)


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
        if known == _ALIASES.get(name, name):
            return metric, statistic
    many = [metric.name for metric in METRICS.values() if metric.per != "run"]
    one = [metric.name for metric in METRICS.values() if metric.per == "run"]
    hint = meant(name, (*(figure for figure, _, _ in all_figures()), *_agreement_names()))
    raise UsageError(
        f"unknown tolerance {name!r}{hint}: expected <metric>_<stat> with a metric of "
        f"{', '.join(many)} and a stat of {', '.join(each.name for each in STATISTICS)}; "
        f"{', '.join(one)}; or "
        f"<metric>_{', <metric>_'.join(each.name for each in AGREEMENTS)} of "
        f"{', '.join(HEADLINES)}"
    )


class Tolerances(TypedDict, total=False):
    """The names that tolerances go by, for completion and type checkers: those of `all_figures`
    and `find_agreement`.
    """

    ttft_p50: Given
    ttft_p90: Given
    ttft_p95: Given
    ttft_p99: Given
    ttft_mean: Given
    tpot_p50: Given
    tpot_p90: Given
    tpot_p95: Given
    tpot_p99: Given
    tpot_mean: Given
    itl_p50: Given
    itl_p90: Given
    itl_p95: Given
    itl_p99: Given
    itl_mean: Given
    e2e_p50: Given
    e2e_p90: Given
    e2e_p95: Given
    e2e_p99: Given
    e2e_mean: Given
    normalized_e2e_p50: Given
    normalized_e2e_p90: Given
    normalized_e2e_p95: Given
    normalized_e2e_p99: Given
    normalized_e2e_mean: Given
    queue_delay_p50: Given
    queue_delay_p90: Given
    queue_delay_p95: Given
    queue_delay_p99: Given
    queue_delay_mean: Given
    makespan: Given
    request_throughput: Given
    output_throughput: Given
    goodput: Given
    ttft_mape: Given
    ttft_wasserstein: Given
    ttft_rank_correlation: Given
    tpot_mape: Given
    tpot_wasserstein: Given
    tpot_rank_correlation: Given
    e2e_mape: Given
    e2e_wasserstein: Given
    e2e_rank_correlation: Given
    throughput: Given
