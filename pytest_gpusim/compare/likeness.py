"""Are two runs more alike than two measurements, or a measurement and a simulation, ever are?

Each run has noise of its own, request by request, that no other run and no model of the engine has.
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

from pytest_gpusim.compare.measure import RunMetrics

if TYPE_CHECKING:
    import pandas as pd

SAME_NS, SAME, SAME_SHARE = 2_000, 3e-5, 0.9
"""Two runs are one where so many requests agree so well: times that were rounded to µs do."""
SCATTER, CLOSER = 0.002, 8.0
FEWEST = 12


def is_copy(one: RunMetrics, other: RunMetrics) -> bool:
    """Whether nine of ten requests agree in TTFT and E2E to 2 µs, or 0.003% of shorter times.

    So does a copy that was rounded, or whose times were touched a little.
    """
    both = _both(one, other, ["ttft", "e2e"])
    if len(both) < FEWEST:
        return False
    ttft, e2e = (
        (both[f"{metric}_one"] - both[f"{metric}_other"]).abs()
        <= (SAME * both[f"{metric}_one"]).clip(upper=SAME_NS)
        for metric in ("ttft", "e2e")
    )
    return float((ttft & e2e).mean()) >= SAME_SHARE


def scatter(one: RunMetrics, other: RunMetrics) -> float | None:
    """How much the ratio of two runs' TPOT varies between requests: 1.48 times the median distance
    of its logarithm from its median. None for too few requests.

    A run that is slower as a whole has none; that of two runs with noise of their own is √2 times
    that of one, and that of a model that knows neither is no smaller than one's.
    """
    import numpy as np

    both = _both(one, other, ["tpot"]).to_numpy()
    both = both[(both > 0).all(axis=1)]
    if len(both) < FEWEST:
        return None
    ratio = np.log(both[:, 0] / both[:, 1])
    return 1.4826 * float(np.median(abs(ratio - np.median(ratio))))


def knows_a_run(sim: RunMetrics, real: list[RunMetrics]) -> tuple[RunMetrics, float] | None:
    """The real run whose own noise the simulation has, and how much closer it is to it than real
    runs are to each other; None where there is none, or nobody can tell.
    """
    between = [found for a, b in combinations(real, 2) if (found := scatter(a, b)) is not None]
    if not between or min(between) < SCATTER:
        return None
    for run in real:
        own = scatter(sim, run)
        if own is not None and own * CLOSER < min(between):
            return run, min(between) / max(own, 1e-9)
    return None


def _both(one: RunMetrics, other: RunMetrics, columns: list[str]) -> pd.DataFrame:
    tables = (
        one.requests[columns].add_suffix("_one"),
        other.requests[columns].add_suffix("_other"),
    )
    return tables[0].join(tables[1], how="inner").dropna()
