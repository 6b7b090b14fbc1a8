"""From the metrics of runs to the figures of a comparison.

Repeated runs are the only basis of confidence: queueing makes the requests of one run depend on
each other, so resampling them would promise more than was measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pytest_gpusim.compare.metrics import DISTRIBUTIONS, RunMetrics

if TYPE_CHECKING:
    import numpy as np

PERCENTILES = {"p50": 50, "p90": 90, "p95": 95, "p99": 99}
STATISTICS = (*PERCENTILES, "mean")


def summarize(values: np.ndarray) -> dict[str, float]:
    """The `STATISTICS` of some values; percentiles interpolate linearly (numpy's default)."""
    import numpy as np

    found = np.percentile(values, list(PERCENTILES.values()))
    return {**dict(zip(PERCENTILES, map(float, found), strict=True)), "mean": float(values.mean())}


def figure(real: Sequence[float], sim: float) -> dict[str, Any]:
    """One figure of a comparison.

    Args:
        real: The figure in each real run, ns.
        sim: The figure in the simulated run, ns.

    Returns:
        ``real_ns``, the median of the real runs; ``sim_ns``; ``error``, (sim - real) / real;
        ``noise``, the largest distance of a real run from the median, relative to it, None for
        one run. Both ratios are None where the median is zero (``error`` is 0 if sim is, too).
    """
    import numpy as np

    middle = float(np.median(real))
    error: float | None = None
    noise: float | None = None
    if middle > 0:
        error = (sim - middle) / middle
        if len(real) > 1:
            noise = max(abs(value - middle) for value in real) / middle
    elif sim == middle:
        error = 0.0
    return {"real_ns": round(middle), "sim_ns": round(sim), "error": error, "noise": noise}


def compare_metrics(
    real: Sequence[RunMetrics], sim: RunMetrics
) -> tuple[dict[str, Any], dict[str, str]]:
    """The ``metrics`` of ``comparison.json``, and why those that are None could not be had."""
    metrics: dict[str, Any] = {}
    reasons: dict[str, str] = {}
    for metric in DISTRIBUTIONS:
        columns = [run.values(metric) for run in (*real, sim)]
        known = [summarize(column) for column in columns if column is not None]
        if len(known) < len(columns):
            metrics[metric] = None
            reasons[metric] = _reason(metric, real, sim)
            continue
        metrics[metric] = {
            name: figure([summary[name] for summary in known[:-1]], known[-1][name])
            for name in STATISTICS
        }
    spans = [run.makespan for run in (*real, sim)]
    whole = [span for span in spans if span is not None]
    if len(whole) == len(spans):
        metrics["makespan"] = figure(whole[:-1], whole[-1])
    else:
        metrics["makespan"] = None
        reasons["makespan"] = _reason("makespan", real, sim)
    return metrics, reasons


def _reason(metric: str, real: Sequence[RunMetrics], sim: RunMetrics) -> str:
    return next(run.unavailable[metric] for run in (*real, sim) if metric in run.unavailable)
