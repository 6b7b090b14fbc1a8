"""The KV blocks of a run that does not state them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pytest_gpusim.deployment import EngineSettings, ModelShape
from pytest_gpusim.deployment.memory import GIB, kv_capacity
from pytest_gpusim.deployment.settings import Deployment, default, release_of
from pytest_gpusim.errors import InputError
from pytest_gpusim.llmservingsim.cluster import Cluster, as_number
from pytest_gpusim.llmservingsim.meta import look_up

_NO_ACTIVATIONS = (
    "no mem_util is stated: the engine's activations are not deducted, so that there are too many "
    "KV blocks"
)


@dataclass(frozen=True)
class DerivedBlocks:
    """A block count, the terms that it follows from, and what had to be assumed."""

    num_gpu_blocks: int
    terms: dict[str, Any]
    notes: tuple[str, ...] = ()


def derive_blocks(
    meta: dict[str, Any],
    cluster: Cluster,
    model: ModelShape,
    engine: EngineSettings,
) -> DerivedBlocks:
    """KV blocks by what the run says of its cache, else by the machine's memory.

    Raises:
        InputError: Nothing says how much memory there is, or it does not hold the weights.
    """
    block_size, degree = engine.block_size or 16, engine.tensor_parallel_size or 1
    block_bytes = block_size * model.kv_bytes_per_token(str(engine.dtype), degree)
    for key, unit, words in (
        ("num_kv_tokens", block_size, f"tokens / {block_size}"),
        ("kv_cache_memory_bytes", block_bytes, f"bytes / {block_bytes}"),
    ):
        value = look_up(meta, key)
        if type(value) is int and value // unit > 0:
            count = value // unit
            formula = f"{key} {value} {words} = {count} KV blocks"
            return DerivedBlocks(count, {"formula": formula, key: value, "num_gpu_blocks": count})
    size = stated_memory_gib(meta, cluster)
    if size is None:
        raise InputError(
            cluster.path,
            "npu_mem.mem_size",
            "is not stated, nor does the run say kv_cache.num_gpu_blocks",
            "state the memory (GiB) and mem_util, or the block count in meta.json",
        )
    utilization = cluster.memory("mem_util")
    notes: tuple[str, ...] = ()
    if utilization is None:
        utilization = as_number(look_up(meta, "gpu_memory_utilization")) or default(
            "gpu_memory_utilization", Deployment(release_of(engine.engine_version))
        )
        notes = (_NO_ACTIVATIONS,)
    capacity = kv_capacity(
        model,
        memory_gib=size,
        utilization=utilization,
        dtype=str(engine.dtype),
        block_size=block_size,
        tensor_parallel_size=degree,
    )
    if capacity.num_gpu_blocks < 2:
        raise InputError(cluster.path, "npu_mem", f"leaves no room for KV blocks: {capacity}")
    terms = {"formula": str(capacity), **capacity.to_json()}
    return DerivedBlocks(capacity.num_gpu_blocks, terms, notes)


def stated_memory_gib(meta: Mapping[str, Any], cluster: Cluster) -> float | None:
    """Memory of one device in GiB, by the cluster file or else by the run; None by neither."""
    size = cluster.memory("mem_size")
    total = as_number(meta["hardware"].get("device_total_memory_bytes"))
    return total / GIB if size is None and total else size
