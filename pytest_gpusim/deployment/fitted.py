"""What a profile's metadata say was stated of its times, or fitted; held to its kinds."""

from __future__ import annotations

from pytest_gpusim.documents import JsonObject, check_number

_MOST_SQUARED = 10**30
"""Of a variance of times in ns."""


def check_fitted(profile: JsonObject) -> None:
    """Hold ``engine_time`` and ``calibration`` of a profile's metadata to their kinds.

    Raises:
        InputError: A value is none of its kind; names file and key.
    """
    if "engine_time" in profile:
        profile.record("engine_time").number("time_ns")
    calibration = profile.record_or_empty("calibration")
    parameters = calibration.array("parameters") if "parameters" in calibration else []
    for number, entry in enumerate(parameters):
        where = f"{calibration.place('parameters')}[{number}]"
        fitted = JsonObject(profile.path, where, entry)
        fitted.text("name")
        for key in ("time_ns", "low_ns", "high_ns"):
            fitted.number(key, signed=True)
    if "joint" in calibration:
        calibration.number("profile_bias", signed=True)
        _check_joint(calibration.record("joint"))


def _check_joint(joint: JsonObject) -> None:
    """One normal distribution: names, as many means, and a square of covariances."""
    names = joint.array("names")
    if not all(isinstance(name, str) for name in names):
        raise joint.fail("names", "expected texts")
    for mean in joint.array("mean", len(names), "names"):
        check_number(joint.path, joint.place("mean"), mean, signed=True)
    for place, row in enumerate(joint.array("covariance", len(names), "names")):
        where = f"{joint.place('covariance')}[{place}]"
        if not isinstance(row, list) or len(row) != len(names):
            raise joint.fail("covariance", f"expected {len(names)} rows of {len(names)} numbers")
        for value in row:
            check_number(joint.path, where, value, signed=True, most=_MOST_SQUARED)
        if not row[place] > 0:
            raise joint.fail("covariance", f"the variance of {names[place]} is not above 0")
