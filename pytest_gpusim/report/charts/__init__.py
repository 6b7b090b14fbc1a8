"""The charts of a comparison, as SVG files that are the same for the same values.

A chart is one entry of `CHARTS`: the page, the directory and the text beside each follow from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pytest_gpusim.compare.series import ComparisonSeries
from pytest_gpusim.report.charts.canvas import Chart, write_charts
from pytest_gpusim.report.charts.requests import REQUEST_CHARTS
from pytest_gpusim.report.charts.steps import STEP_CHARTS

CHARTS: tuple[Chart, ...] = (*REQUEST_CHARTS, *STEP_CHARTS)
"""In the order of the page; ``figures/<name>.svg``."""


def draw_charts(
    series: ComparisonSeries, out: Path, *, tolerances: Mapping[str, float] | None = None
) -> None:
    """Write the charts that the values allow into the directory ``out``, made where it is absent.

    Args:
        series: What is drawn.
        out: The directory; charts that are there are replaced.
        tolerances: Metric -> the tolerance that its requests are shown against.
    """
    out.mkdir(exist_ok=True)
    write_charts(CHARTS, series, tolerances or {}, out)


def draw_judged_charts(
    series: ComparisonSeries, out: Path, tolerances: Mapping[str, float]
) -> None:
    """Draw again those charts that show tolerances, once there are some."""
    write_charts((chart for chart in CHARTS if chart.shows_tolerance), series, tolerances, out)
