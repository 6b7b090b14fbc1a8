"""Equivalence of a simulated figure with real ones: the statistics behind a verdict.

Requests of one run share queues, so they are not independent; whole runs are. With real runs
r = 1…n, y_r = ln(figure in run r), mean m and standard deviation s, and d = ln(simulated) - m, the
interval is d ± t(0.95; ν)·SE: two one-sided tests at 5% each (Schuirmann, J. Pharmacokinet.
Biopharm. 15, 1987). SE = s/√n where the simulation is deterministic, and √(s²/n + s_sim²/k) with
Welch's degrees of freedom where it is a sample of k seeds.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Outcome = Literal["pass", "fail", "inconclusive"]

LEVEL = 0.95
"""Of each of the two one-sided tests."""
LONE_RUN_MARGIN = 0.15
"""What one run without a known spread may be off by chance: beyond it, it fails all the same."""
MOST_RUNS = 100
_EXACT = 1e-9  # a time of the contract is a whole ns: no ratio is known better


@dataclass(frozen=True)
class RunSpread:
    """Variance of ln(figure) between runs of one sitting, and its degrees of freedom."""

    variance: float
    dof: int


@dataclass(frozen=True)
class Estimate:
    """How far a simulated figure is off, and how well that is known.

    Attributes:
        real: The real figure: exp of the mean log, or the mean where ``absolute``.
        sim: The simulated figure, likewise over its seeds.
        offset: ln(sim / real), or sim - real where ``absolute``.
        low: Lower end of the offset's interval; None where the spread is not known.
        high: Upper end.
        num_runs: Real runs.
        num_seeds: Simulated runs.
        run_sd: Standard deviation between real runs, of ln(figure), or of the figure itself where
            ``absolute``; None for one run without a history.
        run_dof: Degrees of freedom behind ``run_sd``.
        sim_sd: The same between the seeds of the simulation; 0 for one.
        pooled: Whether a history is part of ``run_sd``.
        absolute: Whether differences are in the figure's unit, not in logs.
    """

    real: float
    sim: float
    offset: float
    low: float | None
    high: float | None
    num_runs: int
    num_seeds: int
    run_sd: float | None
    run_dof: int
    sim_sd: float
    pooled: bool
    absolute: bool

    @property
    def error(self) -> float | None:
        """(sim - real) / real; None where the real one is zero and the simulated one is not."""
        if not self.absolute:
            return math.expm1(self.offset)
        if self.real > 0:
            return self.offset / self.real
        return 0.0 if self.offset == 0 else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The interval of `error`; None where it is not known."""
        if self.low is None or self.high is None:
            return None
        if not self.absolute:
            return math.expm1(self.low), math.expm1(self.high)
        return (self.low / self.real, self.high / self.real) if self.real > 0 else None

    @property
    def relative_sd(self) -> float | None:
        """`run_sd` as a ratio."""
        if self.run_sd is None or not self.absolute:
            return self.run_sd
        return self.run_sd / self.real if self.real > 0 else None

    def outcome(self, low: float, high: float) -> Outcome:
        """Whether the interval lies inside [low, high], outside, or across an end."""
        if self.low is None or self.high is None:
            margin = LONE_RUN_MARGIN * (self.real if self.absolute else 1.0)
            return "fail" if abs(self.offset) > high + margin + _EXACT else "inconclusive"
        slack = _EXACT * (max(self.real, 1.0) if self.absolute else 1.0)
        if self.low >= low - slack and self.high <= high + slack:
            return "pass"
        return "fail" if self.low > high + slack or self.high < low - slack else "inconclusive"

    def runs_needed(self, low: float, high: float) -> int | None:
        """The fewest real runs that would decide at this offset and spread; None for more than
        `MOST_RUNS`, or where the spread is not known.
        """
        if self.run_sd is None:
            return None
        known = self.run_dof - (self.num_runs - 1) if self.pooled else 0
        for runs in range(1 if known else 2, MOST_RUNS + 1):
            half = _half_width(self.run_sd, runs, runs - 1 + known, self.sim_sd, self.num_seeds)
            inside = self.offset - half >= low - _EXACT and self.offset + half <= high + _EXACT
            if inside or self.offset - half > high or self.offset + half < low:
                return runs
        return None


def estimate(
    real: Sequence[float],
    sim: Sequence[float],
    *,
    history: RunSpread | None = None,
    absolute: bool = False,
) -> Estimate:
    """Estimate how far a simulation is off.

    Args:
        real: The figure in each real run.
        sim: The figure in the simulated run, or in each seed of a stochastic one.
        history: The spread between earlier runs of the same case, pooled by degrees of freedom.
        absolute: Differences, not ratios; always so where a figure is zero in a run.
    """
    absolute = absolute or min(*real, *sim) <= 0
    if absolute:
        ours, theirs, history = list(real), list(sim), None
    else:
        ours, theirs = [math.log(value) for value in real], [math.log(value) for value in sim]
    middle, simulated = statistics.fmean(ours), statistics.fmean(theirs)
    dof = len(ours) - 1
    squares = dof * statistics.variance(ours) if dof else 0.0
    if history is not None:
        dof, squares = dof + history.dof, squares + history.variance * history.dof
    spread = math.sqrt(squares / dof) if dof else None
    sim_spread = statistics.stdev(theirs) if len(theirs) > 1 else 0.0
    offset = simulated - middle
    half = None
    if spread is not None:
        half = _half_width(spread, len(ours), dof, sim_spread, len(theirs))
    return Estimate(
        real=middle if absolute else math.exp(middle),
        sim=simulated if absolute else math.exp(simulated),
        offset=offset,
        low=None if half is None else offset - half,
        high=None if half is None else offset + half,
        num_runs=len(ours),
        num_seeds=len(theirs),
        run_sd=spread,
        run_dof=dof,
        sim_sd=sim_spread,
        pooled=history is not None,
        absolute=absolute,
    )


def quantile(dof: float) -> float:
    """t(0.95; ν)."""
    from scipy.special import stdtrit

    return float(stdtrit(dof, LEVEL))


def _half_width(spread: float, runs: int, dof: int, sim_spread: float, seeds: int) -> float:
    """t·SE, of Welch's degrees of freedom where the simulation is a sample."""
    ours = spread**2 / runs
    if seeds < 2 or sim_spread == 0:
        return quantile(dof) * math.sqrt(ours)
    theirs = sim_spread**2 / seeds
    welch = (ours + theirs) ** 2 / (ours**2 / dof + theirs**2 / (seeds - 1))
    return quantile(welch) * math.sqrt(ours + theirs)
