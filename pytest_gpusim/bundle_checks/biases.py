"""By how much a profile may be off as a whole, beyond the scatter of its points.

Repetition does not make these smaller. How steady the machine is, a profile that was measured in
several passes says itself; the others do not show in it and are stated: assumptions of this
project, not measurements of the machine at hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pytest_gpusim.bundle import Bundle
    from pytest_gpusim.deployment import EngineSettings

OTHER_RELEASE = 0.02
COMPOSED = 0.02
SAME_DEVICE = 0.01
PROFILE_ERROR = "profile"
"""The error of all step times, a share, among what a calibration found together."""


class Bias(NamedTuple):
    """A source of error of all step times: its share, one standard deviation, and its reason."""

    name: str
    share: float
    reason: str


def biases_of(bundle: Bundle, engine: EngineSettings) -> list[Bias]:
    """What may move all step times of a simulation together."""
    found = [_device(bundle)]
    if bundle.meta.get("source") in ("aiconfigurator", "vidur"):
        text = "operators are composed from kernels' times, and not measured in the engine"
        found.append(Bias("composed", COMPOSED, text))
    profiled, asked = bundle.meta.get("engine_version"), engine.engine_version
    if profiled and asked and profiled != asked:
        text = f"profiled with engine {profiled}, simulated is {asked}"
        found.append(Bias("other_release", OTHER_RELEASE, text))
    return found


def _device(bundle: Bundle) -> Bias:
    """How far a run's steps may lie from a profile of the same device, on another day.

    A run and a profile are two sittings, each off by as much as one pass over all shapes is from
    the next: more passes in one sitting do not tell more of another one. Two profiles of a shared
    CPU three hours apart, whose passes vary by 1.7 and 2.1%, differ by 2.7% at decode steps.
    """
    passes = variation(bundle).get("step", 0.0)
    share = 2**0.5 * passes
    if share <= SAME_DEVICE:
        reason = "one device is not quite as fast as another, or as yesterday"
        return Bias("device", SAME_DEVICE, reason)
    return Bias(
        "device", share, f"a step's time varies by {passes:.1%} between the profile's passes"
    )


def variation(bundle: Bundle) -> dict[str, float]:
    """Coefficients of variation between a profile's passes, by operator; ``step`` of whole steps.

    Those of the engine as it serves where they were measured, without the hooks of operators.
    """
    known = _coefficients(bundle.meta.get("repeatability"))
    stated = bundle.meta.get("repeatability")
    served = stated.get("served_engine") if isinstance(stated, Mapping) else None
    return {**known, **_coefficients(served)}


def _coefficients(stated: object) -> dict[str, float]:
    known = stated.get("coefficient_of_variation") if isinstance(stated, Mapping) else None
    return {
        str(name): float(value)
        for name, value in (known if isinstance(known, Mapping) else {}).items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def step_time_bias(bundle: Bundle, engine: EngineSettings) -> float:
    """All of them together, as independent of each other; a share, one standard deviation."""
    return float(sum(bias.share**2 for bias in biases_of(bundle, engine)) ** 0.5)


def told_share(share: float) -> float:
    """The part of a step time's error, one standard deviation, that all loads have in common.

    Loads run other batches, so what is off at one of them is not all off at another. How much of it
    is, no profile says: half of the variance, for want of a reason for more or less.
    """
    return float(share * 0.5**0.5)


def not_told(fitted: float, asked: float) -> float:
    """What is open, after a calibration, of all step times of another load.

    Args:
        fitted: The share that the profile was thought to be off by when it was calibrated.
        asked: The share that it may be off by for the engine that is simulated.
    """
    return float((told_share(fitted) ** 2 + max(0.0, asked**2 - fitted**2)) ** 0.5)
