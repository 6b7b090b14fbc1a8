"""The named checks that say whether a comparison's figures can be trusted.

A check compares what both sides say. Where one side is silent, it is ``unknown``, not a pass;
``skip`` says that it does not apply.
"""

from __future__ import annotations

from collections.abc import Collection

from pytest_gpusim.checks import Check
from pytest_gpusim.compare.checks import (  # noqa: F401 - each module declares its checks
    cancelling,
    clock,
    measurement,
    prefix_cache,
    profile,
    repeats,
    roles,
    saturation,
    settings,
    steady,
    units,
    workload,
)
from pytest_gpusim.compare.checks.declaration import (
    DECLARED,
    Accept,
    ComparisonCheck,
    Declaration,
    Protects,
)
from pytest_gpusim.compare.sides import Sides
from pytest_gpusim.errors import UsageError, meant
from pytest_gpusim.progress import ticked

__all__ = [
    "CHECKS",
    "ComparisonCheck",
    "Declaration",
    "Protects",
    "keys_of",
    "may_accept",
    "remedy",
    "require_acceptable",
    "run_checks",
]

CHECKS: dict[str, Declaration] = {
    declared.name: declared for declared in sorted(DECLARED, key=lambda declared: declared.rank)
}
"""All checks by name, in the order of their ranks."""


def require_acceptable(names: Collection[str]) -> None:
    """Raise `UsageError` on a name that is no check, or one of which nothing can be accepted."""
    for name in names:
        if name not in CHECKS:
            hint = meant(name, CHECKS)
            raise UsageError(f"unknown check {name!r}{hint}; known are {', '.join(CHECKS)}")
        if CHECKS[name].accept is Accept.NEVER:
            raise UsageError(
                f"check {name!r} cannot be accepted: without it the figures say nothing; state "
                "what a run does not say, or compare other runs"
            )


def remedy(check: Check) -> str:
    """What can be done about a check that is unknown, to be put behind its detail; else nothing."""
    if check.status != "unknown":
        return ""
    what = " and ".join(keys_of(check)) or "it"
    return f"; state {what}, or accept {check.name}" if may_accept(check) else f"; state {what}"


def may_accept(check: Check) -> bool:
    """Whether a user may accept that it failed, or that it is unknown."""
    known = CHECKS.get(check.name)
    if known is None:
        return False
    return (
        known.accept is Accept.FAILURE
        if check.status == "fail"
        else known.accept is not Accept.NEVER
    )


def keys_of(check: Check) -> list[str]:
    """By which keys a user states what a check does not know: those that it names, else its first.

    A key ``engine.NAME`` stands for each setting.
    """
    known = CHECKS.get(check.name)
    keys = known.states if known is not None else ()
    return [key for key in keys if key in check.detail] or list(keys[:1])


def run_checks(sides: Sides, accept: Collection[str] = ()) -> tuple[ComparisonCheck, ...]:
    """Run all checks; what may be accepted of those named in ``accept`` is."""
    require_acceptable(accept)
    checks = ticked(CHECKS.items(), "check", len(CHECKS), "checks")
    return tuple(declared.run(sides, name in accept) for name, declared in checks)
