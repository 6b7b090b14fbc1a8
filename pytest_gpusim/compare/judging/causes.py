"""Why a comparison does not hold: the likeliest explanations that the evidence supports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pytest_gpusim.compare.checks import CHECKS, ComparisonCheck
from pytest_gpusim.compare.judging.judgement import Judgement


def likely_causes(
    checks: Sequence[ComparisonCheck],
    judgements: Sequence[Judgement],
    attribution: Mapping[str, Any],
) -> list[str]:
    """One line each, the likeliest first; empty where nothing is wrong.

    Checks that failed come first, for another case explains everything; then what the attribution
    of the error points at, by how much of the error it explains; then what was accepted although it
    failed or is not known, and what is only a warning.
    """
    explaining = [check for check in checks if CHECKS[check.name].cause]
    failed = [check for check in explaining if check.status == "fail"]
    off = any(judgement.outcome == "fail" for judgement in judgements)
    if not off and not failed:
        return []
    found = []
    if off:
        pairs = zip(attribution["findings"], attribution["explained"], strict=True)
        found = [
            text if share is None else f"{text} ({share:.0%} of the error of the mean E2E)"
            for text, share in pairs
        ]
    weaker = [check for check in explaining if check.status in ("accepted", "unknown", "warn")]
    return [*map(_as_cause, failed), *found, *(map(_as_cause, weaker) if off else ())]


def _as_cause(check: ComparisonCheck) -> str:
    maybe = "" if check.status == "fail" else "perhaps "
    return f"{maybe}{CHECKS[check.name].cause} ({check.name}): {check.detail}"
