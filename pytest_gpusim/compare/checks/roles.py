"""Is each run what it is given for, and given once?"""

from __future__ import annotations

from pytest_gpusim.compare.checks.declaration import Accept, Finding, Protects, check, listed
from pytest_gpusim.compare.sides import Sides
from pytest_gpusim.runs.identity import run_digest

_NO_SIMULATOR = ("real", "compare", "profile")


@check(
    Protects.CASE,
    rank=5,
    needed=True,
    accept=Accept.NEVER,
    cause="a run is not what it was given for",
)
def roles(sides: Sides) -> Finding:
    """Real runs against a simulated one, none of them twice, none a copy of another.

    Two measured runs never agree in every time; nor does a simulation with a measured run.
    """
    wrong = [
        f"{run.run_id} is given as a real run and is of type {run.meta['run_type']!r}"
        for run in sides.real
        if run.meta.get("run_type") not in (None, "real")
    ]
    wrong += [
        f"{run.run_id} is given as the simulation and is of type {run.meta['run_type']!r}"
        for run in sides.sims
        if run.meta.get("run_type") in _NO_SIMULATOR
    ]
    measured: dict[str, str] = {}
    for run in sides.real:
        digest = run_digest(run)
        if digest in measured:
            wrong.append(f"{run.run_id} has every time of {measured[digest]}: one run, given twice")
        measured.setdefault(digest, run.run_id)
    for run in sides.sims:
        digest = run_digest(run)
        if digest in measured:
            wrong.append(
                f"the simulation {run.run_id} has every time of {measured[digest]}: a run is "
                "compared with itself"
            )
    if wrong:
        return "fail", listed(wrong)
    silent = [run.run_id for run in (*sides.real, *sides.sims) if not run.meta.get("run_type")]
    if silent:
        return "unknown", f"{listed(silent)}: run_type is not recorded, real or simulated?"
    return "pass", f"{len(sides.real)} real, {len(sides.sims)} simulated, no two the same"
