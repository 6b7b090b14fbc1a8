"""The values behind a comparison, per request and per step: for tables, figures, attribution."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

from pytest_gpusim.compare.checks import CheckContext
from pytest_gpusim.compare.metrics import PER_REQUEST, RunMetrics
from pytest_gpusim.report.series import ComparisonSeries, StepSeries

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from pytest_gpusim.runs import Run


def paired_requests(context: CheckContext) -> pd.DataFrame:
    """One row per request, indexed by id, in order of arrival.

    Columns: ``arrival_time_ns``, ``num_prefill_tokens``, ``num_tokens`` of the first real run;
    ``real_<metric>``, the median over the real runs, and ``sim_<metric>``, ns, for `PER_REQUEST`;
    NaN where undefined, and throughout where the comparison does not have the metric.
    """
    import pandas as pd

    first = context.real_metrics[0].requests
    columns: dict[str, Any] = {
        name: first[name] for name in ("arrival_time_ns", "num_prefill_tokens", "num_tokens")
    }
    for metric in PER_REQUEST:
        missing = context.metrics[metric] is None
        runs = [metrics.requests[metric] for metrics in context.real_metrics]
        real = pd.concat(runs, axis=1).median(axis=1, skipna=False)
        sim = context.sim_metrics.requests[metric]
        columns[f"real_{metric}"] = real * float("nan") if missing else real
        columns[f"sim_{metric}"] = sim * float("nan") if missing else sim
    table = pd.DataFrame(columns).reindex(first.index)
    return table.sort_values("arrival_time_ns", kind="stable")


def middle_run_with_steps(context: CheckContext) -> Run | None:
    """Of the real runs that recorded their steps, the one whose mean E2E is nearest to the median
    of all: what it says of single steps is the least a matter of that run. None where none did.
    """
    means = [float(metrics.requests["e2e"].mean()) for metrics in context.real_metrics]
    middle = statistics.median(means)
    pairs = zip(context.real, means, strict=True)
    known = [(abs(mean - middle), run) for run, mean in pairs if run.steps is not None]
    return min(known, key=lambda pair: pair[0])[1] if known else None


def series_of(context: CheckContext) -> ComparisonSeries:
    """What the figures are drawn from."""
    with_steps = middle_run_with_steps(context)
    return ComparisonSeries(
        real=[_values(metrics, context) for metrics in context.real_metrics],
        sim=_values(context.sim_metrics, context),
        requests=paired_requests(context),
        real_steps=_steps(with_steps),
        sim_steps=_steps(context.sim),
    )


def _values(metrics: RunMetrics, context: CheckContext) -> dict[str, np.ndarray]:
    found = {
        metric: metrics.values(metric)
        for metric in PER_REQUEST
        if context.metrics[metric] is not None
    }
    return {metric: values for metric, values in found.items() if values is not None}


def _steps(run: Run | None) -> StepSeries | None:
    if run is None or run.steps is None:
        return None
    names = ("start_ns", "duration_ns", "num_sequences")
    columns = [run.steps[name].to_numpy(dtype="float64", na_value=float("nan")) for name in names]
    return StepSeries(*columns)
