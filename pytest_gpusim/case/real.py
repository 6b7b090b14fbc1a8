"""The real side of a case: replay its recording, or measure it now."""

from __future__ import annotations

import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_gpusim.artifacts import new_id
from pytest_gpusim.case.definition import Case, Settings, case_workload
from pytest_gpusim.deployment import EngineSettings
from pytest_gpusim.errors import GpusimError, InputError, UsageError
from pytest_gpusim.registry import MeasureInputs, Registry
from pytest_gpusim.workload.generate import generate_workload
from pytest_gpusim.workload.trace import read_workload

if TYPE_CHECKING:
    from pytest_gpusim.bundle import Bundle
    from pytest_gpusim.runs import Run
    from pytest_gpusim.workload import Workload


class CannotRunHere(GpusimError):
    """The case has neither a recording that matches nor the hardware to measure on."""


@dataclass(frozen=True)
class RealSide:
    """Real runs of one workload, and the bundle to simulate it with."""

    workload: Workload
    runs: list[Run]
    bundle: Bundle


def real_side(case: Case, settings: Settings) -> RealSide:
    """Replay the case's recording, or measure it now.

    Raises:
        CannotRunHere: Neither can be had; the message says what was looked for.
    """
    case.spec()  # an unknown workload is a mistake, not a missing recording
    no_recording = why_not_recorded(case, settings)
    if settings.real == "recorded" or (settings.real is None and no_recording is None):
        if no_recording is not None:
            raise CannotRunHere(no_recording)
        return recorded(case, settings)
    no_device = why_not_live(case)
    if no_device is not None:
        reason = f"{no_recording}; {no_device}" if settings.real is None else no_device
        raise CannotRunHere(reason)
    return _live(case, settings)


def why_not_recorded(case: Case, settings: Settings) -> str | None:
    """Why no recording can stand for the case, in words; None where one can."""
    if settings.recordings is None:
        return "no recordings were named (--gpusim-recordings)"
    from pytest_gpusim.backends.recorded import why_not_replayable

    try:
        place = _recording_of(case, settings)
    except InputError as error:
        return str(error)
    if place is None:
        return f"no recording at {settings.recordings / case.case_name}"
    spec = case.spec()
    with tempfile.TemporaryDirectory() as scratch:
        workload = case.workload
        if spec is not None:
            generate_workload(spec, Path(scratch) / "workload")
            workload = Path(scratch) / "workload"
        digest = read_workload(Path(str(workload))).digest
    return why_not_replayable(
        place, model=case.model, hardware=case.hardware, engine=case.engine, workload_digest=digest
    )


def recorded(case: Case, settings: Settings) -> RealSide:
    """The recording of a case that has one."""
    from pytest_gpusim.backends.recorded import open_recording

    place = _recording_of(case, settings)
    assert place is not None
    recording = open_recording(place)
    return RealSide(recording.workload, recording.runs, recording.bundle)


def _recording_of(case: Case, settings: Settings) -> Path | None:
    from pytest_gpusim.backends.archive import find_recording

    if settings.recordings is None:
        return None
    unpacked = settings.artifacts / "recordings" / ".unpacked"
    return find_recording(settings.recordings, case.case_name, unpacked)


def why_not_live(case: Case) -> str | None:
    """Why the case cannot be measured here, in words; None where it can."""
    from importlib.util import find_spec

    if case.backend == "openai":
        return None  # the server may be anywhere
    if case.hardware.present_device() is None:
        return f"no {case.hardware.name} in this machine"
    if case.backend == "vllm" and find_spec("vllm") is None:
        return "vllm is not installed: pip install 'pytest-gpusim[cpu]' or 'pytest-gpusim[cuda]'"
    return None


def _live(case: Case, settings: Settings) -> RealSide:
    from pytest_gpusim.bundle import read_bundle, resolve_root
    from pytest_gpusim.runs import read_run

    # What is cheap to refuse comes before minutes of measuring.
    if case.backend == "openai":
        from pytest_gpusim.backends.openai_options import Options

        Options.read(case.backend_params).require_device(case.hardware)
    bundle = read_bundle(resolve_root(settings.profiling_root, case.model.name, case.hardware.name))
    settings.registry.simulators.require(case.simulator)
    workload = case_workload(case, settings.artifacts)
    engine = case.engine
    if case.backend != "openai":
        # A server has its settings already; the bundle's would stand in the run as if it had them.
        engine = engine.merged(bundle.engine_settings)
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


def _record(
    case: Case, settings: Settings, workload: Workload, bundle: Bundle, outs: list[Path]
) -> None:
    """Leave a recording of a live case below ``artifacts/recordings``, in place of an older one."""
    from pytest_gpusim.backends.recorded import write_recording

    place = settings.artifacts / "recordings" / case.case_name
    fresh = place.with_name(new_id(f".{case.case_name}"))
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
