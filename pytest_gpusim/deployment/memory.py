"""How many KV blocks fit into a device's memory beside the weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pytest_gpusim.deployment.model import ModelShape, dtype_bytes

GIB = 1 << 30


@dataclass(frozen=True)
class KvCapacity:
    """KV blocks of one device, and the terms that they follow from (sizes in bytes).

    ``memory * utilization`` less the weights, divided by the bytes of a block. vLLM also keeps room
    for activations and the CUDA context, which is not known beforehand: ``utilization`` is meant to
    leave it out.
    """

    memory: int
    utilization: float
    weights: int
    block_bytes: int

    @property
    def num_gpu_blocks(self) -> int:
        """Whole blocks that fit."""
        return int((self.memory * self.utilization - self.weights) // self.block_bytes)

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
        return (
            f"({self.memory / GIB:g} GiB x {self.utilization:g} - {self.weights / GIB:.3f} GiB of "
            f"weights) / {self.block_bytes / (1 << 20):g} MiB = {self.num_gpu_blocks} KV blocks"
        )


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
