"""The real side measured now, on this machine or on a server."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_gpusim.artifacts import new_id, safe_name
from pytest_gpusim.case.definition import Case, RealSide, Settings, case_bundle, case_workload
from pytest_gpusim.deployment import EngineSettings
from pytest_gpusim.errors import InputError, UsageError
from pytest_gpusim.providers import Backend, MeasureInputs
from pytest_gpusim.registry import Registry

if TYPE_CHECKING:
    from pytest_gpusim.bundle import Bundle
    from pytest_gpusim.workload import Workload


def why_not_live(case: Case, registry: Registry) -> str | None:
    """Why the case cannot be measured here, in words; None where it can."""
    backend = registry.backends.get(case.backend)
    if not backend.remote and case.hardware.present_device() is None:
        return f"no {case.hardware.name} in this machine"
    return backend.lacks()


def live(case: Case, settings: Settings) -> RealSide:
    """Measure the case on this machine, and leave a recording of it behind.

    Raises:
        InputError: The bundle is missing, or of another device.
        UsageError: What was asked cannot be measured.
    """
    from pytest_gpusim.runs import read_run

    # What is cheap to refuse comes before minutes of measuring.
    backend = settings.registry.backends.get(case.backend)
    backend.require(case.backend_params, case.hardware)
    settings.registry.simulators.get(case.simulator).read(case.params)
    bundle = case_bundle(case, settings, case.engine)
    workload = case_workload(case, settings.artifacts)
    engine = case.engine
    if not backend.remote:
        # A server has its settings already; the bundle's would stand in the run as if it had them.
        engine = engine.merged(bundle.engine_settings)
        case = _like_the_bundle(case, bundle, backend)
    if settings.repeat < 1:
        raise UsageError(f"--gpusim-repeat {settings.repeat}: expected at least 1")
    name = new_id(case.case_name)
    outs = [
        settings.artifacts / "real_runs" / f"{name}-{number}"
        for number in range(1, settings.repeat + 1)
    ]
    measure(case, settings.registry, workload, engine, outs)
    _record(case, settings, workload, bundle, outs)
    return RealSide(workload, [read_run(out) for out in outs], bundle)


def _like_the_bundle(case: Case, bundle: Bundle, backend: Backend) -> Case:
    """The case on the device and with the threads that were profiled."""
    device, present = bundle.meta["device_name"], case.hardware.present_device()
    if device and present and device != present:
        raise InputError(
            bundle.path / "profile_meta.json",
            "device_name",
            f"the bundle is of {device}, this machine has {present}",
            "profile this machine",
        )
    threads = (bundle.meta.get("engine_settings") or {}).get("threads")
    takes = {parameter.name for parameter in backend.declared()}
    if "threads" in takes and threads and "threads" not in case.backend_params:
        return replace(case, backend_params={**case.backend_params, "threads": threads})
    return case


def _record(
    case: Case, settings: Settings, workload: Workload, bundle: Bundle, outs: list[Path]
) -> None:
    """Leave a recording of a live case below ``artifacts/recordings``, in place of an older one."""
    from pytest_gpusim.backends.recorded import write_recording

    place = settings.artifacts / "recordings" / safe_name(case.case_name)
    fresh = place.with_name(f".{new_id(case.case_name)}")
    try:
        write_recording(fresh, workload_dir=workload.path, bundle_dir=bundle.path, run_dirs=outs)
    except InputError as error:
        # What was measured counts without a recording, too (a server may tell no settings at all).
        print(f"gpusim: {place} is not recorded: {error}", file=sys.stderr)
        return
    if place.exists():
        shutil.rmtree(place)
    fresh.rename(place)


def measure(
    case: Case,
    registry: Registry,
    workload: Workload,
    engine: EngineSettings,
    outs: list[Path],
) -> None:
    """Measure a workload on the case's backend, once per directory of ``outs``."""
    workload.require_fits(engine.max_model_len)
    registry.backends.get(case.backend)(
        MeasureInputs(case.model, case.hardware, workload, engine, outs, case.backend_params)
    )
