"""What a case needs before it can run here."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_gpusim.case.definition import CannotRunHere, Case, Settings, case_workload, engine_of
from pytest_gpusim.case.live import why_not_live
from pytest_gpusim.case.recorded import NotRecorded, recorded
from pytest_gpusim.deployment import EngineSettings
from pytest_gpusim.errors import GpusimError, InputError

if TYPE_CHECKING:
    from pytest_gpusim.bundle import Bundle
    from pytest_gpusim.checks import Check
    from pytest_gpusim.runs import Clock, Run
    from pytest_gpusim.workload import Workload


# Those of a comparison's checks that profile, settings and workload decide beforehand. Where the
# real runs are at hand, all that a pass needs are decided.
_JUDGED_BEFOREHAND = ("profile_matches", "profile_covers", "overhead_counted", "not_calibrated_on")
_PRICED_HERE = ("vidur", "reference")


def failing_prerequisites(
    case: Case,
    settings: Settings,
    asked_for: bool,
    accept: Collection[str] = (),
    stated: Mapping[str, Any] | None = None,
) -> list[Check]:
    """What the case still needs before it can run here; empty where all is well.

    Args:
        case: The case.
        settings: Where recordings and bundles are.
        asked_for: The user named the case's hardware or a profiling root: then what is missing is
            a failure, else a reason to skip.
        accept: Checks of the comparison that its ``check`` accepts.
        stated: What the comparison is told that the runs do not say (see `compare.stating`).

    Raises:
        CannotRunHere: The case cannot run here and nobody asked for it.
    """
    from pytest_gpusim.bundle_checks.checks import check_bundle
    from pytest_gpusim.checks import Check

    reasons: list[str] = []
    real = None
    if case.given is None and settings.real != "live":
        try:
            real = recorded(case, settings)
        except NotRecorded as reason:
            reasons.append(str(reason))
    no_device = None if case.given or real else why_not_live(case, settings.registry)
    try:
        if case.given is not None:
            needs = _of_runs(case, settings, case.given.workload, case.given.runs)
        elif real is not None:
            needs = _of_runs(case, settings, real.workload, real.runs, real.bundle)
        else:
            needs = _of_a_measurement(case, settings)
    except InputError as error:
        if asked_for or no_device is None:
            return [Check("bundle", "fail", str(error))]
        raise CannotRunHere("; ".join([*reasons, no_device, str(error)])) from None
    checks = check_bundle(
        needs.bundle,
        registry=settings.registry,
        model=case.model,
        hardware=case.hardware,
        workload=needs.workload,
        engine=needs.engine,
        device_name=needs.device_name,
        known=needs.profile,
    )
    failing = [check for check in checks if check.status == "fail"]
    return failing or _failing_beforehand(case, settings, needs, accept, stated or {})


def _failing_beforehand(
    case: Case,
    settings: Settings,
    needs: _Needs,
    accept: Collection[str],
    stated: Mapping[str, Any],
) -> list[Check]:
    """The checks of the comparison itself that would fail, or be unknown although a pass needs
    them, by a simulation of this workload.
    """
    from pytest_gpusim.bundle import read_bundle
    from pytest_gpusim.case.simulated import run_simulator
    from pytest_gpusim.checks import Check
    from pytest_gpusim.compare.checks import CHECKS, remedy
    from pytest_gpusim.compare.comparison import sides_of
    from pytest_gpusim.providers import SimulationInputs
    from pytest_gpusim.runs import read_run

    if case.simulator not in _PRICED_HERE:
        return []
    bundle = needs.profile or read_bundle(needs.bundle)
    clock: Clock = needs.runs[0].clock if needs.runs else "engine"
    with tempfile.TemporaryDirectory(prefix="gpusim-prereq-") as scratch:
        out = Path(scratch) / "simulated"
        inputs = SimulationInputs(
            case.model, case.hardware, needs.workload, bundle, needs.engine, out, clock=clock
        )
        try:
            run_simulator("reference", settings.registry, inputs)
        except GpusimError as error:
            # An engine that is still to be started resolves its own settings.
            return [Check("simulation", "fail", str(error))] if needs.runs else []
        simulated = read_run(out)
        told = stated if needs.runs else None
        sides = sides_of(needs.runs or [simulated], simulated, workload=needs.workload, stated=told)
    names: Sequence[str] = _JUDGED_BEFOREHAND
    if needs.runs:
        names = [declared.name for declared in CHECKS.values() if declared.needed]
    found = [CHECKS[name].run(sides, name in accept) for name in names]
    return [
        Check(check.name, "fail", f"{check.detail}{remedy(check)}")
        for check in found
        if check.status in ("fail", "unknown")
    ]


class _Needs(NamedTuple):
    """The bundle that the case would be simulated with, and what it is held against.

    ``profile`` is the bundle where it was read before.
    """

    bundle: Path
    workload: Workload
    engine: EngineSettings
    device_name: str | None
    runs: Sequence[Run] = ()
    profile: Bundle | None = None


def _of_runs(
    case: Case,
    settings: Settings,
    workload: Workload,
    runs: Sequence[Run],
    bundle: Bundle | None = None,
) -> _Needs:
    """Of real runs that are at hand; their bundle is ``bundle``, else looked for."""
    engine, device = case.engine.merged(engine_of(runs[0])), runs[0].meta.get("device_name")
    place = bundle.path if bundle else _bundle(case, settings, engine, device)
    return _Needs(place, workload, engine, device, runs, bundle)


def _of_a_measurement(case: Case, settings: Settings) -> _Needs:
    """Of a run that is made on this very device; a server may be anywhere."""
    remote = settings.registry.backends.get(case.backend).remote
    device = None if remote else case.hardware.present_device()
    bundle = _bundle(case, settings, case.engine, device)
    return _Needs(bundle, case_workload(case, settings.artifacts), case.engine, device)


def _bundle(case: Case, settings: Settings, engine: EngineSettings, device: str | None) -> Path:
    from pytest_gpusim.bundle import resolve_root

    if case.profile is not None:
        return case.profile.path
    names = case.model.name, case.hardware.name
    return resolve_root(settings.profiling_root, *names, engine, device)
