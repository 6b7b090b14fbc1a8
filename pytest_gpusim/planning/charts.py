"""Latency and goodput against load, as SVGs that are the same for the same values."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_gpusim.report.charts.canvas import REAL, SIM, STYLE, log_scale

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_gpusim.planning.capacity import Capacity
    from pytest_gpusim.planning.decision import Decision
    from pytest_gpusim.planning.question import Measured, Question

PANELS = (("ttft", "TTFT, ms"), ("tpot", "TPOT, ms"), ("e2e", "E2E, ms"))


def draw_curve(capacity: Capacity, out: Path) -> None:
    """Write the curve of a capacity, its limits, value, interval and knee."""
    import matplotlib as mpl

    with mpl.rc_context({**STYLE, "svg.hashsalt": "capacity"}):
        from matplotlib.figure import Figure

        figure = Figure(figsize=(12, 3.2))
        figure.subplots_adjust(left=0.05, right=0.99, top=0.88, bottom=0.16, wspace=0.25)
        panels = figure.subplots(1, len(PANELS) + 1)
        for panel, (metric, label) in zip(panels, PANELS, strict=False):
            draw_latency(panel, capacity, metric)
            panel.set(title=label)
        draw_share(panels[-1], capacity)
        panels[-1].set(title="share of requests within limits")
        panels[0].legend()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})


def draw_latency(axes: Any, capacity: Capacity, metric: str) -> None:
    """Draw a latency of the curve at p90 and p50, with its limits."""
    loads = [load.at for load in capacity.curve]
    for statistic, line in (("p90", "-"), ("p50", ":")):
        values = [load.figures[f"{metric}_{statistic}_ns"] for load in capacity.curve]
        times = [float("nan") if value is None else value / 1e6 for value in values]
        axes.plot(loads, times, line, color=SIM, marker=".", label=statistic)
    for limit in capacity.limits.limits:
        if limit.metric == metric:
            axes.axhline(limit.most_ns / 1e6, color=REAL, linewidth=1)
    log_scale(axes, "y")
    _mark(axes, capacity)


def draw_share(axes: Any, capacity: Capacity) -> None:
    """Draw the share of good requests of the curve."""
    loads = [load.at for load in capacity.curve]
    axes.plot(loads, [load.goodput for load in capacity.curve], color=SIM, marker=".")
    axes.set_ylim(0, 1.05)
    _mark(axes, capacity)


def _mark(panel: Any, capacity: Capacity) -> None:
    panel.axvline(capacity.value, color=REAL, linewidth=1, linestyle="--")
    if capacity.interval is not None:
        panel.axvspan(*capacity.interval, color=REAL, alpha=0.12, linewidth=0)
    if capacity.knee is not None:
        panel.axvline(capacity.knee, color=REAL, linewidth=0.8, linestyle=":")
    panel.set_xlabel(capacity.axis.unit)


def draw_decision(question: Question, decisions: Sequence[Decision], out: Path) -> None:
    """Write latency at p90 against load, both sides of each setting, and who chooses which."""
    import matplotlib as mpl

    with mpl.rc_context({**STYLE, "svg.hashsalt": "decision"}):
        from matplotlib.figure import Figure

        figure = Figure(figsize=(12, 3.6))
        figure.subplots_adjust(left=0.05, right=0.78, top=0.88, bottom=0.15, wspace=0.25)
        panels = figure.subplots(1, len(PANELS))
        choices = {
            name: [word for word, chosen in _choosers(decisions) if chosen == name]
            for name in question.settings
        }
        for number, (name, sides) in enumerate(question.settings.items()):
            words = ", ".join(dict.fromkeys(choices[name]))
            label = f"{name} <- {words}" if words else name
            for panel, (metric, title) in zip(panels, PANELS, strict=True):
                key, color = f"{metric}_p90_ns", f"C{number}"
                for runs, style in ((sides.real, "-"), (sides.simulated, ":")):
                    loads = sorted(runs)
                    times = [_mean_ms(runs[load], key) for load in loads]
                    shown = label if style == "-" else None
                    panel.plot(loads, times, style, marker=".", color=color, label=shown)
                panel.set(title=f"{title}, p90", xlabel="load")
                log_scale(panel, "y")
        handles, labels = panels[-1].get_legend_handles_labels()
        figure.legend(handles, labels, loc="center right", title="solid: real, dotted: simulated")
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})


def _choosers(decisions: Sequence[Decision]) -> list[tuple[str, str]]:
    real = [("real", decision.real_choice.name) for decision in decisions]
    return real + [("simulated", decision.simulated_choice.name) for decision in decisions]


def _mean_ms(runs: Sequence[Measured], key: str) -> float:
    values = [float(v) for run in runs if (v := run.figures[key]) is not None]
    return sum(values) / len(values) / 1e6 if values else float("nan")
