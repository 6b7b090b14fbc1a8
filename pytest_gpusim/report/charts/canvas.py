"""What all charts share: their declaration, size, colours, and how they become files."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_gpusim.artifacts import atomic_file
from pytest_gpusim.compare.series import ComparisonSeries
from pytest_gpusim.progress import counted

if TYPE_CHECKING:
    import numpy as np

REAL, SIM, BAND, GRID, INK = "#334155", "#d9480f", "#94a3b8", "#e2e8f0", "#475569"
"""Colours in the files; a page replaces each by its own of the same role."""
MANY = 2000
"""Above so many points, an SVG of single marks is too heavy."""
_WIDE = 2.5  # tens on a logarithmic axis
_WIDTH, _HEIGHT = 4.2, 2.7  # inches: legible on a narrow page, where a chart fills its width
STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Helvetica", "Arial"],
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": BAND,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
}

Draw = Callable[[Any, ComparisonSeries, Mapping[str, float]], bool]
"""Draws on axes what there is; False where there is nothing to draw."""


@dataclass(frozen=True)
class Chart:
    """One chart.

    Attributes:
        name: Its file, without ``.svg``.
        title: What stands above it.
        group: The heading that it stands under.
        caption: What it shows, in a sentence.
        draw: See `Draw`.
        metric: The metric that it is of, where it is of one.
        shows_tolerance: Whether it is drawn when figures are judged.
    """

    name: str
    title: str
    group: str
    caption: str
    draw: Draw
    metric: str | None = None
    shows_tolerance: bool = False


def write_charts(
    charts: Iterable[Chart], series: ComparisonSeries, tolerances: Mapping[str, float], out: Path
) -> None:
    """Draw charts into ``out``; where there is nothing to draw, nothing is written.

    All on the same axes: to make axes and their ticks takes longer than to draw what is in them.
    """
    with style() as figure:
        axes = figure.subplots()
        several = list(charts)
        for chart in counted(several, "draw", len(several), "charts"):
            if chart.draw(axes, series, tolerances):
                save_svg(figure, out / f"{chart.name}.svg", chart.name)
                _empty(axes)


def _empty(axes: Any) -> None:
    """Bring axes back to where they were before a chart, but for the words beside them.

    ``Axes.clear`` would throw the ticks away as well.
    """
    from matplotlib.ticker import AutoLocator

    for artist in (*axes.collections, *axes.lines, *axes.patches):
        artist.remove()
    if legend := axes.get_legend():
        legend.remove()
    axes.relim()
    axes.autoscale()
    axes.xaxis.set_major_locator(AutoLocator())


@contextmanager
def style() -> Iterator[Any]:
    """A figure of a chart's size and looks."""
    Figure = figure_class()
    import matplotlib as mpl

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(_WIDTH, _HEIGHT))
        # Fixed margins: layout engines are slow.
        figure.subplots_adjust(left=0.17, right=0.97, top=0.9, bottom=0.19)
        yield figure


@contextmanager
def row(count: int) -> Iterator[tuple[Any, Sequence[Any]]]:
    """A figure of charts beside each other and their axes, for a file of its own: on white."""
    Figure = figure_class()
    import matplotlib as mpl

    with mpl.rc_context({**STYLE, "savefig.facecolor": "white"}):
        figure = Figure(figsize=(3 * count, 3))
        figure.subplots_adjust(left=0.16 / count, right=0.99, wspace=0.25)
        make_room(figure, 1)
        yield figure, figure.subplots(1, count, squeeze=False)[0]


def make_room(figure: Any, lines: int) -> None:
    """Let a row of charts end as high above its lower edge as a legend of so many lines needs."""
    below, height = 0.52 + 0.2 * lines, 2.8 + 0.2 * lines
    figure.set_figheight(height)
    figure.subplots_adjust(top=1 - 0.28 / height, bottom=below / height)


def figure_class() -> Any:
    """matplotlib's ``Figure``, loaded without a word.

    That its cache of fonts is made, or that it and its settings cannot be written (a disk that is
    full, a home that is not ours), is logged as it is imported, and nobody's business here.
    """
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    logger = logging.getLogger("matplotlib")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        from matplotlib.figure import Figure
    finally:
        logger.setLevel(before)
    return Figure


def save_svg(figure: Any, out: Any, name: str) -> None:
    """Write a figure to a path or a stream, without the day and the program.

    ``name`` is what the ids inside the file follow from, so that they are the same each time.
    """
    import matplotlib as mpl

    with (
        mpl.rc_context({"svg.hashsalt": name}),
        atomic_file(out) if isinstance(out, Path) else nullcontext(out) as target,
    ):
        figure.savefig(target, format="svg", metadata={"Date": None, "Creator": None})


def unit(*columns: np.ndarray) -> tuple[str, float]:
    """Unit and its ns for values: s where the largest is above 5 s, else ms."""
    largest = max((float(column.max()) for column in columns if len(column)), default=0.0)
    return ("s", 1e9) if largest > 5e9 else ("ms", 1e6)


def legend_above(axes: Any, **looks: Any) -> None:
    """A legend in a line above the axes: within them it would lie over what is drawn."""
    place = {"loc": "lower right", "bbox_to_anchor": (1.0, 1.0), "borderaxespad": 0.1}
    axes.legend(**place, ncols=9, fontsize=9, columnspacing=1.2, handletextpad=0.5, **looks)


def few_ticks(axis: Any) -> None:
    """At most six ticks on the horizontal axis: numbers must not touch."""
    from matplotlib.ticker import MaxNLocator

    axis.xaxis.set_major_locator(MaxNLocator(5))


def log_scale(axes: Any, *which: str) -> None:
    """Logarithmic axes (``x``, ``y``) whose ticks are plain numbers: 1, 2, 5 and their tens.

    Beyond two and a half tens only those, where the limits are set before.
    """
    from math import log10

    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    for name in which:
        low, high = getattr(axes, f"get_{name}lim")()
        wide = low > 0 and log10(high / low) > _WIDE
        getattr(axes, f"set_{name}scale")("log")
        axis = getattr(axes, f"{name}axis")
        axis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0)))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
