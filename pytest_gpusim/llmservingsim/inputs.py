"""From a published folder to what a simulator is given: bundle, workload, and the real run."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from pytest_gpusim.bundle import read_bundle
from pytest_gpusim.deployment import Hardware
from pytest_gpusim.errors import InputError
from pytest_gpusim.llmservingsim.meta import look_up
from pytest_gpusim.llmservingsim.profile import compose
from pytest_gpusim.llmservingsim.prompts import prompt_ids
from pytest_gpusim.llmservingsim.published_run import RUN_FOLDER, PublishedRun
from pytest_gpusim.llmservingsim.run import META, REQUESTS, read_requests, write_run_of
from pytest_gpusim.llmservingsim.workload import Line, write_lines
from pytest_gpusim.profiling.composition import hardware_name
from pytest_gpusim.providers import SimulationInputs
from pytest_gpusim.registry import Registry
from pytest_gpusim.workload import read_workload

_MODE = "the engine's mode is not matched: the profile holds kernel times, which both modes run"
_CLOCK = "both sides' requests start when the engine takes them from its input queue (queued_ts)"


def prepare(run: PublishedRun, registry: Registry, work: Path) -> SimulationInputs:
    """Write the bundle, the workload and the real run below ``work``."""
    _write_workload(run, work / "workload")
    source = run.directory / RUN_FOLDER
    write_run_of(source / REQUESTS, run.meta, source / META, work / "real")
    files = run.profile
    hardware = hardware_name(registry, run.device_name, files.text("hardware"))
    link = run.cluster.link() if run.tensor_parallel_size > 1 else None
    compose(
        files,
        run.model,
        hardware=hardware,
        link=link,
        out=work / "profile",
        expert_parallel=look_up(run.meta, "enable_expert_parallel") is True,
    )
    run.notes += [_MODE, _CLOCK]
    return SimulationInputs(
        model=run.model,
        hardware=_hardware(registry, hardware, run),
        workload=read_workload(work / "workload"),
        bundle=read_bundle(work / "profile"),
        engine=replace(run.engine, enforce_eager=None),
        out_dir=work / "sim",
    )


def _write_workload(run: PublishedRun, out: Path) -> None:
    """The requests as the engine took them, with the prompts' token ids where they are known."""
    path = run.directory / RUN_FOLDER / REQUESTS
    requests = read_requests(path)
    if not requests:
        raise InputError(path, "", "has no requests")
    token_ids, notes = prompt_ids(run.directory, path, requests, run.model.vocab_size)
    run.notes += notes
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
    memory = int(run.cluster.memory("mem_size") or 80)
    return Hardware(
        name, "cuda", re.escape(run.device_name or name), memory_gb=max(1, memory), fp16_tflops=1
    )
