"""A grid of simulations: points that are done are not done again, and all end in one table.

::

    OUT/sweep.csv          a row per point: where it lies, its key, status, reason, figures
    OUT/sweep.json         the same, with the axes
    OUT/sweep.html         latency against load and the table, by ``gpusim sweep``
    OUT/points/<key>/      run directories
    OUT/workloads/<id>/    what was generated

A key follows from the content of all inputs, so a grid can grow, be stopped and be run again.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pytest_gpusim.artifacts import atomic_file, made_folder
from pytest_gpusim.deployment import EngineSettings
from pytest_gpusim.errors import GpusimError, InputError, UsageError, printable
from pytest_gpusim.json_documents import SCHEMA_VERSION, write_json
from pytest_gpusim.planning.figures import FIGURES, run_figures
from pytest_gpusim.planning.grid import Coordinates, Grid
from pytest_gpusim.planning.point import Point
from pytest_gpusim.planning.workers import Outcome
from pytest_gpusim.progress import ticked
from pytest_gpusim.registry import Registry

TABLE, DOCUMENT = "sweep.csv", "sweep.json"

Execute = Callable[[Sequence[Point], Path], Iterator[Outcome]]
"""Runs points into ``directory / key``, in any order."""
Status = Literal["done", "failed", "not run"]


@dataclass(frozen=True)
class Row:
    """A point of the grid and what became of it.

    Attributes:
        place: Its values along the grid's axes.
        key: Of its inputs; empty where they could not be had.
        status: What became of it.
        reason: Why it failed.
        figures: By `FIGURES`; None where one is undefined. Empty unless it is done.
    """

    place: Mapping[str, Any]
    key: str = ""
    status: Status = "not run"
    reason: str = ""
    figures: Mapping[str, float | int | None] | None = None


@dataclass(frozen=True)
class Sweep:
    """A grid that was run.

    Attributes:
        path: Its directory.
        axes: The names that vary.
        rows: One per point, in the grid's order.
        reused: How many points were done before.
    """

    path: Path
    axes: tuple[str, ...]
    rows: tuple[Row, ...]
    reused: int = 0

    @property
    def failed(self) -> tuple[Row, ...]:
        """Points that failed."""
        return tuple(row for row in self.rows if row.status == "failed")

    def to_json(self) -> dict[str, Any]:
        """The document of ``sweep.json``."""
        return {
            "schema_version": SCHEMA_VERSION,
            "axes": list(self.axes),
            "points": [
                {
                    "place": dict(row.place),
                    "key": row.key or None,
                    "status": row.status,
                    "reason": row.reason or None,
                    "figures": None if row.figures is None else dict(row.figures),
                }
                for row in self.rows
            ],
        }


def run_sweep(
    grid: Grid,
    registry: Registry,
    out: Path,
    execute: Execute,
    *,
    say: Callable[[str], None] = lambda line: None,
) -> Sweep:
    """Run what is not done of a grid, and write its table.

    Args:
        grid: From `read_grid`.
        registry: Where models, hardware and simulators are.
        out: The sweep's directory; an earlier one of the same or another grid is added to.
        execute: How points are run; see `workers` and `ray_cluster`.
        say: Gets a line about progress now and then.

    Raises:
        InputError: The grid is wrong as a whole; a point that is wrong is a row.
        UsageError: ``out`` is something else.
    """
    with points_of(out) as runs:
        rows, points = _plan(grid, registry, out)
        done = {key for key in points if (runs / key).is_dir()}
        todo = [point for key, point in points.items() if key not in done]
        wrong = sum(row.status == "failed" for row in rows)
        cannot = f", {wrong} cannot be" if wrong else ""
        say(f"{len(rows)} points: {len(done)} done before, {len(todo)} to run{cannot}")
        outcomes: dict[str, Outcome] = {}
        try:
            for outcome in _reported(execute(todo, runs), len(todo), say):
                outcomes[outcome.key] = outcome
        finally:
            finished = tuple(_finish(row, points, outcomes, runs) for row in rows)
            sweep = Sweep(out, grid.varying, finished, len(points) - len(todo))
            _write(sweep)
        return sweep


def _plan(grid: Grid, registry: Registry, out: Path) -> tuple[list[Row], dict[str, Point]]:
    """A row per point of the grid, and the distinct simulations behind them."""
    inputs = _Inputs(grid, registry, out / "workloads")
    rows: list[Row] = []
    points: dict[str, Point] = {}
    for coordinates in grid.points():
        try:
            point = inputs.point(coordinates)
        except GpusimError as error:
            rows.append(Row(coordinates.place, status="failed", reason=str(error)))
            continue
        except OSError as error:  # a path that cannot be looked at
            reason = printable(f"{error.filename}: {error.strerror}")
            rows.append(Row(coordinates.place, status="failed", reason=reason))
            continue
        points[point.key] = point
        rows.append(Row(coordinates.place, point.key))
    return rows, points


class _Inputs:
    """The inputs that points share, each read or made once."""

    def __init__(self, grid: Grid, registry: Registry, workloads: Path) -> None:
        self._grid, self._registry, self._workloads = grid, registry, workloads
        self._made: dict[Any, Any] = {}

    def point(self, coordinates: Coordinates) -> Point:
        values, registry = coordinates.values, self._registry
        registry.simulators.require(values["simulator"])
        beside = registry.find_model(str(self._grid.file(values["model"])))
        model = beside or registry.model(values["model"])
        hardware = registry.hardware.get(values["hardware"])
        engine = EngineSettings.from_mapping(coordinates.table("engine"), self._grid.path)
        root = self._grid.file(str(values["profile"]))
        return Point.of(
            values["simulator"],
            model,
            hardware,
            self._workload(coordinates),
            self._bundle(root, model.name, hardware.name, engine),
            engine,
            coordinates.table("params"),
            values.get("clock", "engine"),
        )

    def _workload(self, coordinates: Coordinates) -> Any:
        from pytest_gpusim.workload import read_workload
        from pytest_gpusim.workload.generate import generate_workload
        from pytest_gpusim.workload.store import store_workload

        if "workload" in coordinates.values:
            place = self._grid.file(str(coordinates.values["workload"]))
            return self._once(("workload", place), lambda: read_workload(place))
        spec = self._grid.load(coordinates)
        return self._once(
            ("load", spec),
            lambda: read_workload(
                store_workload(self._workloads, lambda out: generate_workload(spec, out))
            ),
        )

    def _bundle(self, root: Path, model: str, hardware: str, engine: EngineSettings) -> Any:
        from pytest_gpusim.bundle import read_bundle, resolve_root

        place = resolve_root(root, model, hardware, engine)
        return self._once(("bundle", place), lambda: read_bundle(place))

    def _once(self, key: Any, make: Callable[[], Any]) -> Any:
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]


def _reported(
    outcomes: Iterator[Outcome], count: int, say: Callable[[str], None]
) -> Iterator[Outcome]:
    """Outcomes as they come, with words on progress and on what failed."""
    failed = 0
    for outcome in ticked(outcomes, "simulate", count, "points"):
        yield outcome
        failed += bool(outcome.reason)
    if count:
        say(f"{count - failed} of {count} done" + (f", {failed} failed" if failed else ""))


def _finish(
    row: Row, points: Mapping[str, Point], outcomes: Mapping[str, Outcome], runs: Path
) -> Row:
    if not row.key:
        return row
    outcome = outcomes.get(row.key)
    if not (runs / row.key).is_dir():  # another sweep may have done what failed in this one
        reason = outcome.reason if outcome else ""
        return replace(row, status="failed", reason=reason) if reason else row
    try:
        figures = outcome.figures if outcome else None
        if figures is None:
            points[row.key].require_own(runs / row.key)
        return replace(row, status="done", figures=figures or run_figures(runs / row.key))
    except InputError as error:
        return replace(row, status="failed", reason=str(error))


@contextmanager
def points_of(out: Path) -> Iterator[Path]:
    """The folder of a sweep's or a search's points: it tells what ``out`` is, and is made first.

    Where nothing else comes into ``out``, nothing of it stays.

    Raises:
        UsageError: ``out`` is neither vacant nor has such a folder.
    """
    runs = out / "points"
    is_vacant = not out.exists() or (out.is_dir() and not any(out.iterdir()))
    if not is_vacant and not runs.is_dir():
        raise UsageError(f"--out {out}: is no sweep and not empty; name an absent directory")
    with made_folder(out):
        runs.mkdir(exist_ok=True)
        try:
            yield runs
        finally:
            if list(out.iterdir()) == [runs]:
                with suppress(OSError):
                    runs.rmdir()


def _write(sweep: Sweep) -> None:
    """The table and the document, each whole or not at all."""
    with (
        atomic_file(sweep.path / TABLE) as lines,
        lines.open("w", encoding="utf-8", newline="") as stream,
    ):
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow([*sweep.axes, "key", "status", "reason", *FIGURES])
        for row in sweep.rows:
            figures = row.figures or {}
            cells = [figures.get(name) for name in FIGURES]
            place = [row.place[name] for name in sweep.axes]
            writer.writerow([*place, row.key, row.status, row.reason, *map(_cell, cells)])
    write_json(sweep.path / DOCUMENT, sweep.to_json())


def _cell(value: float | int | None) -> str:
    return "" if value is None else str(value)
