"""What real runs tell: their figures by workload, and how far repeats of one differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from pytest_gpusim.calibration.front_end import MeasuredFrontEnd
    from pytest_gpusim.providers import SimulationInputs
    from pytest_gpusim.runs import Run

STATISTICS = ("mean", "p50", "p90")
Figures = dict[str, dict[str, float]]
"""Metric, statistic, ns."""


@dataclass(frozen=True)
class Evidence:
    """Real runs of one workload.

    Attributes:
        runs: Repeats of each other.
        inputs: To simulate the first of them, with its own arrivals and lengths.
        figures: Geometric mean over the runs.
    """

    runs: tuple[Run, ...]
    inputs: SimulationInputs
    figures: Figures

    @property
    def run_ids(self) -> tuple[str, ...]:
        """The runs' ids."""
        return tuple(run.run_id for run in self.runs)


def times_of(run: Run) -> dict[str, np.ndarray]:
    """By metric, ns per finished request: TTFT, and TPOT of those with two tokens and more."""
    rows = run.finished
    first, last = (
        rows[f"{name}_time_ns"].to_numpy(dtype="float64") for name in ("first_token", "completion")
    )
    arrival = rows["arrival_time_ns"].to_numpy(dtype="float64")
    tokens = rows["num_decode_tokens_actual"].to_numpy(dtype="float64")
    several = tokens > 1
    return {
        "ttft": first - arrival,
        "tpot": ((last - first)[several]) / (tokens[several] - 1),
    }


def figures_of(times: Mapping[str, np.ndarray]) -> Figures:
    """Mean, median and 90th percentile of each metric that has times."""
    import numpy as np

    return {
        metric: {
            "mean": float(np.mean(values)),
            "p50": float(np.percentile(values, 50)),
            "p90": float(np.percentile(values, 90)),
        }
        for metric, values in times.items()
        if len(values)
    }


def mean_figures(runs: Sequence[Run], front_end: MeasuredFrontEnd | None = None) -> Figures:
    """The geometric mean over repeats of each figure, TTFT without a front end that is known."""
    import numpy as np

    each = []
    for run in runs:
        times = times_of(run)
        if front_end is not None:
            delays = front_end.delays_ns(run.finished["num_prefill_tokens"].tolist())
            # A figure is a positive time, whatever the noise of one request.
            times["ttft"] = np.maximum(times["ttft"] - delays, 1.0)
        each.append(figures_of(times))
    return {
        metric: {
            statistic: float(np.exp(np.mean([np.log(f[metric][statistic]) for f in each])))
            for statistic in STATISTICS
        }
        for metric in each[0]
        if all(metric in figures for figures in each)
    }
