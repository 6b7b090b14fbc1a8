"""What served a measured point: checkpoint, devices and engine settings, or why it is refused."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_gpusim.deployment import EngineSettings, Hardware, ModelShape
from pytest_gpusim.deployment.memory import engine_kv_capacity
from pytest_gpusim.deployment.settings import Deployment, default, release_of
from pytest_gpusim.errors import UsageError
from pytest_gpusim.points.clients import Client
from pytest_gpusim.points.rows import Point
from pytest_gpusim.profiling.silicon_fusions import Fusions, default_fusions
from pytest_gpusim.profiling.silicon_tables import SiliconTables

if TYPE_CHECKING:
    from pytest_gpusim.registry import Registry

BLOCK_SIZE = 16
# A model and precision -> the checkpoint that is served for it; a model that is not listed is one.
_CHECKPOINTS = {
    ("meta-llama/Llama-3.1-70B", "fp8"): "nvidia/Llama-3.3-70B-Instruct-FP8",
    ("meta-llama/Llama-3.1-70B", "fp4"): "nvidia/Llama-3.3-70B-Instruct-FP4",
    ("meta-llama/Llama-3.1-8B", "fp8"): "nvidia/Llama-3.1-8B-Instruct-FP8",
    ("Qwen/Qwen3-32B", "fp8"): "Qwen/Qwen3-32B-FP8",
    ("Qwen/Qwen3-30B-A3B", "fp8"): "Qwen/Qwen3-30B-A3B-FP8",
    ("Qwen/Qwen3-235B-A22B", "fp8"): "Qwen/Qwen3-235B-A22B-FP8",
    ("Qwen/Qwen3-235B-A22B", "fp4"): "nvidia/Qwen3-235B-A22B-NVFP4",
    ("MiniMaxAI/MiniMax-M2.5", "fp4"): "nvidia/MiniMax-M2.5-NVFP4",
}
_PRECISIONS = {"bf16": ("bfloat16",), "fp8": ("fp8", "fp8_block"), "fp4": ("nvfp4",)}
# What InferenceX ran, where its rows do not say.
_RELEASE = "0.10.2"


@dataclass(frozen=True)
class Served:
    """What a point is simulated with.

    Attributes:
        shape: The checkpoint.
        hardware: The device.
        settings: Of the engine, complete.
        expert_parallel: Whether whole experts are dealt out.
        fusions: What its compiled engine runs as one kernel.
    """

    shape: ModelShape
    hardware: Hardware
    settings: EngineSettings
    expert_parallel: bool
    fusions: Fusions


def system_of(hardware: str) -> str:
    """AIConfigurator's name of the system that has this device."""
    return hardware if hardware.startswith("gb") else f"{hardware}_sxm"


def served_by(point: Point, client: Client, registry: Registry, tables: SiliconTables) -> Served:
    """What served a point.

    Raises:
        UsageError: It is not modelled, or not known; the message is the reason.
    """
    shape = _checkpoint(point, registry)
    _refuse_data_parallel(point, shape)
    hardware = registry.hardware.get(point.hardware)
    expert_parallel = shape.experts is not None and point.expert_parallel > 1
    version, limits = point.vllm_version or _RELEASE, client.limits(point)
    deployment = Deployment(
        release=release_of(version),
        memory_gib=hardware.usable_memory_gib,
        device_name=tables.device_name,
        world_size=point.tensor_parallel,
        max_model_len=limits.get("max_model_len", shape.max_position),
        max_num_seqs=limits.get("max_num_seqs"),
        max_num_batched_tokens=limits.get("max_num_batched_tokens"),
    )
    settings = EngineSettings(
        **{
            name: default(name, deployment)
            for name in (
                "max_num_batched_tokens",
                "enable_prefix_caching",
                "async_scheduling",
                "long_prefill_token_threshold",
                "scheduler_reserve_full_isl",
                "gpu_memory_utilization",
            )
        },
        max_num_seqs=deployment.max_num_seqs or default("max_num_seqs", deployment),
        max_model_len=limits.get("max_model_len", max(shape.max_position, point.isl + point.osl)),
        block_size=BLOCK_SIZE,
        dtype="bfloat16",
        tensor_parallel_size=point.tensor_parallel,
        enable_expert_parallel=expert_parallel,
        enforce_eager=False,
        engine_version=version,
    )
    stated = {
        "enable_prefix_caching": client.prefix_caching,
        "async_scheduling": client.async_scheduling,
    }
    settings = replace(settings, **{k: v for k, v in stated.items() if v is not None})  # type: ignore[arg-type]
    capacity = engine_kv_capacity(
        shape,
        settings,
        memory_gib=hardware.usable_memory_gib,
        utilization=settings.gpu_memory_utilization or 0.9,
    )
    longest = -(-(point.isl + point.osl) // BLOCK_SIZE)
    if capacity.num_gpu_blocks <= longest:
        raise UsageError(f"the model leaves no room for one request: {capacity}")
    return Served(
        shape,
        hardware,
        replace(settings, num_gpu_blocks=capacity.num_gpu_blocks),
        expert_parallel,
        client.fusions(point)
        or default_fusions(deployment.release, tables.sm_version, point.tensor_parallel),
    )


def _checkpoint(point: Point, registry: Registry) -> ModelShape:
    name = _CHECKPOINTS.get((point.model, point.precision), point.model)
    shape = registry.find_model(name)
    if shape is None:
        raise UsageError(f"the model {name} is not known")
    scheme = shape.quantization.scheme if shape.quantization is not None else "bfloat16"
    known = _PRECISIONS.get(point.precision, (point.precision,))
    if point.precision and scheme not in known:
        raise UsageError(f"which {point.precision} checkpoint of {point.model} is not known")
    return replace(shape, name=name)


def _refuse_data_parallel(point: Point, shape: ModelShape) -> None:
    """Refuse attention that is not split over all the devices that the experts are split over."""
    if point.data_parallel > 1:
        raise UsageError("data parallelism within one engine is not modelled")
    experts = point.moe_tensor_parallel * point.expert_parallel
    if shape.experts is not None and experts != point.tensor_parallel:
        raise UsageError(
            f"data-parallel attention is not modelled: experts over {experts} devices, attention "
            f"over {point.tensor_parallel}"
        )
    if point.moe_tensor_parallel > 1 and point.expert_parallel > 1:
        raise UsageError("experts both cut and dealt out are not modelled")
