"""How many KV blocks fit into a device's memory beside the weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pytest_gpusim.deployment.model import ModelShape, dtype_bytes
from pytest_gpusim.deployment.settings.defaults import release_of

if TYPE_CHECKING:
    from pytest_gpusim.deployment.engine import EngineSettings

GIB = 1 << 30


@dataclass(frozen=True)
class KvCapacity:
    """KV blocks of one device, and the terms that they follow from (sizes in bytes).

    ``memory * utilization`` less weights, activations and what else the engine keeps, divided by
    the bytes of a block; or ``stated``, the bytes that the engine was told to take. vLLM measures
    the peak of its activations at its start; 0 where ``utilization`` is meant to leave them out.
    """

    memory: int
    utilization: float
    weights: int
    block_bytes: int
    activations: int = 0
    other: int = 0
    collectives: int = 0
    stated: int | None = None

    @property
    def num_gpu_blocks(self) -> int:
        """Whole blocks that fit."""
        if self.stated is not None:
            return self.stated // self.block_bytes
        kept = self.weights + self.activations + self.other + self.collectives
        return int((self.memory * self.utilization - kept) // self.block_bytes)

    def to_json(self) -> dict[str, Any]:
        """The terms and the result, as JSON values."""
        return {
            "memory_bytes": self.memory,
            "utilization": self.utilization,
            "weights_bytes": self.weights,
            "block_bytes": self.block_bytes,
            "num_gpu_blocks": self.num_gpu_blocks,
        }

    def __str__(self) -> str:
        blocks = f"{self.block_bytes / (1 << 20):g} MiB = {self.num_gpu_blocks} KV blocks"
        if self.stated is not None:
            return f"{self.stated / GIB:.3f} GiB / {blocks}"
        terms = [
            f"{self.memory / GIB:g} GiB x {self.utilization:g}",
            f"{self.weights / GIB:.3f} GiB of weights",
        ]
        if self.activations:
            terms.append(f"{self.activations / GIB:.2f} GiB of activations (estimated)")
        if self.other:
            terms.append(f"{self.other / GIB:.2f} GiB outside of torch (estimated)")
        if self.collectives:
            terms.append(f"{self.collectives / GIB:.2f} GiB of NCCL (estimated)")
        return f"({' - '.join(terms)}) / {blocks}"


def kv_capacity(
    shape: ModelShape,
    *,
    memory_gib: float,
    utilization: float,
    dtype: str,
    block_size: int,
    tensor_parallel_size: int = 1,
    kv_cache_dtype: str | None = None,
) -> KvCapacity:
    """The KV blocks of each of ``tensor_parallel_size`` devices of ``memory_gib``.

    Args:
        shape: The model.
        memory_gib: Of one device.
        utilization: The share of it for weights and KV cache.
        dtype: Of what the checkpoint does not quantize.
        block_size: Tokens of a block.
        tensor_parallel_size: Devices that the model is split over.
        kv_cache_dtype: vLLM's setting; None is ``auto``.
    """
    cache = shape.kv_cache_dtype(dtype, kv_cache_dtype)
    return KvCapacity(
        memory=round(memory_gib * GIB),
        utilization=utilization,
        weights=weight_bytes(shape, dtype, tensor_parallel_size),
        block_bytes=block_size * shape.kv_bytes_per_token(cache, tensor_parallel_size),
    )


def expert_bytes(shape: ModelShape, dtype: str, tensor_parallel_size: int = 1) -> int:
    """Bytes of the routed experts' weights on one device; 0 for a dense model."""
    number = shape.weights_by_part(tensor_parallel_size).get("experts", 0)
    quantization = shape.quantization
    if quantization is not None and quantization.covers("experts"):
        return round(number * quantization.weight_bytes)
    return number * dtype_bytes(dtype)


def weight_bytes(shape: ModelShape, dtype: str, tensor_parallel_size: int = 1) -> int:
    """Bytes of the weights on one of the devices that the model is split over.

    Experts are split evenly, whether each is cut or whole ones are dealt out.
    """
    quantization, total = shape.quantization, 0.0
    for part, number in shape.weights_by_part(tensor_parallel_size).items():
        if quantization is not None and quantization.covers(part):
            total += number * quantization.weight_bytes
        else:
            total += number * dtype_bytes(dtype)
    return round(total)


# What CUDA's libraries take while vLLM measures itself; on one device 0.1 to 0.3 GiB.
_OUTSIDE_OF_TORCH = GIB // 5
# What NCCL takes on each device, by the devices: of two H100, what a log has more than of one (vLLM
# pull request 10511), and of a node's, the free memory with and without (pull request 25359).
_NCCL_OUTSIDE_SINCE = (0, 11)
_NCCL_OF_TWO, _NCCL_OF_MORE = round(1.79 * GIB), round(4.52 * GIB)
# 4-byte copies of the logits while top-k and top-p are sorted: the logits in two formats, their
# sorted values and 8-byte places, their probabilities, and what the sort needs itself
# (vllm/v1/sample/ops/topk_topp_sampler.py: apply_top_k_top_p_pytorch; an upper estimate where
# Triton's kernels do it, since 0.18).
_COPIES_OF_LOGITS = 7


def engine_kv_capacity(
    shape: ModelShape, settings: EngineSettings, *, memory_gib: float, utilization: float
) -> KvCapacity:
    """The KV blocks that vLLM finds room for at its start, with an estimate of what it measures.

    vLLM runs a full batch once and takes the peak of its memory, the larger one of the layers' and
    the sampler's (``vllm/v1/worker/gpu_worker.py: determine_available_memory``). With the estimates
    here the blocks came within 2% of those that two engines found (Llama-3.1-8B on a RTX 4090,
    Qwen3-14B on an H100), and the room within 10% of that of a mixture of experts on four devices.

    Args:
        shape: The model.
        settings: With limits, block size, dtype and degree.
        memory_gib: What CUDA reports of one device.
        utilization: vLLM's ``gpu_memory_utilization``.
    """
    dtype = settings.dtype or shape.torch_dtype
    capacity = kv_capacity(
        shape,
        memory_gib=memory_gib,
        utilization=utilization,
        dtype=dtype,
        block_size=settings.block_size or 16,
        tensor_parallel_size=settings.tensor_parallel_size or 1,
        kv_cache_dtype=settings.kv_cache_dtype,
    )
    return replace(
        capacity,
        activations=activation_bytes(shape, settings, dtype),
        other=_OUTSIDE_OF_TORCH,
        collectives=collective_bytes(settings),
        stated=settings.kv_cache_memory_bytes,
    )


def collective_bytes(settings: EngineSettings) -> int:
    """What NCCL takes out of the room for KV blocks, on one device: an estimate.

    Until 0.10 vLLM took its first look at the device's memory before it set up its collectives, so
    they counted as the engine's; since 0.11 they lie outside of ``gpu_memory_utilization``
    (``vllm/v1/worker/gpu_worker.py: init_device``, pull request 25359).
    """
    degree, release = settings.tensor_parallel_size or 1, release_of(settings.engine_version)
    if degree == 1 or release is None or release >= _NCCL_OUTSIDE_SINCE:
        return 0
    return _NCCL_OF_TWO if degree == 2 else _NCCL_OF_MORE


def activation_bytes(shape: ModelShape, settings: EngineSettings, dtype: str) -> int:
    """Peak of what a full batch keeps beside weights and KV cache, on one device: an estimate.

    Of each token the residual, the normed, the attention's and the next layer's input, and gate, up
    and their product of an MLP, or what its experts keep; or the sampler's copies of the logits of
    each sequence.
    """
    degree = settings.tensor_parallel_size or 1
    tokens, seats = settings.max_num_batched_tokens or 0, settings.max_num_seqs or 0
    inner = 3 * shape.intermediate_size / degree
    if shape.experts is not None:
        # For each expert of a token one buffer for gate and up, then for the output, and one for
        # their product (vllm/model_executor/layers/fused_moe/fused_moe.py: fused_experts_impl).
        width = shape.experts.width / degree
        inner = shape.experts.per_token * (max(2 * width, shape.hidden_size) + width)
    wide = inner + 4 * shape.hidden_size
    layers = tokens * wide * dtype_bytes(dtype)
    sampler = min(seats, tokens) * shape.vocab_size * 4 * _COPIES_OF_LOGITS
    return round(max(layers, sampler))
