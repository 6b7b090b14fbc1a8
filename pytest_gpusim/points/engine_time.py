"""What tables of kernels do not hold, from measured points, one configuration always left out.

They hold no time between kernels, none of the scheduler, the sampler's sorting or the copying of
tokens. What is left of a measured time per token when the kernels are simulated is taken, per
release of vLLM, as so much per layer and so much per sequence of the step. Experts' kernels changed
most between releases: what is left of models of experts besides is taken as so much per byte of the
experts' weights that a device holds, as if a release read them all, used or not. All are fitted on
the points of other configurations than the one that they are used for, so no point is judged by
what was fitted on it or on its neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pytest_gpusim.deployment import ModelShape
from pytest_gpusim.deployment.memory import expert_bytes
from pytest_gpusim.points.rows import Point
from pytest_gpusim.points.simulation import EngineTime, Simulated

_FEWEST_CONFIGURATIONS = 2


@dataclass(frozen=True)
class Kernels:
    """A point simulated with the time of its kernels alone.

    Attributes:
        point: What was measured.
        shape: Its model.
        simulated: What the simulation gave.
    """

    point: Point
    shape: ModelShape
    simulated: Simulated

    @property
    def served(self) -> tuple[str, str, str, int]:
        """What a row of any wording is of: release, checkpoint, hardware and degree."""
        point = self.point
        return point.vllm_version, self.shape.name, point.hardware, point.tensor_parallel

    @property
    def is_dense(self) -> bool:
        """Whether the model has no experts."""
        return self.shape.experts is None

    @property
    def expert_bytes(self) -> int:
        """Bytes of the experts' weights on one device."""
        return expert_bytes(self.shape, "bfloat16", self.point.tensor_parallel)


@dataclass(frozen=True)
class Fit:
    """Engine time per layer and per sequence, and per GB of experts on a device, in ns.

    ``configurations`` of dense models gave the first two, ``expert_configurations`` the third;
    where there is none of those it is 0.
    """

    per_layer_ns: float
    per_sequence_ns: float
    configurations: int
    per_expert_gb_ns: float = 0.0
    expert_configurations: int = 0

    def of(self, kernels: Kernels) -> EngineTime:
        """The engine time of a point's model and degree."""
        experts = self.per_expert_gb_ns * kernels.expert_bytes / 1e9
        layers = self.per_layer_ns * kernels.shape.num_layers
        return EngineTime(layers + experts, self.per_sequence_ns)


def fit_without(point: Point, known: Sequence[Kernels]) -> Fit | None:
    """The fit for a point, from other configurations of its release.

    Least squares of the relative error of the time per token: first dense models, then, with what
    they gave, models of experts. None where fewer than two other dense configurations are known.
    """
    import numpy as np

    mine = {each.served for each in known if each.point.configuration == point.configuration}
    others = [
        each
        for each in known
        if each.simulated.sequences is not None
        and each.point.vllm_version == point.vllm_version
        and each.point.configuration != point.configuration
        and each.served not in mine
    ]
    dense = [each for each in others if each.is_dense]
    configurations = len({each.point.configuration for each in dense})
    if configurations < _FEWEST_CONFIGURATIONS:
        return None
    measured = np.array([each.point.tpot_ms for each in dense])
    missing = measured - np.array([each.simulated.tpot_ms for each in dense])
    features = np.array([[each.shape.num_layers, each.simulated.sequences] for each in dense])
    found, *_ = np.linalg.lstsq(features / measured[:, None], missing / measured, rcond=None)
    per_layer, per_sequence = (max(0.0, float(value)) * 1e6 for value in found)
    times = Fit(per_layer, per_sequence, configurations)
    return _with_experts(times, [each for each in others if not each.is_dense])


def _with_experts(fit: Fit, sparse: Sequence[Kernels]) -> Fit:
    """The fit with what other configurations of models of experts are left with."""
    above = below = 0.0
    for each in sparse:
        engine = fit.of(each)
        sequences = each.simulated.sequences or 0.0
        added_ms = (engine.per_step_ns + sequences * engine.per_sequence_ns) / 1e6
        measured = each.point.tpot_ms
        missing = (measured - each.simulated.tpot_ms - added_ms) / measured
        held = each.expert_bytes / 1e9 / measured
        above += held * missing
        below += held * held
    if not below:
        return fit
    configurations = len({each.point.configuration for each in sparse})
    return replace(fit, per_expert_gb_ns=1e6 * above / below, expert_configurations=configurations)
