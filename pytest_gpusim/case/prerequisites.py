"""What a case needs before it can run here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_gpusim.case.definition import CannotRunHere, Case, Settings, case_workload
from pytest_gpusim.case.live import why_not_live
from pytest_gpusim.case.recorded import NotRecorded, recorded
from pytest_gpusim.deployment import EngineSettings
from pytest_gpusim.errors import InputError

if TYPE_CHECKING:
    from pytest_gpusim.checks import Check


def failing_prerequisites(case: Case, settings: Settings, asked_for: bool) -> list[Check]:
    """What the case still needs before it can run here; empty where all is well.

    Args:
        case: The case.
        settings: Where recordings and bundles are.
        asked_for: The user named the case's hardware or a profiling root: then what is missing is
            a failure, else a reason to skip.

    Raises:
        CannotRunHere: The case cannot run here and nobody asked for it.
    """
    from pytest_gpusim.bundle import resolve_root
    from pytest_gpusim.bundle_checks.checks import check_bundle
    from pytest_gpusim.checks import Check

    real, reasons = None, []
    if settings.real != "live":
        try:
            real = recorded(case, settings)
        except NotRecorded as reason:
            reasons.append(str(reason))
    if real is not None:
        root = real.bundle.path
        engine = EngineSettings.load(real.runs[0].path)
        device = real.runs[0].meta.get("device_name")
        workload = real.workload
    else:
        no_device = why_not_live(case)
        # A live run is made on this very device; a server may be anywhere.
        device = case.hardware.present_device() if case.backend != "openai" else None
        try:
            root = resolve_root(
                settings.profiling_root, case.model.name, case.hardware.name, case.engine, device
            )
        except InputError as error:
            if asked_for or no_device is None:
                return [Check("bundle", "fail", str(error))]
            raise CannotRunHere("; ".join([*reasons, no_device, str(error)])) from None
        engine = case.engine
        workload = case_workload(case, settings.artifacts)
    checks = check_bundle(
        root,
        registry=settings.registry,
        model=case.model,
        hardware=case.hardware,
        workload=workload,
        engine=engine,
        device_name=device,
    )
    return [check for check in checks if check.status == "fail"]
