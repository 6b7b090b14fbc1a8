"""From checks and judgements to one word."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_gpusim.checks import Check
from pytest_gpusim.compare.tolerances import Judgement, Verdict

MEASUREMENT_CHECKS = frozenset(
    {"generator_on_time", "warmed_up", "prefix_cache_cold", "below_saturation", "enough_samples"}
)
"""Checks of the real measurement: one that fails asks for another measurement."""


def verdict_of(checks: Sequence[Check], judgements: Sequence[Judgement]) -> Verdict:
    """The verdict on a comparison. Checks come before tolerances; the first rule that fits holds.

    1. A failed check that is not overridden and is not of `MEASUREMENT_CHECKS`: ``fail``. The two
       sides are not the same case, so no figure is evidence for the simulator.
    2. A failed check of `MEASUREMENT_CHECKS`: ``inconclusive``. The real side must be measured
       again, whatever the figures say.
    3. A figure outside its tolerance: ``fail``.
    4. A figure that could not be judged (noise above the tolerance, metric not available):
       ``inconclusive``.
    5. Otherwise ``pass``. Warnings and skipped checks do not change the verdict.
    """
    failed = {check.name for check in checks if check.status == "fail"}
    if failed - MEASUREMENT_CHECKS:
        return "fail"
    if failed:
        return "inconclusive"
    outcomes = {judgement.outcome for judgement in judgements}
    if "fail" in outcomes:
        return "fail"
    return "inconclusive" if "inconclusive" in outcomes else "pass"
