"""How single requests and whole distributions agree, beside what quantiles tell.

Quantiles do not tell a constant mean for every request from a model. Per request, the simulation is
held against the median over the real runs; between real runs each is held against the median of the
others, from three runs on: held against single runs, a perfect simulator would beat reality.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_gpusim.compare.judging.equivalence import LONE_RUN_MARGIN, MOST_RUNS, Outcome, quantile
from pytest_gpusim.compare.measure import RunMetrics
from pytest_gpusim.compare.metrics import AGREEMENTS, HEADLINES

if TYPE_CHECKING:
    import numpy as np

FEWEST_RUNS = 3  # of two, the median of the others is the other run


@dataclass(frozen=True)
class AgreementValue:
    """One respect in which requests agree.

    Attributes:
        sim: Of the simulation with the real runs.
        real: Of each real run with the median of the others, on average; None below three runs.
        interval: Where ``sim`` lies, each end with 95%, by leaving out one run at a time
            (jackknife); None below three runs.
        num_runs: Real runs.
    """

    sim: float
    real: float | None
    interval: tuple[float, float] | None
    num_runs: int

    def outcome(self, limit: float, *, upper: bool) -> Outcome:
        """``sim`` against an upper limit, or a lower one."""
        sign = 1 if upper else -1
        if self.interval is None:
            beyond = sign * (self.sim - limit) > LONE_RUN_MARGIN
            return "fail" if beyond else "inconclusive"
        near, far = sorted(sign * end for end in self.interval)
        if far <= sign * limit:
            return "pass"
        return "fail" if near > sign * limit else "inconclusive"

    def runs_needed(self, limit: float) -> int | None:
        """The fewest real runs that would decide at this value and spread; None for more than
        `MOST_RUNS`. The standard error is taken to fall with the root of their number.
        """
        if self.interval is None:
            return FEWEST_RUNS
        half = (self.interval[1] - self.interval[0]) / 2
        one_run = half / quantile(self.num_runs - 1) * math.sqrt(self.num_runs)
        for runs in range(FEWEST_RUNS, MOST_RUNS + 1):
            if quantile(runs - 1) * one_run / math.sqrt(runs) <= abs(self.sim - limit):
                return runs
        return None

    def to_json(self) -> dict[str, Any]:
        """The value in ``comparison.json``."""
        return {
            "real": self.real,
            "sim": self.sim,
            "interval": list(self.interval) if self.interval else None,
        }


def agreements(real: Sequence[RunMetrics], sim: RunMetrics) -> dict[str, AgreementValue]:
    """Every respect of every headline metric that can be had, as ``ttft_mape``."""
    import numpy as np
    import pandas as pd

    found: dict[str, AgreementValue] = {}
    for metric in HEADLINES:
        if any(metric in run.unavailable for run in (*real, sim)):
            continue
        columns = [run.requests[metric] for run in (*real, sim)]
        table = pd.concat(columns, axis=1).to_numpy(dtype="float64")
        table = table[(table > 0).all(axis=1)]  # NaN is not
        if len(table) < 2:
            continue
        runs, simulated = table[:, :-1], table[:, -1]
        middle = np.median(runs, axis=1)
        others = [np.median(np.delete(runs, place, axis=1), axis=1) for place in range(len(real))
                  ] if len(real) >= FEWEST_RUNS else []  # fmt: skip
        for respect in AGREEMENTS:
            value = _value(_MEASURES[respect.name], simulated, middle, runs, others)
            if math.isfinite(value.sim):
                found[f"{metric}_{respect.name}"] = value
    return found


def _value(
    measure: _Measure,
    sim: np.ndarray,
    middle: np.ndarray,
    runs: np.ndarray,
    others: Sequence[np.ndarray],
) -> AgreementValue:
    whole, count = measure(sim, middle), runs.shape[1]
    if not others:
        return AgreementValue(whole, None, None, count)
    real = [measure(runs[:, place], rest) for place, rest in enumerate(others)]
    left = [measure(sim, rest) for rest in others]
    mean = sum(left) / count
    error = math.sqrt((count - 1) / count * sum((value - mean) ** 2 for value in left))
    half = quantile(count - 1) * error
    typical = sum(real) / count
    return AgreementValue(
        whole, typical if math.isfinite(typical) else None, (whole - half, whole + half), count
    )


_Measure = Callable[["np.ndarray", "np.ndarray"], float]


def _mape(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Mean absolute error of a request, relative to the reference."""
    return float((abs(ours - theirs) / theirs).mean())


def _wasserstein(ours: np.ndarray, theirs: np.ndarray) -> float:
    """First Wasserstein distance of two samples of one size, over the mean of the reference."""
    import numpy as np

    return float(abs(np.sort(ours) - np.sort(theirs)).mean() / theirs.mean())


def _rank_correlation(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Spearman's coefficient; 0 where one side has a single value for all."""
    import numpy as np
    import pandas as pd

    # By pandas, which is there: importing scipy.stats takes longer than the rest of a comparison.
    ranks = [pd.Series(values).rank().to_numpy() for values in (ours, theirs)]
    if any(np.ptp(rank) == 0 for rank in ranks):
        return 0.0
    return float(np.corrcoef(*ranks)[0, 1])


_MEASURES: dict[str, _Measure] = {
    "mape": _mape,
    "wasserstein": _wasserstein,
    "rank_correlation": _rank_correlation,
}
