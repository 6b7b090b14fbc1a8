"""From checks and judgements to one word."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_gpusim.checks import Check
from pytest_gpusim.compare.checks import CHECKS, Protects
from pytest_gpusim.compare.judging.tolerances import Judgement, Verdict


def verdict_of(checks: Sequence[Check], judgements: Sequence[Judgement]) -> Verdict:
    """The verdict on a comparison. Checks come before tolerances; the first rule that fits holds.

    1. A failed check that is not overridden and protects the case: ``fail``. The two sides are
       not the same case, so no figure is evidence for the simulator.
    2. A failed check that protects the measurement: ``inconclusive``. The real side must be
       measured again, whatever the figures say.
    3. A figure outside its tolerance: ``fail``.
    4. A figure that could not be judged (noise above the tolerance, metric not available):
       ``inconclusive``.
    5. Otherwise ``pass``. Warnings and skipped checks do not change the verdict.
    """
    failed = {CHECKS[check.name].protects for check in checks if check.status == "fail"}
    if Protects.CASE in failed:
        return "fail"
    if failed:
        return "inconclusive"
    outcomes = {judgement.outcome for judgement in judgements}
    if "fail" in outcomes:
        return "fail"
    return "inconclusive" if "inconclusive" in outcomes else "pass"
