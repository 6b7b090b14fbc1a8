"""Latency and goodput against load of a capacity."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_gpusim.report.charts.canvas import REAL, SIM, log_scale, row, save_svg

if TYPE_CHECKING:
    from pytest_gpusim.planning.capacity import Capacity

PANELS = (("ttft", "TTFT, ms"), ("tpot", "TPOT, ms"), ("e2e", "E2E, ms"))


def draw_curve(capacity: Capacity, out: Path) -> None:
    """Write the curve of a capacity as an SVG: its limits, value, interval and knee."""
    with row(len(PANELS) + 1) as (figure, axes):
        for panel, (metric, label) in zip(axes, PANELS, strict=False):
            draw_latency(panel, capacity, metric)
            panel.set(title=label)
        draw_share(axes[-1], capacity)
        axes[-1].set(title="share of requests within limits")
        shown = {
            label: handle
            for panel in axes
            for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
        }
        figure.legend(shown.values(), shown.keys(), loc="lower center", ncols=len(shown))
        save_svg(figure, out, "capacity")


def draw_latency(axes: Any, capacity: Capacity, metric: str) -> None:
    """Draw a latency of the curve at p90 and p50, with its limits."""
    loads = [load.at for load in capacity.curve]
    for statistic, line in (("p90", "-"), ("p50", ":")):
        values = [load.figures[f"{metric}_{statistic}_ns"] for load in capacity.curve]
        times = [float("nan") if value is None else value / 1e6 for value in values]
        axes.plot(loads, times, line, color=SIM, marker=".", label=statistic)
    for limit in capacity.limits.limits:
        if limit.metric == metric:
            axes.axhline(limit.most_ns / 1e6, color=REAL, linewidth=1, label="limit")
    log_scale(axes, "y")
    _mark(axes, capacity)


def draw_share(axes: Any, capacity: Capacity) -> None:
    """Draw the share of good requests of the curve."""
    loads = [load.at for load in capacity.curve]
    axes.plot(loads, [load.goodput for load in capacity.curve], color=SIM, marker=".")
    axes.set_ylim(0, 1.05)
    _mark(axes, capacity)


def _mark(panel: Any, capacity: Capacity) -> None:
    panel.axvline(capacity.value, color=REAL, linewidth=1, linestyle="--", label="capacity")
    if capacity.interval is not None:
        panel.axvspan(*capacity.interval, color=REAL, alpha=0.12, linewidth=0, label="its interval")
    if capacity.knee is not None:
        panel.axvline(capacity.knee, color=REAL, linewidth=0.8, linestyle=":", label="knee")
    panel.set_xlabel(capacity.axis.unit)
