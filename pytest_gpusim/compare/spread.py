"""How far the same request differs from one real run to the next, and what that does to a tail.

The tail of a noisy machine is not only its slow requests but also its slow moments. A simulator has
none, so a share of its error at p90 is no fault of its model, and no repetition makes it smaller.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_gpusim.compare.checks import CheckContext
from pytest_gpusim.compare.metrics import HEADLINES

if TYPE_CHECKING:
    import pandas as pd

FEWEST_RUNS = 3  # the median of two is a mean: it keeps the slow moments of both


def spread_of_requests(context: CheckContext) -> dict[str, Any] | None:
    """By metric, from the requests that every real run finished; None for fewer than three runs.

    Returns:
        ``per_request``: the standard deviation of one request between runs, relative to its mean
        (root mean square over requests); ``lift``: how far the p90 of a run (median over runs) lies
        above the p90 of the requests' medians, relative to the latter; ``error``: that of the
        simulated p90 against the p90 of the medians. A metric that cannot be had is left out.
    """
    import pandas as pd

    if len(context.real) < FEWEST_RUNS:
        return None
    found = {}
    for metric in HEADLINES:
        if context.metrics[metric] is None:
            continue
        runs = [run.requests[metric] for run in context.real_metrics]
        table = pd.concat(runs, axis=1, keys=range(len(runs))).dropna()
        sim = context.sim_metrics.requests[metric].reindex(table.index).dropna()
        if table.empty or len(sim) < len(table) or not (table > 0).all(axis=None):
            continue
        found[metric] = _spread(table, sim)
    return found or None


def _spread(table: pd.DataFrame, sim: pd.Series) -> dict[str, float]:
    relative = table.std(axis=1, ddof=1) / table.mean(axis=1)
    typical = float(table.median(axis=1).quantile(0.9))
    return {
        "per_request": float((relative**2).mean() ** 0.5),
        "lift": float(table.quantile(0.9).median()) / typical - 1,
        "error": float(sim.quantile(0.9)) / typical - 1,
    }
