"""The comparison's directory: JSON, tables, figures, summary and report."""

from __future__ import annotations

import csv
import json
import math
import os
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_gpusim.artifacts import (
    SCHEMA_VERSION,
    atomic_directory,
    provenance,
    utc_now,
)
from pytest_gpusim.compare.metrics import PER_REQUEST
from pytest_gpusim.compare.series import paired_requests, series_of
from pytest_gpusim.report.document import ComparisonDocument

if TYPE_CHECKING:
    from pytest_gpusim.compare.comparison import Comparison
    from pytest_gpusim.runs import Run

COMPARISON, META, SUMMARY, REPORT = (
    "comparison.json",
    "run_meta.json",
    "summary.md",
    "report.html",
)


def write_comparison(comparison: Comparison, out: Path) -> None:
    """Write a comparison at ``out``, whole or not at all, and remember the place in ``path``.

    Raises:
        UsageError: ``out`` exists and is not an empty directory.
    """
    from pytest_gpusim.report.figures import draw_figures

    with atomic_directory(out) as partial:
        (partial / "tables").mkdir()
        _write_percentiles(comparison, partial / "tables" / "percentiles.csv")
        _write_requests(comparison, partial / "tables" / "requests.csv")
        draw_figures(series_of(comparison.context), partial / "figures")
        for name, text in _documents(comparison, partial, out).items():
            (partial / name).write_text(text, encoding="utf-8")
    comparison.path = Path(out)


def update_comparison(comparison: Comparison) -> None:
    """Bring a written comparison up to date with its judgements; tables and figures stay."""
    assert comparison.path is not None
    for name, text in _documents(comparison, comparison.path, comparison.path).items():
        partial = comparison.path / f".{name}.partial-{os.getpid()}"
        partial.write_text(text, encoding="utf-8")
        partial.replace(comparison.path / name)


def document_of(comparison: Comparison, out: Path | None) -> ComparisonDocument:
    """What reports are made from: the two JSON documents of a comparison at ``out``."""
    from jsonschema import validate

    document = comparison.to_json()
    validate(document, _schema())
    return ComparisonDocument(document, _meta(comparison, out), out)


def _documents(comparison: Comparison, place: Path, out: Path) -> dict[str, str]:
    """The text of each file that depends on the judgements; figures are read from ``place``."""
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


@cache
def _schema() -> Any:
    text = resources.files("pytest_gpusim.compare").joinpath("comparison.schema.json").read_text()
    return json.loads(text)


def _meta(comparison: Comparison, out: Path | None) -> dict[str, Any]:
    context = comparison.context
    real, sim = context.real[0].meta, context.sim.meta
    return {
        "schema_version": SCHEMA_VERSION,
        "run_id": out.name if out is not None else None,
        "run_type": "compare",
        "simulator": sim.get("run_type"),
        "backend": real.get("backend"),
        "model": real.get("model") or sim.get("model"),
        "hardware": real.get("hardware") or sim.get("hardware"),
        "device_name": real.get("device_name"),
        "workload_dir": real.get("workload_dir"),
        "workload_digest": real.get("workload_digest"),
        "profiling_root": sim.get("profiling_root"),
        "profiling_digest": sim.get("profiling_digest"),
        "engine": real.get("engine"),
        "real": [_source(run) for run in context.real],
        "sim": _source(context.sim),
        "judgements": [item.to_json() for item in comparison.judgements],
        "causes": comparison.causes,
        "unavailable": comparison.reasons,
        "num_requests": len(context.sim_metrics.requests),
        "num_left_out": len(context.left_out),
        "attribution": comparison.attribution,
        "written_at": utc_now(),
        **provenance(),
    }


def _source(run: Run) -> dict[str, Any]:
    keys = ("run_type", "workload_digest", "started_at", "git_commit")
    return {
        "run_id": run.run_id,
        "path": str(run.path),
        **{key: run.meta.get(key) for key in keys},
    }


def _write_percentiles(comparison: Comparison, path: Path) -> None:
    keys = ("real_ns", "sim_ns", "error", "noise")
    rows: list[list[Any]] = []
    for metric, table in comparison.metrics.items():
        entries = {"": table} if metric == "makespan" else table
        for statistic, entry in (entries or {}).items():
            if entry is not None:
                rows.append([metric, statistic, *(_cell(entry[key]) for key in keys)])
    _write_table(path, ["metric", "statistic", *keys], rows)


def _write_requests(comparison: Comparison, path: Path) -> None:
    """A row per request that counts: median over the real runs, simulated value, error."""
    table = paired_requests(comparison.context).sort_index()
    for metric in PER_REQUEST:
        real, sim = table.pop(f"real_{metric}"), table.pop(f"sim_{metric}")
        table[f"real_{metric}_ns"], table[f"sim_{metric}_ns"] = real.round(), sim.round()
        table[f"{metric}_error"] = (sim - real) / real.where(real > 0)
    rows = [
        [request_id, *(_cell(value) for value in row)]
        for request_id, row in zip(table.index, table.itertuples(index=False), strict=True)
    ]
    header = ["request_id", *table.columns]
    header[header.index("num_tokens")] = "num_decode_tokens_actual"
    _write_table(path, header, rows)


def _write_table(path: Path, header: list[str], rows: list[list[Any]]) -> None:
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
