"""Is each run what it is given for, and given once?"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

from pytest_gpusim.compare.checks.declaration import Accept, Finding, Protects, check, listed
from pytest_gpusim.compare.likeness import alike_pair, is_copy
from pytest_gpusim.compare.sides import Sides
from pytest_gpusim.runs import Run
from pytest_gpusim.runs.identity import run_digest

_NO_SIMULATOR = ("real", "compare", "profile")
_OF_SIMULATIONS = ("operator_shares", "scheduler_rules", "counts_engine_time", "profiling_digest")
_OF_MEASUREMENTS = ("lateness", "interference", "prefix_cache_reset")
_PARTS = ("--start", "--end", "--first")
"""How the note of an imported run begins that is a part of its file."""
_OF_ALL_SEEDS = ("run_type", "model", "profiling_digest", "engine")


@check(
    Protects.CASE,
    rank=5,
    needed=True,
    accept=Accept.NEVER,
    cause="a run is not what it was given for",
    states=("run_type",),
)
def roles(sides: Sides) -> Finding:
    """The runs are real ones and a simulation; none is given twice or is a copy of another.

    Two measured runs never agree in every time; nor does a simulation with a measured run. Nor do
    they in half of the requests to 2 µs, or in nine of ten but for rounding, a shift or a stretch:
    that is a copy (see `likeness.is_copy`). It warns of two that agree much better than any others
    (see `likeness.alike_pair`). What only a simulation writes of itself shows one that
    is called real, and the other way round. Several simulated runs are the seeds of one simulation,
    each given once.
    """
    simulated = list(map(run_digest, sides.sims))
    wrong = [*_misnamed(sides), *_copies(sides, simulated), *_seeds(sides, simulated)]
    if wrong:
        return "fail", listed(wrong)
    silent = [run.run_id for run in (*sides.real, *sides.sims) if not run.meta.get("run_type")]
    if silent:
        return "unknown", f"{listed(silent)}: run_type is not recorded, real or simulated?"
    alike = alike_pair(sides.real_metrics)
    if alike:
        one, other, how = alike
        return "warn", (
            f"TPOT of single requests of {_named(sides.real[one])} and {_named(sides.real[other])} "
            f"agrees {how}: they count as two runs; are they one?"
        )
    return "pass", f"{len(sides.real)} real, {len(sides.sims)} simulated, no two the same"


def _misnamed(sides: Sides) -> list[str]:
    wrong = []
    simulators = {run.meta.get("run_type") for run in sides.sims} - {None, *_NO_SIMULATOR}
    for run in sides.real:
        made = next((key for key in _OF_SIMULATIONS if run.meta.get(key) is not None), None)
        rows = set(run.requests["backend"].dropna().unique()) & simulators
        if run.meta.get("run_type") not in (None, "real"):
            wrong.append(_given(run, "a real run"))
        elif made or rows:
            why = f"has {made}" if made else f"its rows are of {', '.join(sorted(rows))}"
            wrong.append(f"{_named(run)} is given as a real run and {why}: a simulation does")
    for run in sides.sims:
        measured = next((key for key in _OF_MEASUREMENTS if run.meta.get(key) is not None), None)
        if run.meta.get("run_type") in _NO_SIMULATOR:
            wrong.append(_given(run, "the simulation"))
        elif measured:
            wrong.append(
                f"{_named(run)} is given as the simulation and has {measured}: a measurement does"
            )
    return wrong


def _given(run: Run, role: str) -> str:
    return f"{_named(run)} is given as {role} and is of type {run.meta['run_type']!r}"


def _named(run: Run) -> str:
    """A run's name and place: repeats are often called 1, 2, 3 in several folders."""
    return f"{run.run_id} ({run.path})" if str(run.path) != run.run_id else run.run_id


def _copies(sides: Sides, simulated: list[str]) -> list[str]:
    wrong = []
    real = list(zip(sides.real, map(run_digest, sides.real), sides.real_metrics, strict=True))
    for (first, digest, metrics), (run, own, others) in combinations(real, 2):
        if own == digest:
            wrong.append(f"{_named(run)} has every time of {_named(first)}: one run, given twice")
        elif how := is_copy(metrics, others):
            wrong.append(
                f"{_named(run)} has the times of {_named(first)} {how}: one run, given twice"
            )
        elif _parts_of_one(first, run):
            wrong.append(
                f"{_named(first)} and {_named(run)} are parts of one run in the same file: repeats "
                "are whole runs"
            )
    for sim, own, others in zip(sides.sims, simulated, sides.sims_metrics, strict=True):
        for first, digest, metrics in real:
            how = "" if own == digest else is_copy(metrics, others)
            if how is not None:
                times = f"the times of {_named(first)} {how}" if how else (
                    f"every time of {_named(first)}"
                )  # fmt: skip
                wrong.append(
                    f"the simulation {_named(sim)} has {times}: a run is compared with itself"
                )
    return wrong


def _parts_of_one(one: Run, other: Run) -> bool:
    """Whether two imported runs are stretches of one; requests of one run are no repeats."""
    ours, theirs = (_import_of(run) for run in (one, other))
    cut = any(str(note).startswith(_PARTS) for found in (ours, theirs) for note in _notes(found))
    same = ours.get("sha256") is not None and all(
        ours.get(key) == theirs.get(key) for key in ("sha256", "tool")
    )
    return cut and same


def _import_of(run: Run) -> Mapping[str, Any]:
    params = run.meta.get("params")
    found = params.get("import") if isinstance(params, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _notes(found: Mapping[str, Any]) -> list[Any]:
    notes = found.get("notes")
    return notes if isinstance(notes, list) else []


def _seeds(sides: Sides, simulated: list[str]) -> list[str]:
    """Several simulated runs that are no sample of one simulation."""
    first, *others = sides.sims
    wrong = [
        f"{key} of {_named(run)} is not that of {_named(first)}: no seeds of one simulation"
        for run in others
        for key in _OF_ALL_SEEDS
        if run.meta.get(key) != first.meta.get(key)
    ]
    seen: dict[str, Run] = {}
    twice = []
    for run, digest in zip(sides.sims, simulated, strict=True):
        same = seen.setdefault(digest, run)
        if same is not run:
            twice.append(f"{_named(run)} has every time of {_named(same)}: one seed, given twice")
    # Of a deterministic simulation all are the same, and count as one.
    return wrong + (twice if len(seen) > 1 else [])
