"""One folder of a published run: the engine, the model and the machine that it states."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pytest_gpusim.artifacts import read_json
from pytest_gpusim.deployment import EngineSettings, ModelShape
from pytest_gpusim.deployment.memory import kv_capacity
from pytest_gpusim.errors import InputError
from pytest_gpusim.registry import Registry
from pytest_gpusim.runs.importers.llmservingsim import META, engine_settings, read_meta

RUN_FOLDER = "vllm_run"


@dataclass
class PublishedRun:
    """One folder, read: what is simulated and what it is compared with.

    Attributes:
        directory: The folder.
        meta: The run's ``meta.json``.
        cluster: ``cluster.json``; empty where there is none.
        model: The shape in ``config.json``.
        engine: Resolved settings, with a block count.
        notes: What had to be assumed or derived.
        capacity: The terms of a derived block count; None where the run states it.
    """

    directory: Path
    meta: dict[str, Any]
    cluster: dict[str, Any]
    model: ModelShape
    engine: EngineSettings
    notes: list[str] = field(default_factory=list)
    capacity: dict[str, Any] | None = None

    @property
    def tensor_parallel_size(self) -> int:
        """The run's degree."""
        return self.engine.tensor_parallel_size or 1


def find_runs(directories: Sequence[Path | str]) -> Iterator[Path]:
    """The folders of published runs: those given, or the ones in them."""
    for name in directories:
        directory = Path(name)
        if not directory.is_dir():
            raise InputError(directory, "", "no such directory", "give a folder with vllm_run/")
        if (directory / RUN_FOLDER).is_dir():
            yield directory.resolve()
            continue
        inner = sorted(p for p in directory.iterdir() if (p / RUN_FOLDER).is_dir())
        if not inner:
            raise InputError(
                directory,
                "",
                "neither it nor a folder in it has a published run",
                "give a folder that holds vllm_run/, profile/ and config.json",
            )
        yield from (path.resolve() for path in inner)


def read_published(directory: Path, registry: Registry) -> PublishedRun:
    """Read a folder's run, model and machine; the profile and the requests come later.

    Raises:
        InputError: A file is missing or wrong.
        UsageError: The run used what is not modelled.
    """
    meta = read_meta(directory / RUN_FOLDER)
    engine, notes = engine_settings(meta, directory / RUN_FOLDER / META)
    name = meta.get("model")
    config = directory / "config.json"
    if config.is_file():
        model = ModelShape.from_config_file(config, name=str(name) if name else None)
    elif name in registry.models.names():
        model = registry.models.get(str(name))
    else:
        raise InputError(config, "", "no such file, and the run's model is not a known one")
    cluster_path = directory / "cluster.json"
    cluster = read_json(cluster_path) if cluster_path.is_file() else {}
    if not isinstance(cluster, dict):
        raise InputError(cluster_path, "", "expected a JSON object")
    if engine.dtype in (None, "auto"):
        engine = replace(engine, dtype=model.torch_dtype)
    if engine.tensor_parallel_size is None:
        degree = (
            first_instance(cluster).get("tp_size") or first_instance(cluster).get("num_npus") or 1
        )
        engine = replace(engine, tensor_parallel_size=int(degree))
    run = PublishedRun(directory, meta, cluster, model, engine, notes)
    if engine.num_gpu_blocks is None:
        _derive_blocks(run)
    return run


def _derive_blocks(run: PublishedRun) -> None:
    """The block count that the run does not state, from the machine's memory."""
    memory = first_instance(run.cluster).get("npu_mem") or {}
    size = memory.get("mem_size")
    device = run.meta.get("hardware") or {}
    kv_cache = run.meta.get("kv_cache") or {}
    if size is None and device.get("device_total_memory_bytes"):
        size = device["device_total_memory_bytes"] / (1 << 30)
    if size is None:
        raise InputError(
            run.directory / RUN_FOLDER / "meta.json",
            "kv_cache.num_gpu_blocks",
            "is not stated, and no cluster.json says how much memory there is",
        )
    asked = (run.meta.get("resolved_config") or {}).get("cache_config") or {}
    utilization = (
        memory.get("mem_util")
        or kv_cache.get("gpu_memory_utilization")
        or asked.get("gpu_memory_utilization")
        or (run.meta.get("engine_kwargs") or {}).get("gpu_memory_utilization")
        or 0.9
    )
    capacity = kv_capacity(
        run.model,
        memory_gib=float(size),
        utilization=float(utilization),
        dtype=str(run.engine.dtype),
        block_size=run.engine.block_size or 16,
        tensor_parallel_size=run.tensor_parallel_size,
    )
    if capacity.num_gpu_blocks < 1:
        raise InputError(
            run.directory / "cluster.json", "npu_mem", f"leaves no room for KV blocks: {capacity}"
        )
    run.capacity = {"formula": str(capacity), **capacity.to_json()}
    run.engine = replace(run.engine, num_gpu_blocks=capacity.num_gpu_blocks)


def first_instance(cluster: Mapping[str, Any]) -> Mapping[str, Any]:
    """The cluster's first instance; empty where it has none."""
    nodes = cluster.get("nodes") or [{}]
    instances = (nodes[0] or {}).get("instances") or [{}]
    return instances[0] or {}
