"""Why a comparison does not hold: the likeliest explanations that the evidence supports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pytest_gpusim.checks import Check
from pytest_gpusim.compare.tolerances import Judgement

# Checks whose failure explains wrong figures, the most decisive first.
_EXPLAINS = (
    "same_workload",
    "settings_mirrored",
    "kv_blocks_mirrored",
    "profile_matches",
    "prefix_cache_cold",
    "overhead_counted",
    "profile_covers",
    "warmed_up",
    "generator_on_time",
    "lengths_as_produced",
    "below_saturation",
)


def likely_causes(
    checks: Sequence[Check], judgements: Sequence[Judgement], attribution: Mapping[str, Any]
) -> list[str]:
    """One line each, the likeliest first; empty where nothing is wrong.

    Checks that failed come first, then what the attribution of the error points at, then checks
    that warned.
    """
    by_name = {check.name: check for check in checks}
    failed = [by_name[name] for name in _EXPLAINS if by_name[name].status in ("fail", "overridden")]
    off = [judgement for judgement in judgements if judgement.outcome == "fail"]
    if not off and not failed:
        return []
    warned = [by_name[name] for name in _EXPLAINS if by_name[name].status == "warn"]
    return [
        *(f"{check.name}: {check.detail}" for check in failed),
        *(attribution.get("findings", ()) if off else ()),
        *(f"{check.name}: {check.detail}" for check in warned),
    ]
