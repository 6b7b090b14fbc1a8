"""A sweep for people: latency against load for each setting, and the table; the table alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from pytest_gpusim.artifacts import provenance, utc_now
from pytest_gpusim.compare.format import UNKNOWN, milliseconds
from pytest_gpusim.planning.curves import Curve, Panel, charts_of, known_by_load, legend_of
from pytest_gpusim.planning.sweep import Row, Sweep
from pytest_gpusim.printing import WIDE, table_lines
from pytest_gpusim.report.load import knee
from pytest_gpusim.report.page import write_page

PAGE = "sweep.html"
_LOADS = {"load.rate": "requests/s", "load.concurrency": "clients"}
_SEED = "load.seed"
_SHOWN = {
    "TTFT p90": "ttft_p90_ns",
    "TPOT p90": "tpot_p90_ns",
    "E2E p90": "e2e_p90_ns",
    "output tokens/s": "output_tokens_per_s",
}
_KNEE = "ttft_p90_ns"
_IN_S = 5e9
"""Times above are shown in s."""
_COLUMNS = {
    "served/s": "requests_per_s",
    "tokens/s": "output_tokens_per_s",
    **{
        f"{metric.upper()} {each}": f"{metric}_{each}_ns"
        for metric in ("ttft", "tpot", "e2e")
        for each in ("p50", "p90")
    },
    "preemptions": "preemptions",
}
_NARROW_COLUMNS = ("tokens/s", "TTFT p90", "TPOT p90", "E2E p90")
_MANY = 2000
"""Rows of the page at most; the table in the file has all."""


def write_sweep_page(sweep: Sweep, out: Path) -> None:
    """Write the page, one file that asks for no other."""
    load = next((name for name in _LOADS if name in sweep.axes and _is_load(sweep, name)), None)
    panels = [] if load is None else list(_panels(sweep, load))
    done = [row for row in sweep.rows if row.status == "done"]
    write_page(
        out,
        "sweep.html.j2",
        title=f"Sweep: {len(done)} of {len(sweep.rows)} points simulated",
        charts=charts_of(panels, _LOADS.get(str(load), "")),
        legend=legend_of(panels[0].curves) if panels else [],
        has_knee=any(curve.knee is not None for panel in panels for curve in panel.curves),
        over_seeds=_SEED in sweep.axes,
        axes=_short_names(sweep.axes),
        columns=list(_COLUMNS),
        rows=[_shown(sweep, row) for row in done[:_MANY]],
        left_out=max(0, len(done) - _MANY),
        others=[row for row in sweep.rows if row.status != "done"],
        path=str(sweep.path),
        made={**provenance(), "at": utc_now()},
    )


def sweep_lines(sweep: Sweep, width: int) -> list[str]:
    """The table of what is done, for a terminal of so many columns; the file has all figures."""
    done = [row for row in sweep.rows if row.status == "done"]
    columns = _COLUMNS if width >= WIDE else {name: _COLUMNS[name] for name in _NARROW_COLUMNS}
    rows = [
        [
            *(_text(row.place[name]) for name in sweep.axes),
            *(_cell(figure, (row.figures or {}).get(figure)) for figure in columns.values()),
        ]
        for row in done
    ]
    header = [*_short_names(sweep.axes), *columns]
    table = table_lines(header, rows, width, texts=range(len(sweep.axes)), indent=0)
    left = len(sweep.rows) - len(done)
    return [*table, f"{len(done)} points" + (f", {left} others are not done" if left else "")]


def _cell(figure: str, value: float | int | None) -> str:
    if figure.endswith("_ns"):
        return milliseconds(value)
    return UNKNOWN if value is None else f"{value:.4g}"


def _is_load(sweep: Sweep, name: str) -> bool:
    return len({row.place[name] for row in sweep.rows if row.status == "done"}) > 1


def _panels(sweep: Sweep, load: str) -> Iterable[Panel]:
    """Each figure against the load; a curve for each combination of the other axes, seeds in it."""
    varying = [name for name in sweep.axes if len({row.place[name] for row in sweep.rows}) > 1]
    others = [name for name in varying if name not in (load, _SEED)]
    short = dict(zip(sweep.axes, _short_names(sweep.axes), strict=True))
    runs: dict[str, dict[float, list[Mapping[str, Any]]]] = {}
    for row in sweep.rows:
        if row.status == "done" and row.figures:
            setting = ", ".join(f"{short[name]}={_text(row.place[name])}" for name in others)
            by_load = runs.setdefault(setting or "all points", {})
            by_load.setdefault(float(row.place[load]), []).append(row.figures)
    for title, figure in _SHOWN.items():
        scale = 1.0
        if figure.endswith("_ns"):
            many = (one[figure] for each in runs.values() for few in each.values() for one in few)
            seconds = max((time for time in many if time is not None), default=0) > _IN_S
            title, scale = (f"{title}, s", 1e-9) if seconds else (f"{title}, ms", 1e-6)
        value = partial(_scaled, figure, scale)
        curves = []
        for setting, each in runs.items():
            points = known_by_load(each, value)
            bend = knee(list(points), [fmean(values) for values in points.values()])
            curves.append(Curve(setting, points, {}, knee=bend if figure == _KNEE else None))
        yield Panel(figure.removesuffix("_ns"), title, tuple(curves))


def _scaled(figure: str, scale: float, figures: Mapping[str, Any]) -> float | None:
    found = figures[figure]
    return None if found is None else float(found) * scale


def _short_names(axes: Sequence[str]) -> list[str]:
    """The axes without their tables, where that tells them apart."""
    short = [name.rpartition(".")[2] for name in axes]
    return [
        each if short.count(each) == 1 else name for each, name in zip(short, axes, strict=True)
    ]


def _text(value: Any) -> str:
    """A value of an axis; of a path its last part."""
    return value.rpartition("/")[2] if isinstance(value, str) else str(value)


def _shown(sweep: Sweep, row: Row) -> dict[str, Any]:
    figures = row.figures or {}
    cells = [
        (name, figures.get(figure), figure.endswith("_ns")) for name, figure in _COLUMNS.items()
    ]
    return {"place": [_text(row.place[name]) for name in sweep.axes], "cells": cells}
