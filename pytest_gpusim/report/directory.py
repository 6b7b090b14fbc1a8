"""The comparison's directory: JSON, tables, charts, summary and report."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pytest_gpusim.artifacts import atomic_directory, atomic_file
from pytest_gpusim.compare.comparison import Comparison
from pytest_gpusim.compare.document import document_of
from pytest_gpusim.compare.metrics import PER_REQUEST
from pytest_gpusim.compare.series import paired_requests, series_of
from pytest_gpusim.report.versions import COMPARISON, META

SUMMARY, REPORT = "summary.md", "report.html"


def write_comparison(comparison: Comparison, out: Path, *, to_be_judged: bool = False) -> None:
    """Write a comparison at ``out``, whole or not at all.

    Args:
        comparison: What is written.
        out: The directory.
        to_be_judged: Leave the charts that show tolerances to `update_comparison`.

    Raises:
        UsageError: ``out`` exists and is not an empty directory.
    """
    from pytest_gpusim.report.charts import draw_charts

    with atomic_directory(out) as partial:
        (partial / "tables").mkdir()
        _write_percentiles(comparison, partial / "tables" / "percentiles.csv")
        _write_requests(comparison, partial / "tables" / "requests.csv")
        draw_charts(
            series_of(comparison.sides),
            partial / "figures",
            tolerances=_tolerances(comparison),
            of_tolerances=False if to_be_judged else None,
        )
        for name, text in _documents(comparison, partial, out).items():
            (partial / name).write_text(text, encoding="utf-8")


def update_comparison(comparison: Comparison, path: Path) -> None:
    """Bring the comparison written at ``path`` up to date with its judgements, and the charts that
    show tolerances; tables and other charts stay.
    """
    from pytest_gpusim.report.charts import draw_charts

    draw_charts(
        series_of(comparison.sides),
        path / "figures",
        tolerances=_tolerances(comparison),
        of_tolerances=True,
    )
    for name, text in _documents(comparison, path, path).items():
        with atomic_file(path / name) as partial:
            partial.write_text(text, encoding="utf-8")


def _tolerances(comparison: Comparison) -> dict[str, float]:
    """Metric -> the tolerance that its requests are shown against: the tightest of its figures."""
    found: dict[str, float] = {}
    for item in comparison.judgements:
        if item.metric in PER_REQUEST and item.decided_by == "tolerance":
            found[item.metric] = min(item.tolerance, found.get(item.metric, item.tolerance))
    return found


def _documents(comparison: Comparison, place: Path, out: Path) -> dict[str, str]:
    """The text of each file that depends on the judgements; charts are read from ``place``."""
    from pytest_gpusim.report.html import comparison_html
    from pytest_gpusim.report.summary import summary_markdown

    document = document_of(comparison, out)
    return {
        COMPARISON: _json_text(document.comparison),
        META: _json_text(document.meta),
        SUMMARY: summary_markdown(document),
        REPORT: comparison_html(document, place / "figures"),
    }


def _json_text(document: Any) -> str:
    return json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def _write_percentiles(comparison: Comparison, path: Path) -> None:
    rows: list[list[Any]] = []
    for figure in comparison.figures.by_name.values():
        if figure.metric.unit != "ns":
            continue
        found = figure.estimate
        numbers = (round(found.real), round(found.sim), found.error, found.relative_sd)
        ends = found.interval or (None, None)
        rows.append([figure.metric.name, figure.statistic.name, *map(_cell, (*numbers, *ends))])
    header = ["metric", "statistic", "real_ns", "sim_ns", "error", "run_sd", "low", "high"]
    _write_table(path, header, rows)


def _write_requests(comparison: Comparison, path: Path) -> None:
    """A row per request that counts: median over the real runs, simulated value, error."""
    table = paired_requests(comparison.sides).sort_index()
    for metric in PER_REQUEST:
        real, sim = table.pop(f"real_{metric}"), table.pop(f"sim_{metric}")
        table[f"real_{metric}_ns"], table[f"sim_{metric}_ns"] = real.round(), sim.round()
        table[f"{metric}_error"] = (sim - real) / real.where(real > 0)
    columns = (map(_cell, table[name].tolist()) for name in table.columns)
    header = ["request_id", *table.columns]
    header[header.index("num_tokens")] = "num_decode_tokens_actual"
    _write_table(path, header, zip(table.index.tolist(), *columns, strict=True))


def _write_table(path: Path, header: list[str], rows: Iterable[Sequence[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def _cell(value: Any) -> Any:
    """A number as it is written: whole ones as integers, ratios to nine digits, no NaN."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) >= 1 else f"{value:.9g}"
    return value
