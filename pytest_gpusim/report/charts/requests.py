"""Charts of requests: distributions, one against the other, and errors in order of arrival."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from pytest_gpusim.compare.metrics import HEADLINES, METRICS
from pytest_gpusim.compare.series import ComparisonSeries
from pytest_gpusim.report.charts.canvas import (
    BAND,
    GRID,
    MANY,
    REAL,
    SIM,
    Chart,
    few_ticks,
    legend_above,
    unit,
)

if TYPE_CHECKING:
    import numpy as np

_POINTS = 400  # of a distribution's line
_SPANS = 500  # requests up to which the spread of the real runs is drawn for each
DEFAULT_BAND = 0.10


def _distribution(
    metric: str, axis: Any, series: ComparisonSeries, tolerances: Mapping[str, float]
) -> bool:
    if not len(series.sim.get(metric, ())):
        return False
    name, scale = unit(series.sim[metric], *(run[metric] for run in series.real))
    for number, run in enumerate(series.real):
        values, shares = _line(run[metric])
        label = "real" if number == 0 else None
        axis.step(values / scale, shares, where="post", color=REAL, lw=1.1, alpha=0.75, label=label)
    values, shares = _line(series.sim[metric])
    axis.step(values / scale, shares, where="post", color=SIM, lw=1.6, label="simulated")
    axis.set_xlabel(name)
    axis.set_ylabel("share of gaps" if METRICS[metric].per == "gap" else "share of requests")
    few_ticks(axis)
    axis.set_ylim(0, 1.02)
    axis.set_xlim(left=0)
    legend_above(axis)
    return True


def _line(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sorted values and the share up to each; of many, as many quantiles as can be seen."""
    import numpy as np

    if len(values) > _POINTS:
        shares = np.linspace(0, 1, _POINTS + 1)
        return np.quantile(values, shares), shares
    return np.sort(values), np.arange(1, len(values) + 1) / len(values)


def _scatter(
    metric: str, axis: Any, series: ComparisonSeries, tolerances: Mapping[str, float]
) -> bool:
    import numpy as np

    columns = [f"{which}_{metric}" for which in ("real", "sim", "low", "high")]
    both = series.requests[columns].dropna()
    if both.empty:
        return False
    real, sim, low, high = both.to_numpy().T
    name, scale = unit(real, sim)
    real, sim, low, high = (column / scale for column in (real, sim, low, high))
    top = float(max(real.max(), sim.max(), high.max())) * 1.05 or 1.0
    ends = np.array([0.0, top])
    band = tolerances.get(metric, DEFAULT_BAND)
    label = f"±{band:.0%}" + ("" if metric in tolerances else " (not judged)")
    axis.fill_between(
        ends, ends * (1 - band), ends * (1 + band), color=GRID, lw=0, zorder=0, label=label
    )
    axis.plot(ends, ends, color=BAND, lw=1)
    if len(series.real) > 1 and len(real) <= _SPANS:
        axis.hlines(sim, low, high, color=REAL, lw=0.8, alpha=0.5, label="range of real runs")
    axis.plot(real, sim, "o", ms=4, color=SIM, alpha=0.55, mew=0, rasterized=len(real) > MANY)
    axis.set_xlabel(f"real, {name}")
    axis.set_ylabel(f"simulated, {name}")
    few_ticks(axis)
    axis.set_xlim(0, top)
    axis.set_ylim(0, top)
    legend_above(axis)
    return True


def _over_time(
    metric: str, axis: Any, series: ComparisonSeries, tolerances: Mapping[str, float]
) -> bool:
    both = series.requests[["arrival_time_ns", f"real_{metric}", f"sim_{metric}"]].dropna()
    if len(both) < 2:
        return False
    seconds, real, sim = both.to_numpy(dtype="float64").T
    name, scale = unit(real, sim)
    many = len(both) > MANY
    style = {"ms": 2.6, "alpha": 0.6, "mew": 0, "rasterized": many}
    axis.plot(seconds / 1e9, real / scale, "o", color=REAL, label="real", **style)
    axis.plot(seconds / 1e9, sim / scale, "o", color=SIM, label="simulated", **style)
    axis.set_xlabel("arrival, s")
    axis.set_ylabel(name)
    axis.set_ylim(bottom=0)
    legend_above(axis, markerscale=2)
    return True


def _errors(
    metric: str, axis: Any, series: ComparisonSeries, tolerances: Mapping[str, float]
) -> bool:
    requests = series.requests
    real, sim = requests[f"real_{metric}"], requests[f"sim_{metric}"]
    error = (100 * (sim - real) / real.where(real > 0)).dropna()
    if len(error) < 2:
        return False
    seconds = requests.loc[error.index, "arrival_time_ns"] / 1e9
    smooth = error.rolling(max(3, len(error) // 20), center=True, min_periods=1).median()
    if metric in tolerances:
        band = 100 * tolerances[metric]
        axis.axhspan(-band, band, color=GRID, lw=0, zorder=0)
    axis.axhline(0, color=BAND, lw=1)
    axis.plot(seconds, error, "o", ms=4 if len(error) <= _SPANS else 2.6, color=SIM, alpha=0.5,
              mew=0, rasterized=len(error) > MANY, label="a request")  # fmt: skip
    axis.plot(seconds, smooth, color=REAL, lw=1.5, label="moving median")
    legend_above(axis)
    axis.set_xlabel("arrival, s")
    axis.set_ylabel("error, %")
    # A few wild requests must not flatten the rest.
    reach = max(5.0, float(error.abs().quantile(0.98)) * 1.2)
    axis.set_ylim(-reach, reach)
    return True


_SHOWN = ("ttft", "tpot", "itl", "e2e")
_LABEL = {name: METRICS[name].label for name in _SHOWN}

REQUEST_CHARTS = (
    *(
        Chart(
            f"distribution_{name}",
            _LABEL[name],
            "Distributions",
            "The share up to each value; lines that lie on each other are the same distribution.",
            partial(_distribution, name),
            name,
        )
        for name in _SHOWN
    ),
    *(
        Chart(
            f"requests_{name}",
            _LABEL[name],
            "Request by request",
            "Each request, real against simulated: on the line they agree, in the band they are "
            "within the tolerance.",
            partial(_scatter, name),
            name,
            shows_tolerance=True,
        )
        for name in HEADLINES
    ),
    *(
        Chart(
            f"errors_{name}",
            f"Error of {_LABEL[name]}",
            "Errors in order of arrival",
            "The signed error of each request and its moving median; a trend means that errors "
            "may cancel in the mean.",
            partial(_errors, name),
            name,
            shows_tolerance=True,
        )
        for name in HEADLINES
    ),
    *(
        Chart(
            f"over_time_{name}",
            f"{_LABEL[name]} over the run",
            "Over the run",
            "Each request at its arrival.",
            partial(_over_time, name),
            name,
        )
        for name in ("ttft", "e2e")
    ),
)
