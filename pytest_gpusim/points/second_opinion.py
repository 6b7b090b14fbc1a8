"""AIConfigurator's own estimate of a point, from the same tables."""

from __future__ import annotations

import logging
from functools import cache
from typing import Any

from pytest_gpusim.points.deployment import Served, system_of
from pytest_gpusim.points.rows import Point

# Shapes that its package knows under another name, with what it must be told of their numbers.
_PLAIN: dict[str, Any] = {}
_STATIC_FP8 = {"gemm_quant_mode": "fp8_static", "kvcache_quant_mode": "fp8"}
_NAMES: dict[str, tuple[str, dict[str, Any]]] = {
    "nvidia/Llama-3.1-8B-Instruct-FP8": ("meta-llama/Meta-Llama-3.1-8B", _STATIC_FP8),
    "nvidia/Llama-3.3-70B-Instruct-FP8": ("nvidia/Llama-3.1-70B-Instruct-FP8", _PLAIN),
}


def estimate(point: Point, served: Served) -> tuple[float, float] | None:
    """(TTFT, TPOT) in ms of its model of continuous batching; None where it gives none.

    The prompts of a step are those that fit into the engine's token budget.
    """
    name, quantization = _NAMES.get(served.shape.name, (served.shape.name, _PLAIN))
    try:
        from aiconfigurator_core.sdk.config import RuntimeConfig

        backend, database, model = _parts(
            system_of(point.hardware),
            name,
            point.tensor_parallel,
            point.moe_tensor_parallel if served.shape.experts is not None else 1,
            point.expert_parallel,
            tuple(quantization.items()),
        )
        summary = backend.run_agg(
            model,
            database,
            RuntimeConfig(batch_size=point.concurrency, isl=point.isl, osl=point.osl),
            ctx_tokens=served.settings.max_num_batched_tokens,
        )
        row = summary.get_summary_df().iloc[0]
        return float(row["ttft"]), float(row["tpot"])
    except Exception:  # it knows not every model, and says so in many ways
        return None


@cache
def _parts(
    system: str,
    name: str,
    tensor_parallel: int,
    moe_tensor_parallel: int,
    expert_parallel: int,
    quantization: tuple[tuple[str, Any], ...],
) -> tuple[Any, Any, Any]:
    from aiconfigurator_core.sdk.backends.factory import get_backend
    from aiconfigurator_core.sdk.config_builders import build_model_config
    from aiconfigurator_core.sdk.models import get_model
    from aiconfigurator_core.sdk.perf_database import get_database

    from pytest_gpusim.profiling.silicon_tables import open_tables

    logging.getLogger("aiconfigurator_core").setLevel(logging.ERROR)
    version = open_tables(system, "vllm", None).version
    config = build_model_config(
        tensor_parallel, 1, 1, moe_tensor_parallel, expert_parallel, **dict(quantization)
    )
    return (
        get_backend("vllm"),
        get_database(system, "vllm", version),
        get_model(name, config, "vllm"),
    )
