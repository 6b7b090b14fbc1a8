"""The named checks that say whether a comparison's figures can be trusted."""

from __future__ import annotations

from collections.abc import Collection

from pytest_gpusim.checks import Check
from pytest_gpusim.compare.checks import (
    cancelling,
    measurement,
    prefix_cache,
    profile,
    settings,
    workload,
)
from pytest_gpusim.compare.checks.context import CheckContext, CheckFunction, make_check
from pytest_gpusim.errors import UsageError

__all__ = ["CHECKS", "CheckContext", "require_known", "run_checks"]

CHECKS: dict[str, CheckFunction] = {
    "same_workload": workload.same_workload,
    "settings_mirrored": settings.settings_mirrored,
    "kv_blocks_mirrored": settings.kv_blocks_mirrored,
    "profile_matches": profile.profile_matches,
    "profile_covers": profile.profile_covers,
    "overhead_counted": profile.overhead_counted,
    "generator_on_time": measurement.generator_on_time,
    "warmed_up": measurement.warmed_up,
    "prefix_cache_cold": prefix_cache.prefix_cache_cold,
    "below_saturation": measurement.below_saturation,
    "no_cancelling_errors": cancelling.no_cancelling_errors,
    "enough_samples": workload.enough_samples,
    "not_calibrated_on": profile.not_calibrated_on,
    "lengths_as_produced": workload.lengths_as_produced,
}
"""All checks of the contract, in its order."""


def require_known(names: Collection[str]) -> None:
    """Raise `UsageError` on a name that is not one of `CHECKS`."""
    for name in names:
        if name not in CHECKS:
            raise UsageError(f"unknown check {name!r}; known are {', '.join(CHECKS)}")


def run_checks(context: CheckContext, overrides: Collection[str] = ()) -> list[Check]:
    """Run all checks; a failure that is named in ``overrides`` gets the status ``overridden``."""
    require_known(overrides)
    found = [make_check(name, check, context) for name, check in CHECKS.items()]
    return [
        Check(check.name, "overridden", check.detail)
        if check.status == "fail" and check.name in overrides
        else check
        for check in found
    ]
