"""Limits that a service states: ``ttft_p90=500ms,tpot_p90=40ms``, or a share of requests within.

With statistics, each must be at most its limit. Without (``ttft=500ms,tpot=40ms``), a request is
good when it is within all of them, and the stated share of requests must be.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_gpusim.compare.judging.judgement import FEWEST_BEYOND
from pytest_gpusim.compare.metrics import PER_REQUEST, STATISTICS, Statistic
from pytest_gpusim.errors import UsageError

if TYPE_CHECKING:
    from pytest_gpusim.compare.measure import RunMetrics

_UNITS_NS = {"us": 1e3, "ms": 1e6, "s": 1e9}
_DEFAULT_SHARE = 0.9


@dataclass(frozen=True)
class Limit:
    """A metric under a statistic must be at most ``most_ns``; without one, of each good request."""

    metric: str
    statistic: Statistic | None
    most_ns: float

    @property
    def name(self) -> str:
        """``ttft_p90``, or the metric alone."""
        return f"{self.metric}_{self.statistic.name}" if self.statistic else self.metric

    def __str__(self) -> str:
        return f"{self.name}={self.most_ns / 1e6:g}ms"


@dataclass(frozen=True)
class Limits:
    """All limits of a service.

    Attributes:
        limits: At least one; all with statistics, or none.
        share: Of requests that must be within all of those without statistics.
    """

    limits: tuple[Limit, ...]
    share: float = _DEFAULT_SHARE

    def __str__(self) -> str:
        text = ",".join(map(str, self.limits))
        return text if self.limits[0].statistic else f"{self.share:.0%} of requests within {text}"

    def broken(self, run: RunMetrics) -> list[str]:
        """Names of the limits that a run does not hold; an undefined metric holds.

        Of limits without statistics all that any bad request breaks, where too few are good.
        """
        if self.limits[0].statistic is None:
            if self.goodput(run) >= self.share:
                return []
            table = run.requests
            return [x.name for x in self.limits if (table[x.metric] > x.most_ns).any()]
        return [limit.name for limit, value in self._known(run) if value > limit.most_ns]

    def margin(self, run: RunMetrics) -> float:
        """How far the limits are from breaking; less than 0 where they do.

        With statistics minus the logarithm of the worst ratio to its limit, without the goodput
        above the share.
        """
        if self.limits[0].statistic is None:
            return self.goodput(run) - self.share
        known = self._known(run)
        margins = [-math.log(max(value, 1.0) / limit.most_ns) for limit, value in known]
        return min(margins, default=math.inf)

    def _known(self, run: RunMetrics) -> list[tuple[Limit, float]]:
        """The limits with a statistic whose metric the run has, each with its value there."""
        import numpy as np

        values = [(x, x.statistic, run.values(x.metric)) for x in self.limits]
        return [
            (limit, statistic.of(np.asarray(found)))
            for limit, statistic, found in values
            if statistic is not None and found is not None and len(found)
        ]

    @property
    def most_used(self) -> float:
        """What `used` may be at most."""
        return 1.0 if self.limits[0].statistic else 1 - self.share

    def used(self, run: RunMetrics) -> float:
        """With statistics the worst ratio to its limit, without the share of requests outside."""
        if self.limits[0].statistic is None:
            return 1 - self.goodput(run)
        return math.exp(-self.margin(run))

    def resolution(self, run: RunMetrics) -> float:
        """What a single request makes of `used`, where that is a share."""
        return 0.0 if self.limits[0].statistic else 1 / max(len(run.requests), 1)

    def require_known(self, run: RunMetrics) -> None:
        """Raise `UsageError` where a metric cannot be had: what is not known holds no limit."""
        for limit in self.limits:
            if limit.metric in run.unavailable:
                raise UsageError(f"{limit.metric} is not known of {run.unavailable[limit.metric]}")

    def require_carried(self, run: RunMetrics) -> None:
        """Raise `UsageError` where a run has too few values for a percentile: at least one must
        lie beyond it, as for a tolerance.
        """
        for limit in self.limits:
            values = run.values(limit.metric)
            if limit.statistic is None or values is None:
                continue
            if limit.statistic.values_beyond(len(values)) < FEWEST_BEYOND - 1e-9:
                raise UsageError(
                    f"{limit.name}: {len(values)} values of {run.run_id} cannot carry "
                    f"{limit.statistic.name}: at least one must lie beyond it"
                )

    def goodput(self, run: RunMetrics) -> float:
        """The share of requests that are within every limit, statistics left aside."""
        table = run.requests
        if not len(table):
            return 0.0
        good = table["e2e"].notna()
        for limit in self.limits:
            good &= ~(table[limit.metric] > limit.most_ns)
        return float(good.mean())


def parse_limits(text: str, share: float | None = None) -> Limits:
    """Read ``--slo``.

    Raises:
        UsageError: A name, a statistic or a time is none; both kinds are mixed.
    """
    limits = tuple(_limit(part) for part in text.split(",") if part.strip())
    if not limits:
        raise UsageError("--slo: is empty; give such as ttft_p90=500ms,tpot_p90=40ms")
    with_statistic = {limit.statistic is not None for limit in limits}
    if len(with_statistic) > 1:
        raise UsageError(f"--slo {text}: give a statistic to each limit, or to none")
    if share is not None and limits[0].statistic is not None:
        raise UsageError("--share: is of limits without statistics, such as --slo ttft=500ms")
    if share is not None and not 0 < share <= 1:
        raise UsageError(f"--share {share}: expected a fraction above 0, up to 1")
    return Limits(limits, _DEFAULT_SHARE if share is None else share)


def _limit(part: str) -> Limit:
    name, equals, time = part.strip().partition("=")
    metric, statistic = name, None
    for each in STATISTICS:
        if name.endswith(f"_{each.name}"):
            metric, statistic = name.removesuffix(f"_{each.name}"), each
    if not equals or metric not in PER_REQUEST:
        known = ", ".join(PER_REQUEST)
        names = ", ".join(each.name for each in STATISTICS)
        raise UsageError(
            f"--slo {part.strip()}: expected METRIC[_STATISTIC]=TIME with a metric of {known} and "
            f"a statistic of {names}"
        )
    return Limit(metric, statistic, _time_ns(time, part))


def _time_ns(text: str, part: str) -> float:
    for unit in ("us", "ms", "s"):
        if text.endswith(unit):
            try:
                value = float(text.removesuffix(unit)) * _UNITS_NS[unit]
            except ValueError:
                break
            if 0 < value < float("inf"):
                return value
            break
    raise UsageError(f"--slo {part.strip()}: expected a time such as 500ms, 40ms or 2s")
