"""The vLLM backend: replay a workload on a live engine, once per run directory."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_gpusim.artifacts import require_vacant, utc_now
from pytest_gpusim.backends.vllm_events import ReplayRecord
from pytest_gpusim.backends.vllm_parameters import PARAMETERS
from pytest_gpusim.errors import UsageError
from pytest_gpusim.parameters import read_parameters
from pytest_gpusim.progress import Progress
from pytest_gpusim.providers import MeasureInputs
from pytest_gpusim.runs import write_run
from pytest_gpusim.runs.records import request_rows, stated_load, token_rows
from pytest_gpusim.vllm_runtime import EngineProcess, EngineStopped, LaunchSpec, shared_engine
from pytest_gpusim.vllm_runtime.process import HANG_TIMEOUT_S
from pytest_gpusim.workload import Workload
from pytest_gpusim.workload.token_ids import continuations, token_ids

_WARMUP_SALT = 1


def measure(inputs: MeasureInputs) -> None:
    """Measure ``inputs.workload``, once per entry of ``inputs.out_dirs``.

    A run whose engine dies is written with what was measured, its unfinished requests as ``error``
    rows; the remaining runs get a new engine.

    Raises:
        UsageError: A parameter or setting cannot be, or a request is longer than the context.
        EngineStopped: A run broke off; raised after the last run, or when no engine starts.
    """
    params = read_parameters(PARAMETERS, inputs.params, "the vllm backend")
    if inputs.hardware.present_device() is None:
        raise UsageError(f"no {inputs.hardware.name} in this machine")
    spec = LaunchSpec.resolve(
        inputs.model,
        inputs.engine,
        inputs.hardware.kind,
        weights=params.get("weights"),
        threads=params.get("threads"),
    )
    inputs.workload.require_fits(spec.settings.max_model_len)
    for out in inputs.out_dirs:
        require_vacant(out)
    prompts = token_ids(inputs.workload, inputs.model.vocab_size)
    broken: EngineStopped | None = None
    total = len(inputs.out_dirs)
    for number, out in enumerate(inputs.out_dirs, start=1):
        engine = shared_engine(spec, hang_timeout_s=params.get("hang_timeout", HANG_TIMEOUT_S))
        warmup = _warm_up(engine, inputs, skip=params.get("warmup") is False)
        record = ReplayRecord(inputs.workload)
        started = utc_now()
        try:
            _replay(engine, inputs.workload, prompts, record)
        except EngineStopped as error:
            record.fail_unfinished("EngineStopped", str(error))
            broken = EngineStopped(
                f"run {number} of {total} broke off after {record.finished_count()} of "
                f"{len(inputs.workload.requests)} requests: {error}; what was measured is in {out}"
            )
            print(f"gpusim: {broken}", file=sys.stderr)
        _write(out, inputs, engine, record, params, warmup, started)
    if broken is not None:
        raise broken


def _replay(
    engine: EngineProcess,
    workload: Workload,
    prompts: Mapping[int, list[int]],
    record: ReplayRecord | None,
) -> None:
    command = {
        "command": "replay",
        "requests": workload.requests,
        "max_concurrency": workload.load.max_concurrency,
        "sessions": [(request_id, *turn) for request_id, turn in workload.sessions.items()],
        "continues": [(number, *found) for number, found in continuations(workload).items()],
        "prompts": prompts,
        "wait": record is not None,
    }
    ended, what = False, "warm up" if record is None else "measure"
    try:
        with Progress(what, len(workload.requests), "requests") as bar:
            for event in engine.stream(command):
                if record is not None:
                    record.take(event)
                    bar.reach(record.finished_count)
                if event["event"] == "ended":
                    ended = True
                    return
    finally:
        if not ended:
            engine.kill()  # what it still has to say would be taken for the next run's


def _warm_up(engine: EngineProcess, inputs: MeasureInputs, *, skip: bool) -> dict[str, Any]:
    """Once per engine and workload: the same lengths and sharing, other token ids, no idling."""
    workload = inputs.workload
    if skip:
        return {"passes": 0, "requests": 0}
    known: dict[str, Any] = engine.warmed_up.setdefault(workload.digest, {})
    if not known:
        begun = time.monotonic()
        others = token_ids(workload, inputs.model.vocab_size, salt=_WARMUP_SALT)
        _replay(engine, workload, others, None)
        known.update(
            passes=1,
            requests=len(workload.requests),
            token_ids="others, of the same lengths and sharing",
            prefix_cache_reset=True,
            seconds=round(time.monotonic() - begun, 3),
        )
    return dict(known)


def _write(
    out: Path,
    inputs: MeasureInputs,
    engine: EngineProcess,
    record: ReplayRecord,
    params: Mapping[str, Any],
    warmup: Mapping[str, Any],
    started: str,
) -> None:
    workload, records = inputs.workload, record.records()
    write_run(
        out,
        requests=request_rows(records, "vllm"),
        tokens=token_rows(records),
        steps=record.step_rows(),
        step_batches=record.step_batches(),
        meta={
            "run_type": "real",
            "backend": "vllm",
            "model": inputs.model.name,
            "model_shape": inputs.model.to_json(),
            "hardware": inputs.hardware.name,
            "device_name": engine.device_name,
            "workload_dir": str(workload.path),
            "workload_digest": workload.digest,
            **stated_load(workload),
            "engine": engine.engine,
            "started_at": started,
            "ended_at": utc_now(),
            "params": {**params, "asked_engine": inputs.engine.to_json()},
            "warmup": dict(warmup),
            "lateness": record.lateness(),
            "prefix_cache_reset": record.cache_was_reset,
            "interference": record.interference() if engine.engine["threads"] == 1 else None,
            "complete": record.ended,
        },
    )
