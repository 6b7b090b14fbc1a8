"""By how much a profile may be off as a whole, beyond the scatter of its points.

None of these shows in the profile itself: they are stated, from what such profiles were found to be
off by, and told apart from scatter because repetition does not make them smaller.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pytest_gpusim.bundle import Bundle
    from pytest_gpusim.deployment import EngineSettings

OTHER_RELEASE = 0.02
COMPOSED = 0.02
SAME_DEVICE = 0.01


class Bias(NamedTuple):
    """A source of error of all step times: its share, one standard deviation, and its reason."""

    name: str
    share: float
    reason: str


def biases_of(bundle: Bundle, engine: EngineSettings) -> list[Bias]:
    """What may move all step times of a simulation together."""
    found = [
        Bias("device", SAME_DEVICE, "one device is not quite as fast as another, or as yesterday")
    ]
    if bundle.meta.get("source") in ("aiconfigurator", "vidur"):
        text = "operators are composed from kernels' times, and not measured in the engine"
        found.append(Bias("composed", COMPOSED, text))
    profiled, asked = bundle.meta.get("engine_version"), engine.engine_version
    if profiled and asked and profiled != asked:
        text = f"profiled with engine {profiled}, simulated is {asked}"
        found.append(Bias("other_release", OTHER_RELEASE, text))
    return found


def step_time_bias(bundle: Bundle, engine: EngineSettings) -> float:
    """All of them together, as independent of each other; a share, one standard deviation."""
    return float(sum(bias.share**2 for bias in biases_of(bundle, engine)) ** 0.5)
