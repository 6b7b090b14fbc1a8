"""From a published folder to what a simulator is given: bundle, workload, and the real run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pytest_gpusim.bundle import read_bundle
from pytest_gpusim.deployment import Hardware
from pytest_gpusim.profiling.collectives import link_from_cluster
from pytest_gpusim.profiling.composition import hardware_name
from pytest_gpusim.profiling.llmservingsim import compose
from pytest_gpusim.profiling.llmservingsim_find import find_profile
from pytest_gpusim.published.folder import RUN_FOLDER, PublishedRun, first_instance
from pytest_gpusim.registry import Registry, SimulationInputs
from pytest_gpusim.runs.importers.llmservingsim import REQUESTS, import_run, read_requests
from pytest_gpusim.workload import read_workload
from pytest_gpusim.workload.llmservingsim import Line, read_lines, write_lines

_MODE = "the engine's mode is not matched: the profile holds kernel times, which both modes run"


def prepare(run: PublishedRun, registry: Registry, work: Path) -> SimulationInputs:
    """Write the bundle, the workload and the real run below ``work``."""
    import_run([run.directory / RUN_FOLDER], work / "real")
    _write_workload(run, work / "workload")
    files = find_profile(run.directory / "profile", run.tensor_parallel_size)
    device = (run.meta.get("hardware") or {}).get("device_name")
    hardware = hardware_name(registry, device or files.text("gpu"), files.text("hardware"))
    link = link_from_cluster(run.cluster, run.directory / "cluster.json")
    compose(files, run.model, hardware=hardware, link=link, out=work / "profile")
    run.notes.append(_MODE)
    _fill_limits(run, files.meta.get("engine_effective") or {})
    return SimulationInputs(
        model=run.model,
        hardware=_hardware(registry, hardware, run),
        workload=read_workload(work / "workload"),
        bundle=read_bundle(work / "profile"),
        engine=replace(run.engine, enforce_eager=None),
        out_dir=work / "sim",
    )


def _fill_limits(run: PublishedRun, profiled: Mapping[str, Any]) -> None:
    """Scheduler limits that the run does not state: those of the profile's engine."""
    for key in ("max_num_seqs", "max_num_batched_tokens"):
        if getattr(run.engine, key) is None and isinstance(profiled.get(key), int):
            run.engine = replace(run.engine, **{key: profiled[key]})
            run.notes.append(f"{key} is not stated; taken from the profile's engine")


def _write_workload(run: PublishedRun, out: Path) -> None:
    """The requests as the engine took them, with the prompts' token ids where they are known."""
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


def _hardware(registry: Registry, name: str, run: PublishedRun) -> Hardware:
    if name in registry.hardware.names():
        return registry.hardware.get(name)
    device = str((run.meta.get("hardware") or {}).get("device_name") or name)
    memory = (first_instance(run.cluster).get("npu_mem") or {}).get("mem_size") or 80
    return Hardware(name, "cuda", re.escape(device), memory_gb=int(memory), fp16_tflops=1)
