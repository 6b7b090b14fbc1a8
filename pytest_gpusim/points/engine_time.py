"""Engine time of a step from measured points, one configuration always left out.

Tables of kernels hold no time between kernels, none of the scheduler, the sampler's sorting or the
copying of tokens. What is left of a measured time per token when the kernels are simulated is
taken, per release of vLLM, as so much per layer and so much per sequence of the step. The two are
fitted on the points of other configurations than the one that they are used for, so no point is
judged by what was fitted on it or on its neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pytest_gpusim.points.rows import Point
from pytest_gpusim.points.simulation import EngineTime, Simulated

_FEWEST_CONFIGURATIONS = 2


@dataclass(frozen=True)
class Kernels:
    """A point simulated with the time of its kernels alone.

    Attributes:
        point: What was measured.
        simulated: What the simulation gave.
        num_layers: Of its model.
        dense: Whether the model has no experts. Others take no part in a fit: their tables are off
            by more than engine time is.
    """

    point: Point
    simulated: Simulated
    num_layers: int
    dense: bool


@dataclass(frozen=True)
class Fit:
    """Engine time per layer and per sequence, in ns, and how many configurations it is from."""

    per_layer_ns: float
    per_sequence_ns: float
    configurations: int

    def of(self, num_layers: int) -> EngineTime:
        """The engine time of a model."""
        return EngineTime(self.per_layer_ns * num_layers, self.per_sequence_ns)


def fit_without(point: Point, known: Sequence[Kernels]) -> Fit | None:
    """The fit for a point: of its release, from dense models in other configurations.

    Least squares of the relative error of the time per token; None where fewer than two other
    configurations are known.
    """
    import numpy as np

    others = [
        each
        for each in known
        if each.dense
        and each.simulated.sequences is not None
        and each.point.vllm_version == point.vllm_version
        and each.point.configuration != point.configuration
    ]
    configurations = {each.point.configuration for each in others}
    if len(configurations) < _FEWEST_CONFIGURATIONS:
        return None
    measured = np.array([each.point.tpot_ms for each in others])
    missing = measured - np.array([each.simulated.tpot_ms for each in others])
    features = np.array([[each.num_layers, each.simulated.sequences] for each in others])
    found, *_ = np.linalg.lstsq(features / measured[:, None], missing / measured, rcond=None)
    per_layer, per_sequence = (max(0.0, float(value)) * 1e6 for value in found)
    return Fit(per_layer, per_sequence, len(configurations))
