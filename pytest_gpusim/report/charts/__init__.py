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
    series: ComparisonSeries,
    out: Path,
    *,
    tolerances: Mapping[str, float] | None = None,
    of_tolerances: bool | None = None,
) -> None:
    """Write the charts that the values allow into the directory ``out``, made where it is absent.

    Args:
        series: What is drawn.
        out: The directory; charts that are there are replaced.
        tolerances: Metric -> the tolerance that its requests are shown against.
        of_tolerances: Only the charts that show tolerances, or only the others; None: all.
    """
    out.mkdir(exist_ok=True)
    asked = (c for c in CHARTS if of_tolerances is None or c.shows_tolerance is of_tolerances)
    write_charts(asked, series, tolerances or {}, out)
