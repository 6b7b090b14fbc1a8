"""The real side of a case: replay its recording, or measure it now."""

from __future__ import annotations

from pytest_gpusim.case.definition import CannotRunHere, Case, RealSide, Settings
from pytest_gpusim.case.live import live, why_not_live
from pytest_gpusim.case.recorded import recorded, why_not_recorded


def real_side(case: Case, settings: Settings) -> RealSide:
    """Replay the case's recording, or measure it now.

    Raises:
        CannotRunHere: Neither can be had; the message says what was looked for.
        InputError: There is a recording, and it is broken.
    """
    case.spec()  # an unknown workload is a mistake, not a missing recording
    no_recording = None
    if settings.real != "live":
        no_recording = why_not_recorded(case, settings)
        if no_recording is None:
            return recorded(case, settings)
        if settings.real == "recorded":
            raise CannotRunHere(no_recording)
    no_device = why_not_live(case)
    if no_device is not None:
        raise CannotRunHere(f"{no_recording}; {no_device}" if no_recording else no_device)
    return live(case, settings)
