"""Measuring on a live engine: what a run holds, and what a death of the engine leaves of it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_gpusim.backends.vllm import measure
from pytest_gpusim.deployment import EngineSettings
from pytest_gpusim.errors import UsageError
from pytest_gpusim.providers import MeasureInputs
from pytest_gpusim.runs import Run, read_run
from pytest_gpusim.vllm_runtime import EngineStopped, LaunchSpec, pool, shared_engine
from pytest_gpusim.workload import Workload
from tests.factories import CPU
from tests.vllm_runtime.tiny import ENGINE, QWEN3, SMALL, needs_vllm, tiny_workload

THREADS = {"threads": 1}


def _measure(
    workload: Workload, outs: list[Path], engine: EngineSettings = ENGINE, **params: Any
) -> list[Run]:
    inputs = MeasureInputs(QWEN3, CPU, workload, engine, outs, {**THREADS, **params})
    measure(inputs)
    return [read_run(out) for out in outs]


@needs_vllm
def test_a_run_holds_every_token_step_and_setting(tmp_path: Path) -> None:
    workload = tiny_workload(tmp_path / "w")
    (run,) = _measure(workload, [tmp_path / "run"])

    requests = run.requests
    assert (requests["status"] == "ok").all()
    asked = [r.num_decode_tokens for r in workload.requests]
    assert requests["num_decode_tokens_actual"].tolist() == asked
    assert requests["arrival_time_ns"].tolist() == [r.arrival_time_ns for r in workload.requests]
    assert (requests["sent_time_ns"] >= requests["arrival_time_ns"]).all()
    assert (requests["scheduled_time_ns"] >= requests["sent_time_ns"]).all()
    assert (requests["first_token_time_ns"] > requests["scheduled_time_ns"]).all()
    assert run.tokens is not None
    assert len(run.tokens) == sum(asked)

    batches = run.batches()
    assert run.steps is not None
    assert batches is not None
    assert len(batches) == len(run.steps)
    for request in workload.requests:
        computed = sum(batch.get(request.request_id, 0) for batch in batches)
        # The last token is sampled and never computed.
        assert computed == request.num_prefill_tokens + request.num_decode_tokens - 1
    ends = run.steps["start_ns"] + run.steps["duration_ns"]
    assert set(run.tokens["token_time_ns"]) <= set(ends)
    assert run.meta["engine"]["num_gpu_blocks"] == ENGINE.num_gpu_blocks
    assert run.meta["workload_digest"] == workload.digest
    assert run.meta["warmup"]["requests"] == len(workload.requests)
    assert run.meta["lateness"]["max_ns"] >= 0
    assert EngineSettings.load(run.path).max_num_seqs == ENGINE.max_num_seqs


@needs_vllm
def test_repeats_begin_with_a_cold_prefix_cache(tmp_path: Path) -> None:
    workload = tiny_workload(tmp_path / "w", requests=4, prefill=70)
    for run in _measure(workload, [tmp_path / "1", tmp_path / "2"]):
        assert run.requests["num_cached_tokens"].tolist() == [0, 0, 0, 0]


@needs_vllm
def test_shared_prefixes_are_found_in_the_cache(tmp_path: Path) -> None:
    workload = tiny_workload(tmp_path / "w", requests=4, prefill=70, shared_tokens=64)
    for run in _measure(workload, [tmp_path / "1", tmp_path / "2"]):
        # Two whole blocks of 32 tokens.
        assert run.requests["num_cached_tokens"].tolist() == [0, 64, 64, 64]


def test_a_request_longer_than_the_context_is_refused_before_the_engine_starts(
    tmp_path: Path,
) -> None:
    before = dict(pool._current)
    workload = tiny_workload(tmp_path / "w", lengths=[(40, 6), (250, 7)])
    with pytest.raises(UsageError, match=r"request 1 has 257 tokens.*max_model_len is 256"):
        _measure(workload, [tmp_path / "run"], threads=7)
    assert pool._current == before
    assert not (tmp_path / "run").exists()


def test_a_wrong_parameter_is_refused_by_name(tmp_path: Path) -> None:
    workload = tiny_workload(tmp_path / "w")
    with pytest.raises(UsageError, match="'wieghts'"):
        _measure(workload, [tmp_path / "run"], wieghts="x")
    with pytest.raises(UsageError, match="threads=many"):
        _measure(workload, [tmp_path / "run"], threads="many")


def test_an_absent_device_is_refused(tmp_path: Path) -> None:
    absent = replace(CPU, device_name_pattern="no such device")
    inputs = MeasureInputs(QWEN3, absent, tiny_workload(tmp_path / "w"), ENGINE, [tmp_path / "r"])
    with pytest.raises(UsageError, match="no cpu in this machine"):
        measure(inputs)


@contextmanager
def _signal_engine(number: int, after_s: float) -> Iterator[None]:
    spec = LaunchSpec.resolve(QWEN3, ENGINE, "cpu", threads=1)
    pid = shared_engine(spec).pid

    def send() -> None:
        time.sleep(after_s)
        os.kill(pid, number)

    thread = threading.Thread(target=send)
    thread.start()
    yield
    thread.join()


@needs_vllm
def test_a_killed_engine_costs_one_run_and_nothing_that_was_measured(tmp_path: Path) -> None:
    workload = tiny_workload(tmp_path / "w", requests=8, gap_ns=500_000_000)
    outs = [tmp_path / "1", tmp_path / "2"]
    with (
        _signal_engine(signal.SIGKILL, after_s=2.2),
        pytest.raises(EngineStopped, match=r"run 1 of 2 .*SIGKILL.*engine\.log") as caught,
    ):
        _measure(workload, outs, warmup="no")
    assert "\n" not in str(caught.value)

    broken, whole = read_run(outs[0]), read_run(outs[1])
    status = broken.requests["status"].tolist()
    assert len(status) == 8
    assert "ok" in status
    assert status[-1] == "error"
    lost = broken.requests[broken.requests["status"] == "error"]
    assert (lost["error_type"] == "EngineStopped").all()
    assert broken.tokens is not None
    assert len(broken.tokens) > 0
    assert broken.meta["complete"] is False
    assert (whole.requests["status"] == "ok").all()


@needs_vllm
def test_a_hung_engine_is_found_out_and_killed(tmp_path: Path) -> None:
    workload = tiny_workload(tmp_path / "w", requests=6, gap_ns=400_000_000)
    begun = time.monotonic()
    with (
        _signal_engine(signal.SIGSTOP, after_s=1.0),
        pytest.raises(EngineStopped, match="hung: nothing heard for 4 s"),
    ):
        _measure(workload, [tmp_path / "run"], hang_timeout=4, warmup="no")
    assert time.monotonic() - begun < 60
    statuses = set(read_run(tmp_path / "run").requests["status"])
    assert statuses == {"ok", "error"}


@needs_vllm
def test_long_prompts_are_chunked_and_preemption_is_counted(tmp_path: Path) -> None:
    # 13 usable blocks of 32: four requests of 90 + 25 tokens begin with 3 and end with 4 each.
    workload = tiny_workload(tmp_path / "w", lengths=[(90, 25)] * 4, gap_ns=0)
    (run,) = _measure(workload, [tmp_path / "run"], SMALL)
    assert (run.requests["status"] == "ok").all()
    assert run.steps is not None
    assert run.steps["num_prefill_tokens"].max() == SMALL.max_num_batched_tokens
    assert run.steps["preempted"].sum() >= 1
    assert run.steps["kv_blocks_used"].max() <= 13
