"""The values behind a comparison, per request and per step: for tables, charts, attribution."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_gpusim.compare.measure import RunMetrics
from pytest_gpusim.compare.metrics import METRICS, PER_REQUEST
from pytest_gpusim.compare.sides import Sides, engine

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from pytest_gpusim.runs import Run


@dataclass(frozen=True)
class StepSeries:
    """Steps of one run, NaN where the run does not say.

    Attributes:
        start_ns: When each began.
        duration_ns: How long it took.
        num_sequences: Its batch size.
        waiting: Requests in the queue.
        kv_used: The share of the KV blocks in use; their number where that of all is unknown.
    """

    start_ns: np.ndarray
    duration_ns: np.ndarray
    num_sequences: np.ndarray
    waiting: np.ndarray
    kv_used: np.ndarray


@dataclass(frozen=True)
class ComparisonSeries:
    """What charts are drawn from.

    Attributes:
        real: Per real run, metric -> defined values per request (ITL: per gap), ns.
        sim: The same of the simulated run.
        requests: One row per request in order of arrival: ``arrival_time_ns``, ``real_<metric>``
            (median over the runs), ``low_<metric>`` and ``high_<metric>`` (the least and largest of
            the runs) and ``sim_<metric>``, ns; NaN where not available.
        real_steps: Steps of the middle real run that recorded them.
        sim_steps: Steps of the simulated run.
    """

    real: Sequence[dict[str, np.ndarray]]
    sim: dict[str, np.ndarray]
    requests: pd.DataFrame
    real_steps: StepSeries | None = None
    sim_steps: StepSeries | None = None


def paired_requests(sides: Sides) -> pd.DataFrame:
    """One row per request, indexed by id, in order of arrival.

    Columns: ``arrival_time_ns``, ``num_prefill_tokens``, ``num_tokens`` of the first real run;
    ``real_<metric>``, the median over the real runs, and ``sim_<metric>``, ns, for `PER_REQUEST`;
    NaN where undefined, and throughout where the comparison does not have the metric.
    """
    return _paired(sides, spread=False)


def _paired(sides: Sides, *, spread: bool) -> pd.DataFrame:
    import numpy as np
    import pandas as pd

    first = sides.real_metrics[0].requests
    columns: dict[str, Any] = {
        name: first[name] for name in ("arrival_time_ns", "num_prefill_tokens", "num_tokens")
    }
    for metric in PER_REQUEST:
        known = 1.0 if sides.has(metric) else float("nan")
        runs = pd.concat([metrics.requests[metric] for metrics in sides.real_metrics], axis=1)
        # By numpy: pandas takes the medians of rows one by one.
        middle = pd.Series(np.median(runs.to_numpy(dtype="float64"), axis=1), index=runs.index)
        columns[f"real_{metric}"] = middle * known
        if spread:
            columns[f"low_{metric}"] = runs.min(axis=1, skipna=False) * known
            columns[f"high_{metric}"] = runs.max(axis=1, skipna=False) * known
        columns[f"sim_{metric}"] = sides.sim_metrics.requests[metric] * known
    table = pd.DataFrame(columns).reindex(first.index)
    return table.sort_values("arrival_time_ns", kind="stable")


def middle_run_with_steps(sides: Sides) -> Run | None:
    """Of the real runs that recorded their steps, the one whose mean E2E is nearest to the median
    of all: what it says of single steps is the least a matter of that run. None where none did.
    """
    means = [float(metrics.requests["e2e"].mean()) for metrics in sides.real_metrics]
    middle = statistics.median(means)
    pairs = zip(sides.real, means, strict=True)
    known = [(abs(mean - middle), run) for run, mean in pairs if run.steps is not None]
    return min(known, key=lambda pair: pair[0])[1] if known else None


def series_of(sides: Sides) -> ComparisonSeries:
    """What the charts of a comparison are drawn from."""
    return ComparisonSeries(
        real=[_values(metrics, sides) for metrics in sides.real_metrics],
        sim=_values(sides.sim_metrics, sides),
        requests=_paired(sides, spread=True),
        real_steps=_steps(middle_run_with_steps(sides)),
        sim_steps=_steps(sides.sim),
    )


def _values(metrics: RunMetrics, sides: Sides) -> dict[str, np.ndarray]:
    shown = [name for name, metric in METRICS.items() if metric.per != "run" and sides.has(name)]
    found = {metric: metrics.values(metric) for metric in shown}
    return {metric: values for metric, values in found.items() if values is not None}


def _steps(run: Run | None) -> StepSeries | None:
    if run is None or run.steps is None:
        return None
    names = ("start_ns", "duration_ns", "num_sequences", "waiting", "kv_blocks_used")
    columns = [run.steps[name].to_numpy(dtype="float64", na_value=float("nan")) for name in names]
    blocks = engine(run).get("num_gpu_blocks")
    columns[-1] = columns[-1] / blocks if blocks else columns[-1]
    return StepSeries(*columns)
