"""From checks and judgements to one word."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pytest_gpusim.compare.checks import CHECKS, ComparisonCheck, Protects
from pytest_gpusim.compare.judging.judgement import Judgement

Verdict = Literal["pass", "fail", "inconclusive", "not_judged"]
_WORSE = ("pass", "inconclusive", "fail")


def verdict_of(
    checks: Sequence[ComparisonCheck], judgements: Sequence[Judgement], *, asked: bool = True
) -> Verdict:
    """The verdict on a comparison; the first rule that fits holds.

    1. A needed check that failed: ``fail``, judged or not.
    2. Nothing was asked: ``not_judged``.
    3. Any other check that protects the case and failed: ``fail``. The two sides are not the same,
       or errors cancel, and no figure is evidence for the simulator.
    4. A figure outside its tolerance: ``fail``.
    5. A figure that straddles it or cannot be judged, no figure at all, a needed check that could
       not be judged (``unknown``), or another check of the measurement that failed:
       ``inconclusive``.
    6. Otherwise ``pass``. Warnings, what was accepted, and checks that do not apply change nothing.

    Args:
        checks: What every check found.
        judgements: What the figures came to.
        asked: Whether tolerances were given, by a user or by default.
    """
    failed = [check for check in checks if check.status == "fail"]
    if any(check.needed for check in failed):
        return "fail"
    if not asked:
        return "not_judged"
    if any(CHECKS[check.name].protects is Protects.CASE for check in failed):
        return "fail"
    outcomes = {judgement.outcome for judgement in judgements}
    if "fail" in outcomes:
        return "fail"
    unknown = any(check.needed and check.status == "unknown" for check in checks)
    if failed or unknown or "inconclusive" in outcomes or not outcomes:
        return "inconclusive"
    return "pass"


def worse_of(earlier: Sequence[Judgement], now: Sequence[Judgement]) -> list[Judgement]:
    """The judgements, those of an earlier tolerance where they came out worse."""
    before = {one.name: one for one in earlier}
    pairs = ((one, before.get(one.name, one)) for one in now)
    return [max(pair, key=lambda one: _WORSE.index(one.outcome)) for pair in pairs]
