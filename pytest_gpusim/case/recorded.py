"""The real side from a recording."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from pytest_gpusim.case.definition import Case, RealSide, Settings, case_bundle
from pytest_gpusim.deployment import EngineSettings
from pytest_gpusim.workload.generate import generate_workload
from pytest_gpusim.workload.trace import read_workload


def why_not_recorded(case: Case, settings: Settings) -> str | None:
    """Why no recording can stand for the case, in words; None where one can.

    Raises:
        InputError: The recording is broken; that is a mistake to mend, not a case to skip.
    """
    if settings.recordings is None:
        return "no recordings were named (--gpusim-recordings)"
    from pytest_gpusim.backends.recorded import why_not_replayable

    place = _recording_of(case, settings)
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
    """The recording of a case that has one; its own profile, unless a root was named."""
    from pytest_gpusim.backends.recorded import open_recording

    place = _recording_of(case, settings)
    assert place is not None
    recording = open_recording(place)
    side = RealSide(recording.workload, recording.runs, recording.bundle)
    if settings.root_is_named:
        engine = EngineSettings.load(side.runs[0].path)
        side = replace(side, bundle=case_bundle(case, settings, engine))
    return side


def _recording_of(case: Case, settings: Settings) -> Path | None:
    from pytest_gpusim.backends.archive import find_recording

    if settings.recordings is None:
        return None
    unpacked = settings.artifacts / "recordings" / ".unpacked"
    return find_recording(settings.recordings, case.case_name, unpacked)
