"""Is the profile that the simulation drew on the right one, complete, and independent?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_gpusim.bundle.match import compare_with_run
from pytest_gpusim.compare.checks.declaration import Accept, Finding, Protects, check, listed, ms
from pytest_gpusim.compare.likeness import knows_a_run
from pytest_gpusim.compare.sides import Sides, engine
from pytest_gpusim.runs.identity import names_of

if TYPE_CHECKING:
    from pytest_gpusim.runs import Run

COVERED, UNCOVERED = 0.01, 0.10


@check(
    Protects.CASE,
    rank=40,
    needed=True,
    each_seed=True,
    accept=Accept.UNKNOWN,
    cause="the profile is of another case",
    states=("device_name", "hardware"),
)
def profile_matches(sides: Sides) -> Finding:
    """Model, device, dtype, engine mode and parallelism of the profile are those of the real run.

    What the real run states, and the profile does not, is unknown. Another release of the engine is
    a warning.
    """
    profile = sides.sim.meta.get("profile")
    if not isinstance(profile, dict) or not profile:
        return "unknown", f"{sides.sim.run_id} does not say which profile it was made from"
    differing: list[str] = []
    compared: list[str] = []
    silent: list[str] = []
    for run in sides.real:
        fields, mismatches = compare_with_run(profile, run.meta, run.run_id)
        compared += fields
        differing += [f"{field}: {text}" for field, text in mismatches]
        silent += _silent(fields, profile, engine(run))
    if differing:
        return "fail", listed(list(dict.fromkeys(differing)))
    if silent:
        names = ", ".join(dict.fromkeys(silent))
        return "unknown", f"{names}: not stated by both the profile and the real runs"
    profiled = profile.get("engine_version")
    versions = [engine(run).get("engine_version") for run in sides.real]
    other = next((version for version in versions if version and version != profiled), None)
    if profiled and other:
        return "warn", f"profiled with engine {profiled}, measured with {other}"
    return "pass", f"{', '.join(dict.fromkeys(compared))} agree"


def _silent(fields: list[str], profile: dict[str, Any], settings: dict[str, Any]) -> list[str]:
    """What a profile and one run must both state, and do not; a processor is only itself, whatever
    its class.
    """
    stated = {
        "dtype": settings.get("dtype") not in (None, "auto"),
        "engine_mode": settings.get("enforce_eager") is not None,
        "tensor_parallel_sizes": settings.get("tensor_parallel_size") is not None,
    }
    device = {"device_name"} if profile.get("hardware") == "cpu" else {"device_name", "hardware"}
    return [
        *([] if "model" in fields else ["model"]),
        *([] if device & set(fields) else ["device_name"]),
        *(name for name, said in stated.items() if said and not profile.get(name)),
    ]


@check(
    Protects.CASE,
    rank=70,
    needed=True,
    each_seed=True,
    accept=Accept.FAILURE,
    cause="the run went beyond what was profiled",
    states=("extrapolated_share",),
)
def profile_covers(sides: Sides) -> Finding:
    """Hardly any simulated time lies outside the profiled ranges.

    Passes up to 1% of the simulated step time, fails above 10%.
    """
    share = extrapolated_share(sides)
    if share is None:
        return "unknown", f"{sides.sim.run_id} does not say which steps were extrapolated"
    said = f"{share:.1%} of the simulated time lies outside the profiled ranges"
    if share <= COVERED:
        return "pass", said
    rule = "priced as the first point below them and along the last two points above"
    fix = "profile larger batches or longer contexts"
    return ("warn" if share <= UNCOVERED else "fail"), f"{said}, {rule}; {fix}"


@check(
    Protects.CASE,
    rank=60,
    needed=True,
    each_seed=True,
    accept=Accept.FAILURE,
    cause="the simulated steps hold no engine time",
    states=("counts_engine_time",),
)
def overhead_counted(sides: Sides) -> Finding:
    """The engine's own time per iteration is part of the simulated step.

    Judged from ``operator_shares`` of the simulated run. Without it the check fails, and warns
    where the engine plans asynchronously, for most of that time is then hidden behind the device.
    """
    shares = operator_shares(sides.sim.meta)
    if sides.sim.meta.get("counts_engine_time") is False:
        return "fail", f"the simulator of {sides.sim.run_id} counts no engine time per iteration"
    if shares is None and sides.sim.meta.get("counts_engine_time") is True:
        return "pass", f"{sides.sim.run_id} states that it counts the engine's time"
    if shares is None:
        return "unknown", f"{sides.sim.run_id} does not say what its step times hold"
    share = shares.get("overhead", 0.0)
    if share:  # less than none where a compiled engine's steps undercut the eager operators
        return "pass", f"engine time per iteration is {share:.1%} of the simulated step time"
    said = engine_time_stated(sides.sim.meta.get("profile"))
    if said is not None:
        return "pass", said
    missing = (
        "the simulated steps hold no engine time per iteration (scheduling, input preparation): "
        "the profile has no overhead.csv; calibrate it on a run of another workload ('gpusim "
        "calibrate'), state it (--engine-time), or accept this check"
    )
    if engine(sides.sim).get("async_scheduling"):
        return "warn", f"{missing}; asynchronous scheduling hides most of it"
    return "fail", missing


def engine_time_stated(profile: Any) -> str | None:
    """Where a profile's engine time was fitted or stated, in words; None where it was neither.

    It may well be none: asynchronously the device may hide all of it.
    """
    meta = profile if isinstance(profile, dict) else {}
    stated, calibration = meta.get("engine_time"), meta.get("calibration")
    if isinstance(stated, dict):
        return f"engine time per iteration is stated as {ms(stated['time_ns'])}"
    fitted = calibration.get("parameters") if isinstance(calibration, dict) else None
    for each in fitted or []:
        if each["name"] == "engine_time":
            return (
                f"engine time per iteration is calibrated: {ms(each['time_ns'])} "
                f"({ms(each['low_ns'])} to {ms(each['high_ns'])})"
            )
    return None


@check(
    Protects.CASE,
    rank=45,
    needed=True,
    accept=Accept.NEVER,
    each_seed=True,
    states=("calibrated_on",),
)
def not_calibrated_on(sides: Sides) -> Finding:
    """No real run of this workload was used to tune the profile or the simulator.

    Judged from ``calibrated_on`` in the simulated run's ``params`` and ``profile``: names of runs
    and workloads, and digests of runs, workloads and requests. Any run of a workload that was
    fitted on counts as fitted on. Whatever it says, a simulation that has real runs' own noise has
    seen them: where it is, request by request, eight times closer to a run, or to the mean or
    median of several, than real runs are to each other (see `likeness.knows_a_run`).
    """
    sources = [sides.sim.meta.get(key) for key in ("params", "profile")] + [sides.sim.meta]
    statements = [
        source["calibrated_on"]
        for source in sources
        if isinstance(source, dict) and isinstance(source.get("calibrated_on"), list)
    ]
    if not statements:
        return "unknown", "neither the profile nor the simulator says what it was calibrated on"
    used = {str(item) for statement in statements for item in statement}
    workloads = {sides.sim.meta.get("workload_digest")} - {None}
    if sides.workload is not None:
        workloads |= {sides.workload.digest, sides.workload.path.name}
    for run in sides.real:
        names = names_of(run) | {run.path.name, *_names_of_workload(run), *workloads}
        if used & names:
            return "fail", (
                f"the simulation was calibrated on {sorted(used & names)[0]}, which it is judged "
                "on here: a match proves nothing"
            )
    seen = knows_a_run(sides.sim_metrics, sides.real_metrics)
    if seen:
        return "fail", (
            f"{seen} than real runs are to each other: the simulation has seen them, and a match "
            "proves nothing"
        )
    profile = sides.sim.meta.get("profile")
    if not used and isinstance(profile, dict) and profile.get("calibration"):
        return "unknown", "the profile is calibrated, and does not say on what (calibrated_on)"
    said = listed(sorted(used)) if used else "no run"
    return "pass", f"calibrated on {said}"


def _names_of_workload(run: Run) -> set[str]:
    """What someone may call the workload of a run: its directory, or the last part of that."""
    place = run.meta.get("workload_dir")
    return {place, Path(place).name} if isinstance(place, str) else set()


def extrapolated_share(sides: Sides) -> float | None:
    """Share of the simulated step time in steps outside the profiled ranges; None if unknown.

    What is stated of it counts where the steps do not say more.
    """
    stated, counted = sides.sim.meta.get("extrapolated_share"), _counted_share(sides)
    if not isinstance(stated, int | float):
        return counted
    return max(float(stated), counted or 0.0) if 0 <= stated <= 1 else None


def _counted_share(sides: Sides) -> float | None:
    steps = sides.sim.steps
    if steps is None or steps.empty or steps["extrapolated"].isna().any():
        return None
    spent = steps["duration_ns"].to_numpy(dtype="float64", na_value=0.0)
    outside = steps["extrapolated"].to_numpy(dtype="float64") > 0
    total = float(spent.sum())
    return float(spent[outside].sum()) / total if total > 0 else 0.0


def operator_shares(meta: dict[str, Any]) -> dict[str, float] | None:
    """Share of the simulated step time by operator, where the run's metadata has it."""
    shares = meta.get("operator_shares")
    if not isinstance(shares, dict) or not shares:
        return None
    return {
        str(name): float(share) for name, share in shares.items() if isinstance(share, int | float)
    }
