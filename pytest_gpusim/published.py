"""Published real runs simulated from their own profiles: ``gpusim published DIR…``.

A folder holds a profile, a real vLLM run and what another simulator's authors report on it (the
shape of LLMServingSim's ``bench/examples``). Everything is read from the files; the run itself is
only compared with, never calibrated on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_gpusim.artifacts import DEFAULT_ROOT, SCHEMA_VERSION, new_id, read_json
from pytest_gpusim.deployment import EngineSettings, Hardware, ModelShape
from pytest_gpusim.deployment.memory import kv_capacity
from pytest_gpusim.errors import InputError
from pytest_gpusim.published_errors import METRICS, read_published_errors
from pytest_gpusim.registry import Registry, SimulationInputs

if TYPE_CHECKING:
    from pytest_gpusim.runs import Run

RUN_FOLDER = "vllm_run"
_ENGINE_TIME = "none: no stated source gives this machine's engine time per iteration"
_MODE = "the engine's mode is not matched: the profile holds kernel times, which both modes run"


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


def compare_published(
    directories: Sequence[Path | str],
    registry: Registry,
    *,
    simulator: str = "vidur",
    store: Path | None = None,
) -> dict[str, Any]:
    """Simulate published runs, and compare.

    Args:
        directories: Folders of one run each, or folders of such folders.
        registry: Where the simulator is.
        simulator: Its name.
        store: Where bundles, workloads and runs go; a new folder below ``tmp/published``.

    Returns:
        The document of ``gpusim published --json``.

    Raises:
        InputError: A folder is not such a run, or a file in it cannot be read.
    """
    store = store or DEFAULT_ROOT / "published" / new_id("published")
    simulate = registry.simulators.get(simulator)
    runs = []
    for number, directory in enumerate(find_runs(directories)):
        work = store / f"{number}-{directory.name}"
        run = read_published(directory, registry)
        inputs = prepare(run, registry, work)
        simulate(inputs)
        settings = {
            "model": run.model.name,
            "hardware": inputs.hardware.name,
            "device_name": (run.meta.get("hardware") or {}).get("device_name"),
            "engine": run.engine.to_json(),
            "kv_blocks_derived_from": run.capacity,
            "engine_time": _ENGINE_TIME,
            "simulator": simulator,
            "skew_fit": bool((inputs.bundle.meta.get("skew_fit") or {}).get("enabled")),
            "shared_prompts": inputs.workload.prompts is not None,
            "requests": len(inputs.workload.requests),
            "notes": [*run.notes, *inputs.bundle.meta.get("notes", ())],
            "artifacts": str(work),
        }
        runs.append(
            {
                "name": directory.name,
                "settings": settings,
                "metrics": _metrics(work, read_published_errors(directory)),
            }
        )
    return {"schema_version": SCHEMA_VERSION, "runs": runs}


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
    from pytest_gpusim.runs.importers.llmservingsim import META, engine_settings, read_meta

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
        degree = _instance(cluster).get("tp_size") or _instance(cluster).get("num_npus") or 1
        engine = replace(engine, tensor_parallel_size=int(degree))
    run = PublishedRun(directory, meta, cluster, model, engine, notes)
    if engine.num_gpu_blocks is None:
        _derive_blocks(run)
    return run


def prepare(run: PublishedRun, registry: Registry, work: Path) -> SimulationInputs:
    """Write the bundle, the workload and the real run below ``work``."""
    from pytest_gpusim.bundle import read_bundle
    from pytest_gpusim.profiling.collectives import link_from_cluster
    from pytest_gpusim.profiling.llmservingsim import compose, hardware_name
    from pytest_gpusim.profiling.llmservingsim_files import find_profile
    from pytest_gpusim.runs.importers.llmservingsim import import_run
    from pytest_gpusim.workload import read_workload

    import_run([run.directory / RUN_FOLDER], work / "real")
    _write_workload(run, work / "workload")
    files = find_profile(run.directory / "profile", run.tensor_parallel_size)
    device = (run.meta.get("hardware") or {}).get("device_name")
    hardware = hardware_name(registry, files.meta, device)
    link = link_from_cluster(run.cluster, run.directory / "cluster.json")
    compose(files, run.model, hardware=hardware, link=link, out=work / "profile")
    run.notes.append(_MODE)
    return SimulationInputs(
        model=run.model,
        hardware=_hardware(registry, hardware, run),
        workload=read_workload(work / "workload"),
        bundle=read_bundle(work / "profile"),
        engine=replace(run.engine, enforce_eager=None),
        out_dir=work / "sim",
    )


def published_lines(document: Mapping[str, Any]) -> Iterator[str]:
    """The document as a table for people: our error beside the published one."""
    for run in document["runs"]:
        settings = run["settings"]
        engine = settings["engine"]
        yield f"{run['name']}: {settings['model']} on {settings['device_name']}"
        yield f"  engine: {json.dumps(engine)}"
        if settings["kv_blocks_derived_from"]:
            yield f"  KV blocks: {settings['kv_blocks_derived_from']['formula']}"
        yield f"  engine time per iteration: {settings['engine_time']}"
        for note in settings["notes"]:
            yield f"  note: {note}"
        theirs = "published"
        yield f"  {'metric':10}{'real ms':>12}{settings['simulator'] + ' ms':>14}"
        lines = []
        for metric, figures in run["metrics"].items():
            for statistic, figure in figures.items():
                if figure["real_ns"] is None or figure["sim_ns"] is None:
                    lines.append(f"  {metric + ' ' + statistic:10}  not available")
                    continue
                known = figure["published_error"]
                lines.append(
                    f"  {metric + ' ' + statistic:10}{figure['real_ns'] / 1e6:12.2f}"
                    f"{figure['sim_ns'] / 1e6:14.2f}{figure['error']:+9.2%}"
                    + (f"{known:+11.2%}" if known is not None else f"{'-':>11}")
                )
        yield f"  {'':36}{'error':>9}{theirs:>11}"
        yield from lines
        yield ""


def _metrics(work: Path, published: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    from pytest_gpusim.compare.metrics import measure_run
    from pytest_gpusim.compare.statistics import summarize
    from pytest_gpusim.runs import read_run

    real, sim = read_run(work / "real"), read_run(work / "sim")
    failed = _failed(real) | _failed(sim)
    sides = [measure_run(run, leave_out=failed) for run in (real, sim)]
    metrics: dict[str, Any] = {}
    for metric, statistics in METRICS.items():
        values = [side.values(metric) for side in sides]
        real_side, sim_side = (
            summarize(each) if each is not None and len(each) else {} for each in values
        )
        metrics[metric] = {
            statistic: _figure(
                real_side.get(statistic),
                sim_side.get(statistic),
                published.get(metric, {}).get(statistic),
            )
            for statistic in statistics
        }
    return metrics


def _figure(real: float | None, sim: float | None, published: float | None) -> dict[str, Any]:
    error = (sim - real) / real if real and sim is not None else None
    return {
        "real_ns": None if real is None else round(real),
        "sim_ns": None if sim is None else round(sim),
        "error": error,
        "published_error": published,
    }


def _failed(run: Run) -> set[int]:
    rows = run.requests[run.requests["status"] == "error"]
    return {int(number) for number in rows["request_id"]}


def _derive_blocks(run: PublishedRun) -> None:
    """The block count that the run does not state, from the machine's memory."""
    memory = _instance(run.cluster).get("npu_mem") or {}
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


def _write_workload(run: PublishedRun, out: Path) -> None:
    """The requests as the engine took them, with the prompts' token ids where they are known."""
    from pytest_gpusim.runs.importers.llmservingsim import REQUESTS, read_requests
    from pytest_gpusim.workload.llmservingsim import Line, read_lines, write_lines

    requests = read_requests(run.directory / RUN_FOLDER / REQUESTS)
    path = run.directory / "workload.jsonl"
    token_ids: list[tuple[int, ...] | None] = [None] * len(requests)
    if path.is_file():
        # The run may have taken the file's first requests only; its order is that of the file.
        lines = read_lines(path)[: len(requests)]
        if [line.num_prefill_tokens for line in lines] == [
            request.num_prefill_tokens for request in requests
        ]:
            token_ids = [line.token_ids for line in lines]
        else:
            run.notes.append(f"{path.name} is of other requests: what prompts share is not known")
    else:
        run.notes.append("no workload.jsonl: what prompts share is not known")
    first = min(request.arrival_ns for request in requests)
    rows = [
        Line(
            request.num_prefill_tokens,
            max(1, request.num_decode_tokens or 1),
            request.arrival_ns - first,
            ids,
        )
        for request, ids in zip(requests, token_ids, strict=True)
    ]
    rows.sort(key=lambda line: line.arrival_time_ns)
    generator = {"kind": "llmservingsim", "arrivals": "queued_ts"}
    write_lines(out, rows, generator=generator, model=run.model.name)


def _instance(cluster: Mapping[str, Any]) -> Mapping[str, Any]:
    """The cluster's first instance; empty where it has none."""
    nodes = cluster.get("nodes") or [{}]
    instances = (nodes[0] or {}).get("instances") or [{}]
    return instances[0] or {}


def _hardware(registry: Registry, name: str, run: PublishedRun) -> Hardware:
    if name in registry.hardware.names():
        return registry.hardware.get(name)
    import re

    device = str((run.meta.get("hardware") or {}).get("device_name") or name)
    memory = (_instance(run.cluster).get("npu_mem") or {}).get("mem_size") or 80
    return Hardware(name, "cuda", re.escape(device), memory_gb=int(memory), fp16_tflops=1)
