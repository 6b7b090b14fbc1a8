"""What is refused before an engine starts, and what its process is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pytest_gpusim.deployment import EngineSettings
from pytest_gpusim.errors import InputError, UsageError
from pytest_gpusim.json_documents import write_json
from pytest_gpusim.vllm_runtime import LaunchSpec
from tests.vllm_runtime.tiny import ENGINE, QWEN3


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (EngineSettings(block_size=16), "block_size=16: .* multiples of 32"),
        (EngineSettings(async_scheduling=True), "async_scheduling"),
        (EngineSettings(tensor_parallel_size=2), "tensor_parallel_size"),
        (EngineSettings(max_model_len=9000), "max_model_len=9000: .* 8192 positions"),
    ],
)
def test_what_vllm_cannot_do_on_a_cpu_is_refused_in_one_line(
    settings: EngineSettings, words: str
) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        LaunchSpec.resolve(QWEN3, settings, "cpu")
    assert "\n" not in str(caught.value)


def test_weights_must_be_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"config\.json"):
        LaunchSpec.resolve(QWEN3, ENGINE, "cpu", weights=tmp_path)


def test_weights_must_be_of_the_model(tmp_path: Path) -> None:
    write_json(tmp_path / "config.json", replace(QWEN3, num_layers=3).to_hf_config())
    with pytest.raises(InputError, match="num_layers: is 3, that of tiny/qwen3 2"):
        LaunchSpec.resolve(QWEN3, ENGINE, "cpu", weights=tmp_path)


def test_a_cpu_runs_eager_in_float32_unless_asked() -> None:
    spec = LaunchSpec.resolve(QWEN3, EngineSettings(), "cpu")
    assert (spec.settings.dtype, spec.settings.enforce_eager) == ("float32", True)
    asked = EngineSettings(dtype="bfloat16", enforce_eager=False)
    spec = LaunchSpec.resolve(QWEN3, asked, "cpu")
    assert (spec.settings.dtype, spec.settings.enforce_eager) == ("bfloat16", False)


def test_stated_threads_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert LaunchSpec.resolve(QWEN3, ENGINE, "cpu").environment()["OMP_NUM_THREADS"] == "3"
    spec = LaunchSpec.resolve(QWEN3, ENGINE, "cpu", threads=5)
    assert spec.environment()["OMP_NUM_THREADS"] == "5"


def test_the_kv_cache_gets_room_for_the_stated_blocks() -> None:
    # 3 * 2**30 bytes: 2 layers x 2 (K, V) x 2 heads x 32 x 4 bytes = 1024 bytes a token.
    blocks = 3 * 2**30 // (1024 * 32)
    spec = LaunchSpec.resolve(QWEN3, replace(ENGINE, num_gpu_blocks=blocks), "cpu")
    assert spec.environment()["VLLM_CPU_KVCACHE_SPACE"] == "3"


def test_a_spec_survives_the_way_to_the_child() -> None:
    spec = LaunchSpec.resolve(QWEN3, ENGINE, "cpu", threads=2)
    again = LaunchSpec.from_json(spec.to_json())
    assert again == spec
    assert again.key == spec.key
    assert spec.with_settings(max_num_seqs=9).key != spec.key
