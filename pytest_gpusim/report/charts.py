"""The charts of a comparison, as SVG files that are the same for the same values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_gpusim.compare.metrics import HEADLINES, METRICS
from pytest_gpusim.compare.series import ComparisonSeries, StepSeries

if TYPE_CHECKING:
    import numpy as np

REAL, SIM, BAND, GRID = "#334155", "#d9480f", "#94a3b8", "#e2e8f0"
_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Helvetica", "Arial"],
    "font.size": 9,
    "axes.edgecolor": BAND,
    "axes.labelcolor": REAL,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": REAL,
    "ytick.color": REAL,
    "legend.frameon": False,
}
# Above so many points, an SVG of single marks is too heavy.
_MANY = 2000

CAPTIONS = {
    "distributions": "Share of requests up to a value: each real run and the simulation. "
    "Lines that lie on each other are the same distribution.",
    "requests": "Each request, real against simulated. On the line they agree; the band is ±10%.",
    "timeline": "Signed error of each request in order of arrival, and its moving median. "
    "A trend means that errors may cancel in the mean.",
    "steps": "Step time and batch size over the run, real and simulated.",
}
"""Name of a chart (``figures/<name>.svg``) -> what it shows."""


def draw_charts(series: ComparisonSeries, out: Path) -> None:
    """Write the charts that the values allow into the directory ``out``."""
    import matplotlib as mpl

    out.mkdir()
    drawers: dict[str, Callable[[ComparisonSeries], Any]] = {
        "distributions": _distributions,
        "requests": _requests,
        "timeline": _timeline,
        "steps": _steps,
    }
    for name, draw in drawers.items():
        # The salt makes the ids inside the file the same each time.
        with mpl.rc_context({**_STYLE, "svg.hashsalt": name}):
            figure = draw(series)
            if figure is not None:
                nothing = {"Date": None, "Creator": None}
                figure.savefig(out / f"{name}.svg", format="svg", metadata=nothing)


def _panels(count: int, *, rows: int = 1, height: float = 3.0) -> tuple[Any, list[Any]]:
    """A figure of ``rows`` x ``count`` axes, with fixed margins: layout engines are slow."""
    from matplotlib.figure import Figure

    width, gap_x, gap_y = 10.5, 0.7, 0.62
    left, right, top, bottom = 0.75, 0.15, 0.32, 0.5  # inches
    panel_x = (width - left - right - gap_x * (count - 1)) / count
    panel_y = (height - top - bottom - gap_y * (rows - 1)) / rows
    figure = Figure(figsize=(width, height))
    figure.subplots_adjust(
        left=left / width,
        right=1 - right / width,
        top=1 - top / height,
        bottom=bottom / height,
        wspace=gap_x / panel_x,
        hspace=gap_y / panel_y,
    )
    axes = figure.subplots(rows, count, squeeze=False)
    return figure, list(axes.flat)


def _unit(*columns: np.ndarray) -> tuple[str, float]:
    """Unit and its ns for values: s where the largest is above 10 s, else ms."""
    largest = max((float(column.max()) for column in columns if len(column)), default=0.0)
    return ("s", 1e9) if largest > 10e9 else ("ms", 1e6)


def _few_ticks(axis: Any) -> None:
    from matplotlib.ticker import MaxNLocator

    axis.xaxis.set_major_locator(MaxNLocator(6))


def _known(series: ComparisonSeries) -> list[str]:
    return [metric for metric in HEADLINES if len(series.sim.get(metric, ()))]


def _distributions(series: ComparisonSeries) -> Any:
    import numpy as np

    metrics = _known(series)
    if not metrics:
        return None
    figure, axes = _panels(len(metrics))
    for axis, metric in zip(axes, metrics, strict=True):
        unit, scale = _unit(series.sim[metric], *(run[metric] for run in series.real))
        for number, run in enumerate(series.real):
            label = "real" if number == 0 else None
            values = np.sort(run[metric]) / scale
            axis.step(values, _shares(values), where="post", color=REAL, lw=1.1, alpha=0.75,
                      label=label)  # fmt: skip
        values = np.sort(series.sim[metric]) / scale
        axis.step(values, _shares(values), where="post", color=SIM, lw=1.6, label="simulated")
        axis.set_title(METRICS[metric].label)
        axis.set_xlabel(unit)
        _few_ticks(axis)
        axis.set_ylim(0, 1.02)
        axis.set_xlim(left=0)
    axes[0].set_ylabel("share of requests")
    axes[0].legend(loc="lower right")
    return figure


def _shares(values: np.ndarray) -> np.ndarray:
    import numpy as np

    shares: np.ndarray = np.arange(1, len(values) + 1) / len(values)
    return shares


def _requests(series: ComparisonSeries) -> Any:
    import numpy as np

    metrics = _known(series)
    if not metrics:
        return None
    figure, axes = _panels(len(metrics), height=3.5)
    for axis, metric in zip(axes, metrics, strict=True):
        both = series.requests[[f"real_{metric}", f"sim_{metric}"]].dropna()
        real, sim = both.to_numpy().T
        unit, scale = _unit(real, sim)
        real, sim = real / scale, sim / scale
        top = float(max(real.max(initial=0), sim.max(initial=0))) * 1.05 or 1.0
        ends = np.array([0.0, top])
        axis.fill_between(ends, ends * 0.9, ends * 1.1, color=GRID, lw=0, zorder=0)
        axis.plot(ends, ends, color=BAND, lw=1)
        axis.plot(real, sim, "o", ms=3, color=SIM, alpha=0.55, mew=0, rasterized=len(real) > _MANY)
        axis.set_title(METRICS[metric].label)
        axis.set_xlabel(f"real, {unit}")
        _few_ticks(axis)
        axis.set_xlim(0, top)
        axis.set_ylim(0, top)
    axes[0].set_ylabel("simulated")
    return figure


def _timeline(series: ComparisonSeries) -> Any:
    metrics = _known(series)
    if not metrics or len(series.requests) < 2:
        return None
    figure, axes = _panels(1, rows=len(metrics), height=1.75 * len(metrics) + 0.4)
    seconds = series.requests["arrival_time_ns"] / 1e9
    for axis, metric in zip(axes, metrics, strict=True):
        real, sim = series.requests[f"real_{metric}"], series.requests[f"sim_{metric}"]
        error = 100 * (sim - real) / real.where(real > 0)
        window = max(3, len(error) // 20)
        smooth = error.rolling(window, center=True, min_periods=1).median()
        axis.axhline(0, color=BAND, lw=1)
        axis.plot(seconds, error, "o", ms=2.6, color=SIM, alpha=0.4, mew=0,
                  rasterized=len(error) > _MANY)  # fmt: skip
        axis.plot(seconds, smooth, color=REAL, lw=1.5)
        axis.set_title(METRICS[metric].label)
        axis.set_ylabel("error, %")
        known = error.dropna()
        if len(known):
            # A few wild requests must not flatten the rest.
            reach = max(5.0, float(known.abs().quantile(0.98)) * 1.2)
            axis.set_ylim(-reach, reach)
    axes[-1].set_xlabel("arrival, s")
    return figure


def _steps(series: ComparisonSeries) -> Any:
    real, sim = series.real_steps, series.sim_steps
    if real is None or sim is None or not len(real.start_ns) or not len(sim.start_ns):
        return None
    figure, axes = _panels(1, rows=2, height=4.2)
    for steps, color, label in ((real, REAL, "real"), (sim, SIM, "simulated")):
        _draw_steps(axes[0], steps, steps.duration_ns / 1e6, color, label)
        _draw_steps(axes[1], steps, steps.num_sequences, color, label)
    axes[0].set_title("Step time")
    axes[0].set_ylabel("ms")
    axes[0].set_ylim(bottom=0)
    axes[0].legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, markerscale=5)
    axes[1].set_title("Batch size")
    axes[1].set_ylabel("sequences")
    axes[1].set_ylim(bottom=0)
    axes[1].set_xlabel("time, s")
    return figure


def _draw_steps(axis: Any, steps: StepSeries, values: np.ndarray, color: str, label: str) -> None:
    axis.plot(
        steps.start_ns / 1e9,
        values,
        ".",
        ms=2.5,
        color=color,
        alpha=0.5,
        mew=0,
        label=label,
        rasterized=len(values) > _MANY,
    )
