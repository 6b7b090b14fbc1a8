"""Why a comparison does not hold: the likeliest explanations that the evidence supports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pytest_gpusim.checks import Check
from pytest_gpusim.compare.checks import CHECKS
from pytest_gpusim.compare.judging.tolerances import Judgement


def likely_causes(
    checks: Sequence[Check], judgements: Sequence[Judgement], attribution: Mapping[str, Any]
) -> list[str]:
    """One line each, the likeliest first; empty where nothing is wrong.

    Checks that failed come first, then what the attribution of the error points at, then checks
    that warned.
    """
    explaining = [check for check in checks if CHECKS[check.name].cause]
    failed = [check for check in explaining if check.status in ("fail", "overridden")]
    off = [judgement for judgement in judgements if judgement.outcome == "fail"]
    if not off and not failed:
        return []
    warned = [check for check in explaining if check.status == "warn"]
    return [
        *(_as_cause(check) for check in failed),
        *(attribution.get("findings", ()) if off else ()),
        *(_as_cause(check) for check in warned),
    ]


def _as_cause(check: Check) -> str:
    return f"{CHECKS[check.name].cause} ({check.name}): {check.detail}"
