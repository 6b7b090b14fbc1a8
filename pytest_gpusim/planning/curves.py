"""A figure against load, a curve for each setting: how the pages and charts of planning draw it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from pytest_gpusim.errors import plain_lines
from pytest_gpusim.planning.decision import student
from pytest_gpusim.progress import counted
from pytest_gpusim.report.charts.canvas import REAL, few_ticks, log_scale, make_room, row, save_svg
from pytest_gpusim.report.inline import drawn

if TYPE_CHECKING:
    from collections.abc import Callable

# Told apart by people who see colours otherwise, on white and on dark (after Okabe and Ito).
_COLOURS = ("#0284c7", "#d97706", "#059669", "#c026d3", "#dc2626", "#7c6f64")
_MARKERS, _SIGNS = "os^Dvp", "●■▲◆▼⬟"
_FAR_APART = 5.0  # largest over smallest value, above which an axis is logarithmic

ByLoad = Mapping[float, Sequence[float]]
"""Load -> the values of its repeats, or of its seeds."""


@dataclass(frozen=True)
class Curve:
    """One setting.

    Attributes:
        setting: Its name.
        solid: Measured values, or the only ones: a mark for each, a line through their means, bars
            for Student's interval at 90%.
        dashed: Simulated values beside them: open marks.
        choice: Who chooses it; such a curve is thick.
        knee: The load at which it bends most, where it does.
    """

    setting: str
    solid: ByLoad
    dashed: ByLoad
    choice: str = ""
    knee: float | None = None


@dataclass(frozen=True)
class Panel:
    """One figure of several settings against load.

    Attributes:
        name: Its own on a page.
        title: The figure and its unit.
        curves: One for each setting, in the order of the settings.
        limit: What the figure may be at most, where that is stated.
    """

    name: str
    title: str
    curves: tuple[Curve, ...]
    limit: float | None = None

    @property
    def said(self) -> str:
        """What it shows, in words."""
        parts = [
            f"{curve.setting} at load {load:g}: " + ", ".join(_said(curve, load))
            for curve in self.curves
            for load in curve.solid
        ]
        if self.limit is not None:
            parts.append(f"the limit is {self.limit:.4g}")
        parts += [
            f"the knee of {curve.setting} is at {curve.knee:g}"
            for curve in self.curves
            if curve.knee is not None
        ]
        return f"{self.title} against load. {'; '.join(parts)}"


def _said(curve: Curve, load: float) -> Iterator[str]:
    mean = f"{fmean(curve.solid[load]):.4g}"
    yield f"real {mean}" if curve.dashed else mean
    if load in curve.dashed:
        yield f"simulated {fmean(curve.dashed[load]):.4g}"


def known_by_load(
    runs: Mapping[float, Sequence[Any]], value: Callable[[Any], float | None]
) -> dict[float, list[float]]:
    """What ``value`` finds of the runs at each load, loads ascending; those of which it is None
    are left out.
    """
    found = {
        load: [known for run in runs[load] if (known := value(run)) is not None]
        for load in sorted(runs)
    }
    return {load: values for load, values in found.items() if values}


def charts_of(panels: Sequence[Panel], unit: str) -> list[dict[str, str]]:
    """Panels as charts of a page; ``unit`` is that of the load."""
    return [_chart(panel, unit) for panel in counted(panels, "draw", len(panels), "charts")]


def _chart(panel: Panel, unit: str) -> dict[str, str]:
    svg = drawn(panel.name, panel.said, lambda axes: draw(axes, panel, unit))
    return {"title": panel.title, "caption": "", "svg": svg}


def legend_of(curves: Sequence[Curve]) -> list[dict[str, str]]:
    """Colour, sign, name and choice of each setting, for a page's legend."""
    return [
        {
            "name": curve.setting,
            "colour": _COLOURS[number % len(_COLOURS)],
            "mark": _SIGNS[_mark(number)],
            "choice": curve.choice,
        }
        for number, curve in enumerate(curves)
    ]


def draw(axes: Any, panel: Panel, unit: str) -> None:
    """Draw a panel on axes."""
    shown: list[float] = []
    for number, curve in enumerate(panel.curves):
        look, width = _look(number), 2.2 if curve.choice else 1.1
        means = [fmean(values) for values in curve.solid.values()]
        axes.errorbar(list(curve.solid), means, yerr=_bars(curve.solid), lw=width, ms=0,
                      capsize=3, elinewidth=1, **look)  # fmt: skip
        for load, values in curve.solid.items():
            axes.plot([load] * len(values), values, linestyle="", ms=4, alpha=0.8, **look)
        simulated = [fmean(values) for values in curve.dashed.values()]
        axes.plot(list(curve.dashed), simulated, "--", lw=width, ms=5.5, mfc="none", **look)
        if curve.knee is not None:
            axes.axvline(curve.knee, color=look["color"], lw=1, ls=":")
        shown += [value for values in curve.solid.values() for value in values] + simulated
    if panel.limit is not None:
        axes.axhline(panel.limit, color=REAL, lw=1, ls=":")
    axes.set_xlabel(unit)
    few_ticks(axes)
    if shown and 0 < min(shown) < max(shown) / _FAR_APART:
        log_scale(axes, "y")
    else:
        axes.set_ylim(bottom=0)


def draw_row(panels: Sequence[Panel], unit: str, out: Path) -> None:
    """Write the panels beside each other as an SVG, with a legend of settings and lines."""
    with row(len(panels)) as (figure, axes):
        for each, panel in zip(axes, panels, strict=True):
            draw(each, panel, unit)
            each.set(title=panel.title)
        handles = list(_handles(panels))
        columns = 2 * len(panels)
        make_room(figure, math.ceil(len(handles) / columns))
        figure.legend(handles=handles, loc="lower center", ncols=columns)
        save_svg(figure, out, "load")


def _handles(panels: Sequence[Panel]) -> Iterator[Any]:
    """A line of the legend for each setting, each side, and the limit."""
    from matplotlib.lines import Line2D

    curves = panels[0].curves
    for number, curve in enumerate(curves):
        # matplotlib takes $ for formulas, and leaves out what begins with _.
        name = plain_lines(curve.setting).replace("$", r"\$")
        name = f" {name}" if name.startswith("_") else name
        label = f"{name} ({curve.choice})" if curve.choice else name
        yield Line2D([], [], lw=2.2 if curve.choice else 1.1, label=label, **_look(number))
    if any(curve.dashed for curve in curves):
        yield Line2D([], [], color=REAL, lw=1.1, marker="o", ms=4, label="real")
        yield Line2D([], [], color=REAL, lw=1.1, ls="--", marker="o", mfc="none", label="simulated")
    if any(panel.limit is not None for panel in panels):
        yield Line2D([], [], color=REAL, lw=1, ls=":", label="limit")


def _mark(number: int) -> int:
    """Where colours come again, other marks go with them."""
    return (number + number // len(_COLOURS)) % len(_MARKERS)


def _look(number: int) -> dict[str, Any]:
    return {"color": _COLOURS[number % len(_COLOURS)], "marker": _MARKERS[_mark(number)]}


def _bars(repeats: ByLoad) -> list[list[float]]:
    """Below and above each mean: Student's interval of the repeats' logarithms, at 90%."""
    below, above = [], []
    for values in repeats.values():
        mean = fmean(values)
        ends = student([math.log(v) for v in values]) if all(v > 0 for v in values) else None
        below.append(max(0.0, mean - math.exp(ends[0])) if ends else 0.0)
        above.append(max(0.0, math.exp(ends[1]) - mean) if ends else 0.0)
    return [below, above]
