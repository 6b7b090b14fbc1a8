"""The page of ``gpusim points --report``: measured against simulated, and what was refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_gpusim.artifacts import package_version, provenance, sha256_file, utc_now
from pytest_gpusim.compare.format import milliseconds, signed_percent
from pytest_gpusim.profiling.silicon_files import PACKAGE
from pytest_gpusim.progress import ticked
from pytest_gpusim.report.bars import common_reach, error_marks
from pytest_gpusim.report.charts.canvas import (
    BAND,
    GRID,
    REAL,
    SIM,
    legend_above,
    log_scale,
    unit,
)
from pytest_gpusim.report.inline import drawn
from pytest_gpusim.report.page import write_page

_METRICS = {"tpot": "TPOT", "ttft": "TTFT"}
_MARKERS = "osD^vP*X"
_GUIDE = 0.10
_ESTIMATE = "AIConfigurator's estimate"


def write_points_page(document: Mapping[str, Any], table: Path, out: Path) -> None:
    """Write what `judge_points` found of ``table`` as one file without references.

    A table has no tolerances, so nothing passes here: errors stand beside AIConfigurator's own.
    """
    rows = [row for row in document["points"] if "refused" not in row]
    refused: dict[str, list[str]] = {}
    for row in document["points"]:
        if "refused" in row:
            refused.setdefault(row["refused"], []).append(_place(row))
    summary = document["summary"]
    # Ours decide: an estimate that is three times off would squeeze all others together.
    reach = common_reach(row["tpot_error"] for row in rows)
    write_page(
        out,
        "points.html.j2",
        title=f"{summary['simulated']} of {summary['points']} measured points simulated",
        sentence=_sentence(rows),
        simulator=document["simulator"],
        scatters=[_scatters(rows, metric) for metric in _METRICS] if rows else [],
        guide=_GUIDE,
        configurations=summary["by_configuration"],
        releases=summary["by_release"],
        rows=_table(rows, reach),
        reach=reach,
        refused=refused,
        clients=document["clients"],
        table=str(table),
        digest=sha256_file(table),
        silicon=package_version(PACKAGE.replace("_", "-")),
        made={**provenance(), "at": utc_now()},
    )


def _place(row: Mapping[str, Any]) -> str:
    precision = f" {row['precision']}" if row["precision"] else ""
    return (
        f"{row['model']}{precision} on {row['tensor_parallel']} × {row['hardware']}, "
        f"{row['isl']} in, {row['osl']} out, {row['concurrency']} clients"
    )


def _sentence(rows: Sequence[Mapping[str, Any]]) -> str:
    """How large the errors are, and which is the largest."""
    if not rows:
        return "No point could be simulated."
    parts = []
    for metric, label in _METRICS.items():
        worst = max(rows, key=lambda row: abs(row[f"{metric}_error"]))
        size = _mean_size(rows, f"{metric}_error")
        largest = signed_percent(worst[f"{metric}_error"])
        parts.append(f"{label} is off by {size:.1%} in the mean, at most {largest}")
    return "; ".join(parts) + "."


def _mean_size(rows: Sequence[Mapping[str, Any]], name: str) -> float:
    return float(sum(abs(row[name]) for row in rows) / len(rows))


def _table(rows: Sequence[Mapping[str, Any]], reach: float) -> list[dict[str, Any]]:
    return [
        {
            **row,
            "place": _place(row),
            "bar": error_marks(
                f"TPOT of {_place(row)}",
                row["tpot_error"],
                row["estimate_tpot_error"],
                _ESTIMATE,
                reach,
            ),
            "measured": {name: milliseconds(1e6 * float(row[f"{name}_ms"])) for name in _METRICS},
            "simulated": {name: milliseconds(1e6 * row[f"sim_{name}_ms"]) for name in _METRICS},
        }
        for row in rows
    ]


def _scatters(rows: Sequence[Mapping[str, Any]], metric: str) -> dict[str, Any]:
    """A chart for each model, its points marked by hardware."""
    models: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        models.setdefault(row["model"], []).append(row)
    charts = [
        {"title": model, "caption": "", "svg": _scatter(members, metric, f"{metric}{number}")}
        for number, (model, members) in enumerate(
            ticked(sorted(models.items()), f"draw {_METRICS[metric]}", len(models), "charts"), 1
        )
    ]
    return {"title": f"{_METRICS[metric]}, measured against simulated", "charts": charts}


def _scatter(rows: Sequence[Mapping[str, Any]], metric: str, name: str) -> str:
    import numpy as np

    kinds: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        kinds.setdefault(row["hardware"], []).append(row)
    said = f"{_METRICS[metric]} of {rows[0]['model']}, simulated against measured: " + "; ".join(
        f"{len(members)} points on {kind}, off by {_mean_size(members, f'{metric}_error'):.1%} "
        "in the mean"
        for kind, members in kinds.items()
    )

    def times(members: Sequence[Mapping[str, Any]], column: str) -> Any:
        return np.array([float(row[column]) for row in members]) * 1e6

    def draw(axes: Any) -> None:
        both = [times(rows, f"{metric}_ms"), times(rows, f"sim_{metric}_ms")]
        label, scale = unit(*both)
        ends = np.array(
            [min(each.min() for each in both) / 1.25, max(each.max() for each in both) * 1.25]
        )
        ends /= scale
        axes.fill_between(ends, ends * (1 - _GUIDE), ends * (1 + _GUIDE), color=GRID, lw=0)
        axes.plot(ends, ends, color=BAND, lw=1)
        for number, (kind, members) in enumerate(sorted(kinds.items())):
            axes.plot(
                times(members, f"{metric}_ms") / scale,
                times(members, f"sim_{metric}_ms") / scale,
                _MARKERS[number % len(_MARKERS)],
                color=REAL if number % 2 else SIM,
                ms=5,
                alpha=0.7,
                mew=0,
                label=kind,
            )
        axes.set_xlim(*ends)
        axes.set_ylim(*ends)
        log_scale(axes, "x", "y")
        axes.set_xlabel(f"measured, {label}")
        axes.set_ylabel(f"simulated, {label}")
        legend_above(axes)

    return drawn(name, said, draw)
