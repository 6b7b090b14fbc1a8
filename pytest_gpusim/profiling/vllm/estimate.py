"""How long a profile will take: guessed before the engine runs, then from its first steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pytest_gpusim.deployment.model import dtype_bytes
from pytest_gpusim.errors import UsageError
from pytest_gpusim.profiling.vllm.grid import Shape, shapes_of

if TYPE_CHECKING:
    from pytest_gpusim.deployment import Hardware
    from pytest_gpusim.vllm_runtime import LaunchSpec

# What vLLM takes where nothing is stated.
_SEATS, _BUDGET, _BLOCK = 128, 2048, {"cpu": 128, "cuda": 16}
# Share of the data sheet's arithmetic, bytes of weights per second, seconds of any step.
_ARITHMETIC = {"cpu": 0.1, "cuda": 0.4}
_BYTES_PER_S = {"cpu": 1e10, "cuda": 1e12}
_LEAST_S = {"cpu": 0.01, "cuda": 0.02}


def guess(spec: LaunchSpec, hardware: Hardware, passes: int, *, quick: bool) -> tuple[int, float]:
    """Measurements of one engine, and seconds: of the arithmetic, or of reading the weights.

    Good for its order of magnitude. What the settings do not state is taken to be vLLM's default,
    and the KV cache to have room for every seat.
    """
    stated, model, kind = spec.settings, spec.model, spec.device
    block = stated.block_size or _BLOCK[kind]
    seats, longest = stated.max_num_seqs or _SEATS, stated.max_model_len or model.max_position
    blocks = stated.num_gpu_blocks or seats * math.ceil(longest / block) + 1
    engine = {
        "max_num_seqs": seats,
        "max_num_batched_tokens": stated.max_num_batched_tokens or _BUDGET,
        "max_model_len": longest,
        "block_size": block,
        "num_gpu_blocks": blocks,
    }
    shapes = shapes_of(engine, quick=quick)
    parameters = model.num_parameters() / (stated.tensor_parallel_size or 1)
    rate = hardware.fp16_tflops * 1e12 * _ARITHMETIC[kind]
    reading = parameters * _width(stated.dtype or model.torch_dtype) / _BYTES_PER_S[kind]
    total = 0.0
    for shape in shapes:
        step = max(2 * parameters * shape.num_tokens / rate, reading) + _LEAST_S[kind]
        total += step * shape.steps + (reading + _LEAST_S[kind] if shape.num_decodes else 0.0)
    return len(shapes) * passes, total * passes


def _width(dtype: str) -> int:
    try:
        return dtype_bytes(dtype)
    except UsageError:  # "auto", or a name that vLLM may know
        return 2


def from_first_steps(costs: Mapping[int, float], shapes: Sequence[Shape]) -> float:
    """Seconds that the shapes take, their time taken as linear in their tokens.

    Args:
        costs: Tokens of a step to the seconds that it took.
        shapes: What is still to be measured.
    """
    sizes = sorted(costs)
    low, high = sizes[0], sizes[-1]
    slope = (costs[high] - costs[low]) / (high - low) if high > low else 0.0
    total = 0.0
    for shape in shapes:
        step = max(costs[low] / 2, costs[low] + slope * (shape.num_tokens - low))
        settling = costs[low] if shape.num_decodes else 0.0
        total += step * shape.steps + settling
    return total


def duration(seconds: float) -> str:
    """As it is said to a person."""
    if seconds >= 5400:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.0f} s"
