"""The real side of a case: its recording where there is one, else measured now."""

from __future__ import annotations

import tempfile
from functools import lru_cache
from pathlib import Path

from pytest_gpusim.case.definition import (
    CannotRunHere,
    Case,
    RealSide,
    Settings,
    case_bundle,
    engine_of,
)
from pytest_gpusim.case.live import live, why_not_live
from pytest_gpusim.workload.generate import WorkloadSpec, generate_workload
from pytest_gpusim.workload.trace import read_workload


class NotRecorded(CannotRunHere):
    """No recording can stand for the case; the message says what was looked for."""


def real_side(case: Case, settings: Settings) -> RealSide:
    """The runs that the user named, else the case's recording, else what is measured now.

    Raises:
        CannotRunHere: Neither can be had; the message says what was looked for.
        InputError: There is a recording, and it is broken.
    """
    if case.given is not None:
        runs = list(case.given.runs)
        engine = case.engine.merged(engine_of(runs[0]))
        return RealSide(case.given.workload, runs, case_bundle(case, settings, engine))
    case.spec()  # an unknown workload is a mistake, not a missing recording
    reasons = []
    if settings.real != "live":
        try:
            return recorded(case, settings)
        except NotRecorded as reason:
            if settings.real == "recorded":
                raise
            reasons.append(str(reason))
    no_device = why_not_live(case, settings.registry)
    if no_device is not None:
        raise CannotRunHere("; ".join([*reasons, no_device]))
    return live(case, settings)


def recorded(case: Case, settings: Settings) -> RealSide:
    """The recording of the case, with its own profile unless a root was named.

    Raises:
        NotRecorded: There is none, or it is of another case.
        InputError: It is broken; that is a mistake to mend, not a case to skip.
    """
    if settings.recordings is None:
        raise NotRecorded("no recordings were named (--gpusim-recordings)")
    from pytest_gpusim.backends.archive import find_recording
    from pytest_gpusim.backends.recorded import open_recording, why_not_replayable

    unpacked = settings.artifacts / "recordings" / ".unpacked"
    place = find_recording(settings.recordings, case.case_name, unpacked)
    if place is None:
        raise NotRecorded(f"no recording at {settings.recordings / case.case_name}")
    other = why_not_replayable(
        place,
        model=case.model,
        hardware=case.hardware,
        engine=case.engine,
        workload_digest=_workload_digest(case),
    )
    if other is not None:
        raise NotRecorded(other)
    recording = open_recording(place)
    bundle = recording.bundle
    if settings.root_is_named or case.profile is not None:
        bundle = case_bundle(case, settings, engine_of(recording.runs[0]))
    return RealSide(recording.workload, recording.runs, bundle)


def _workload_digest(case: Case) -> str:
    spec = case.spec()
    return read_workload(Path(str(case.workload))).digest if spec is None else _digest_of(spec)


@lru_cache
def _digest_of(spec: WorkloadSpec) -> str:
    with tempfile.TemporaryDirectory() as scratch:
        generate_workload(spec, Path(scratch) / "workload")
        return read_workload(Path(scratch) / "workload").digest
