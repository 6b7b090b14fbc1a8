"""Measuring on a live engine: what a run holds, and what is refused before."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pytest_gpusim.backends.vllm import measure
from pytest_gpusim.deployment import EngineSettings
from pytest_gpusim.errors import UsageError
from pytest_gpusim.providers import MeasureInputs
from pytest_gpusim.vllm_runtime import pool
from tests.factories import CPU
from tests.vllm_runtime.tiny import ENGINE, QWEN3, measure_tiny, needs_vllm, tiny_workload


@needs_vllm
def test_a_run_holds_every_token_step_and_setting(tmp_path: Path) -> None:
    workload = tiny_workload(tmp_path / "w")
    (run,) = measure_tiny(workload, [tmp_path / "run"])

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
    for run in measure_tiny(workload, [tmp_path / "1", tmp_path / "2"]):
        assert run.requests["num_cached_tokens"].tolist() == [0, 0, 0, 0]


@needs_vllm
def test_shared_prefixes_are_found_in_the_cache(tmp_path: Path) -> None:
    workload = tiny_workload(tmp_path / "w", requests=4, prefill=70, shared_tokens=64)
    for run in measure_tiny(workload, [tmp_path / "1", tmp_path / "2"]):
        # Two whole blocks of 32 tokens.
        assert run.requests["num_cached_tokens"].tolist() == [0, 64, 64, 64]


def test_a_request_longer_than_the_context_is_refused_before_the_engine_starts(
    tmp_path: Path,
) -> None:
    before = dict(pool._current)
    workload = tiny_workload(tmp_path / "w", lengths=[(40, 6), (250, 7)])
    with pytest.raises(UsageError, match=r"request 1 has 257 tokens.*max_model_len is 256"):
        measure_tiny(workload, [tmp_path / "run"], threads=7)
    assert pool._current == before
    assert not (tmp_path / "run").exists()


def test_a_wrong_parameter_is_refused_by_name(tmp_path: Path) -> None:
    workload = tiny_workload(tmp_path / "w")
    with pytest.raises(UsageError, match="'wieghts'"):
        measure_tiny(workload, [tmp_path / "run"], wieghts="x")
    with pytest.raises(UsageError, match="threads=many"):
        measure_tiny(workload, [tmp_path / "run"], threads="many")


def test_an_absent_device_is_refused(tmp_path: Path) -> None:
    absent = replace(CPU, device_name_pattern="no such device")
    inputs = MeasureInputs(QWEN3, absent, tiny_workload(tmp_path / "w"), ENGINE, [tmp_path / "r"])
    with pytest.raises(UsageError, match="no cpu in this machine"):
        measure(inputs)


@needs_vllm
def test_long_prompts_are_chunked_and_preemption_is_counted(tmp_path: Path) -> None:
    # 39 usable blocks of 32: eight requests of 150 + 25 tokens begin with 5 and end with 6 each.
    workload = tiny_workload(tmp_path / "w", lengths=[(150, 25)] * 8, gap_ns=0)
    (run,) = measure_tiny(workload, [tmp_path / "run"])
    assert (run.requests["status"] == "ok").all()
    assert run.steps is not None
    assert run.steps["num_prefill_tokens"].max() == ENGINE.max_num_batched_tokens
    assert run.steps["preempted"].sum() >= 1
    assert run.steps["kv_blocks_used"].max() <= 39
