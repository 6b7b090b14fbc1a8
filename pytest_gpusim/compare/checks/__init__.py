"""The named checks that say whether a comparison's figures can be trusted."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from pytest_gpusim.checks import Check
from pytest_gpusim.compare.checks import (  # noqa: F401 - each module declares its checks
    cancelling,
    clock,
    measurement,
    prefix_cache,
    profile,
    settings,
    workload,
)
from pytest_gpusim.compare.checks.declaration import DECLARED, Declaration, Protects
from pytest_gpusim.compare.sides import Sides
from pytest_gpusim.errors import UsageError

__all__ = ["CHECKS", "Declaration", "Protects", "require_known", "run_checks"]

CHECKS: dict[str, Declaration] = {
    declared.name: declared for declared in sorted(DECLARED, key=lambda declared: declared.rank)
}
"""All checks by name, in the order of their ranks."""


def require_known(names: Collection[str]) -> None:
    """Raise `UsageError` on a name that is not one of `CHECKS`."""
    for name in names:
        if name not in CHECKS:
            raise UsageError(f"unknown check {name!r}; known are {', '.join(CHECKS)}")


def run_checks(sides: Sides, overrides: Collection[str] = ()) -> list[Check]:
    """Run all checks; a failure that is named in ``overrides`` gets the status ``overridden``."""
    require_known(overrides)
    found = [declared.run(sides) for declared in CHECKS.values()]
    return [
        replace(check, status="overridden")
        if check.status == "fail" and check.name in overrides
        else check
        for check in found
    ]
