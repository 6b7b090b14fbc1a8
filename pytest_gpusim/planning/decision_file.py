"""Decisions from runs: which real and simulated runs are of which setting at which load.

::

    slo = "ttft_p90=500ms,tpot_p90=40ms"    # decide by capacity at these limits
    objective = ["e2e_p90", "goodput"]      # and by a figure, at each load
    accept = ["warmed_up"]                  # checks, as of `gpusim compare --accept`

    [state]                                 # what runs do not say, as of --state
    clock = "client"

    [[point]]
    setting = "64 sequences"
    load = 4.0                              # requests per second, or clients
    real = ["runs/64-4-1", "runs/64-4-2"]   # repeats
    simulated = "sims/64-4"                 # or a list: see `evidence.examine`
    state = {"engine.max_num_seqs" = 64}    # of this point

Paths are relative to the file; a run may be another tool's file.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_gpusim.errors import GpusimError, InputError, UsageError, meant, shortly
from pytest_gpusim.planning.evidence import Evidence, Runs, examine, require_one_load
from pytest_gpusim.planning.figures import figures_of
from pytest_gpusim.planning.question import (
    GOOD_REQUESTS,
    GOODPUT,
    Measured,
    Question,
    Sides,
    is_objective,
    objective_names,
)
from pytest_gpusim.planning.slo import Limits, parse_limits
from pytest_gpusim.progress import counted
from pytest_gpusim.registry import Registry
from pytest_gpusim.texts import NO_PATH, can_be_path
from pytest_gpusim.toml_documents import read_toml

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pytest_gpusim.compare.measure import RunMetrics
    from pytest_gpusim.runs import Run

_KEYS = {"slo", "share", "objective", "accept", "state", "point"}
_POINT_KEYS = {"setting", "load", "real", "simulated"}
_OPTIONAL = {"state"}


def read_question(path: Path, registry: Registry, store: Path) -> Question:
    """Read a decision file and its runs, and hold the checks of a comparison against each point.

    Args:
        path: The file.
        registry: Whose importers read other tools' files.
        store: Where imported runs go.

    Raises:
        InputError: The file or a run cannot be used, a point has but one side, a run is in the
            wrong role, or runs are of other requests.
    """
    document = _document(path)
    slo, share = document.get("slo"), document.get("share")
    if isinstance(share, bool) or not isinstance(share, int | float | None):
        raise InputError(path, "share", f"expected a fraction above 0, found {shortly(share)}")
    try:
        limits = parse_limits(str(slo), share) if slo is not None else None
    except GpusimError as error:
        raise InputError(path, "slo", str(error)) from None
    objectives = tuple(_texts(path, "objective", document.get("objective", [])))
    for name in objectives:
        if not is_objective(name):
            known = ", ".join(objective_names())
            raise InputError(path, "objective", f"{name!r} is unknown; known are {known}")
        if name in (GOODPUT, GOOD_REQUESTS) and limits is None:
            raise InputError(path, "slo", f"is missing, and {name} is of requests within it")
    accepted = _texts(path, "accept", document.get("accept", []))
    points: dict[tuple[str, float], Runs] = {}
    evidence: list[Evidence] = []
    points_of = counted(
        _points(path, document["point"]), "read and check", len(document["point"]), "points"
    )
    for place, where, point in points_of:
        if place in points:
            raise InputError(path, where, f"{place[0]} at load {place[1]:g} stands twice")
        runs = points[place] = _runs(path, where, point, registry, store)
        stated = {**document.get("state", {}), **point.get("state", {})}
        try:
            evidence.append(examine(path, where, place, runs, accept=accepted, stated=stated))
        except InputError:
            raise
        except GpusimError as error:
            raise InputError(path, where, str(error)) from None
    require_one_load(path, points)
    settings: dict[str, Sides] = {}
    for each, runs in zip(evidence, points.values(), strict=True):
        sides = settings.setdefault(each.setting, Sides())
        sides.real[each.load] = _measured(path, runs.real, each.real, limits)
        sides.simulated[each.load] = _measured(path, runs.simulated, each.simulated, limits)
    return Question(path, limits, objectives, settings, tuple(evidence))


def _document(path: Path) -> dict[str, Any]:
    document = read_toml(path, fix="give a decision in TOML")
    for key in document:
        if key not in _KEYS:
            known = ", ".join(sorted(_KEYS))
            raise InputError(path, key, f"is unknown{meant(key, _KEYS)}; known are {known}")
    if not isinstance(document.get("point"), list) or not document["point"]:
        raise InputError(path, "point", "expected tables [[point]]")
    if not isinstance(document.get("state", {}), dict):
        raise InputError(path, "state", "expected a table")
    return document


def _texts(path: Path, where: str, value: Any) -> list[str]:
    """A text, or a list of texts."""
    texts = value if isinstance(value, list) else [value]
    if not all(isinstance(each, str) for each in texts):
        raise InputError(path, where, f"expected a text or a list of texts, found {value!r}")
    return texts


def _points(path: Path, points: list[Any]) -> Iterator[tuple[tuple[str, float], str, Any]]:
    for number, point in enumerate(points, start=1):
        where = f"point {number}"
        if not isinstance(point, dict):
            raise InputError(path, where, "expected a table [[point]]")
        missing = sorted(_POINT_KEYS - set(point))
        unknown = sorted(set(point) - _POINT_KEYS - _OPTIONAL)
        if missing or unknown:
            said = f"{missing[0]} is missing" if missing else f"{unknown[0]} is unknown"
            known = ", ".join(sorted(_POINT_KEYS))
            raise InputError(path, where, f"{said}; expected {known}, and state at will")
        load = point["load"]
        if not isinstance(load, int | float) or isinstance(load, bool) or not 0 < load < 1e12:
            raise InputError(path, f"{where}, load", f"expected a number above 0, found {load!r}")
        if not isinstance(point.get("state", {}), dict):
            raise InputError(path, f"{where}, state", "expected a table")
        if not isinstance(point["setting"], str | int | float):
            raise InputError(path, f"{where}, setting", "expected a name")
        yield (str(point["setting"]), float(load)), where, point


def _runs(
    path: Path, where: str, point: Mapping[str, Any], registry: Registry, store: Path
) -> Runs:
    from pytest_gpusim.runs.importers import load_real_runs, load_simulated_run

    names = {key: _texts(path, f"{where}, {key}", point[key]) for key in ("real", "simulated")}
    for key, several in names.items():
        if not several:
            raise InputError(path, f"{where}, {key}", "names no run")
        for name in several:
            if not can_be_path(name):
                raise InputError(path, f"{where}, {key}", f"{shortly(name)} {NO_PATH}")
    real = [
        run
        for name in names["real"]
        for run in load_real_runs(path.parent / name, registry, store=store)
    ]
    simulated = [
        load_simulated_run(path.parent / name, registry, store=store) for name in names["simulated"]
    ]
    return Runs(real, simulated)


def _measured(
    path: Path, runs: Sequence[Run], metrics: Sequence[RunMetrics], limits: Limits | None
) -> list[Measured]:
    if limits is not None:
        try:
            for each in metrics:
                limits.require_known(each)
                limits.require_carried(each)
        except UsageError as error:
            raise InputError(path, "slo", str(error)) from None
    return [
        Measured(each, figures_of(run, each), _source(run))
        for run, each in zip(runs, metrics, strict=True)
    ]


def _source(run: Run) -> dict[str, str]:
    engine = run.meta.get("engine") or {}
    found = {
        "run": str(run.path),
        "workload": run.meta.get("workload_digest"),
        "profile": run.meta.get("profiling_digest"),
        "engine": engine.get("engine_version"),
        "at": run.meta.get("started_at"),
    }
    return {key: str(value) for key, value in found.items() if value}
