"""The table of engine settings: complete, without contradictions, and one for every spelling."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from pytest_gpusim.deployment import EngineSettings
from pytest_gpusim.deployment.settings import SETTINGS, find, first_stated, modelled, unmodelled
from pytest_gpusim.deployment.settings.document import BEGIN, END, tables
from pytest_gpusim.errors import InputError


def test_no_two_rows_share_a_name() -> None:
    names = [name for setting in SETTINGS for name in setting.spellings]
    assert len(names) == len(set(names))


def test_the_class_has_the_modelled_rows() -> None:
    kinds = {field.name: str(field.type).split(" ")[0] for field in fields(EngineSettings)}
    assert {setting.name: setting.kind for setting in modelled()} == {
        name: kind for name, kind in kinds.items() if name not in ("assumed", "notes", "models")
    }


@pytest.mark.parametrize(
    ("key", "name", "opposite"),
    [
        ("max_num_seqs", "max_num_seqs", False),
        ("max-num-seqs", "max_num_seqs", False),
        ("--max-num-seqs", "max_num_seqs", False),
        ("scheduler_config.max_num_seqs", "max_num_seqs", False),
        ("cache_config.cache_dtype", "kv_cache_dtype", False),
        ("--no-enable-prefix-caching", "enable_prefix_caching", True),
        ("no_async_scheduling", "async_scheduling", True),
        ("-tp", "tensor_parallel_size", False),
        ("-q", "quantization", False),
        ("-O", "optimization_level", False),
    ],
)
def test_every_spelling_is_known(key: str, name: str, opposite: bool) -> None:
    match = find(key)
    assert match is not None
    assert (match[0].name, match[1]) == (name, opposite)


@pytest.mark.parametrize("key", ["max_num_sequences", "no_such", "tp", "-x", "other.max_num_seqs"])
def test_what_is_no_setting_is_not_taken_for_one(key: str) -> None:
    assert find(key) is None


@pytest.mark.parametrize(
    ("stated", "words"),
    [
        ({"enable_chunked_prefill": True, "policy": "fcfs", "nnodes": 1}, []),
        ({"kv_cache_dtype": "bf16", "dtype": "torch.bfloat16"}, []),
        ({"kv_cache_dtype": "fp8_e5m2"}, ["quantized KV cache of this dtype is"]),
        ({"max_num_scheduled_tokens": 2048, "max_num_batched_tokens": 2048}, []),
        ({"max_num_scheduled_tokens": 1024, "max_num_batched_tokens": 2048}, ["a limit of tokens"]),
        ({"scheduler_cls": "vllm.v1.core.sched.async_scheduler.AsyncScheduler"}, []),
        ({"scheduler_cls": "mine.Scheduler"}, ["a scheduler of one's own is"]),
        ({"sliding_window": 4096, "max_model_len": 4096}, []),
        ({"sliding_window": 4096, "max_model_len": 8192}, ["sliding window attention is"]),
        ({"hf_overrides": {"rope_theta": 1e6}, "speculative_config": {}}, []),
        ({"hf_overrides": {"num_hidden_layers": 2}}, ["a changed model is"]),
        (
            {"model_config": {"quantization": "awq", "seed": 3}},
            ["quantized weights of this method are"],
        ),
        # In another part of the configuration a name may mean another thing.
        ({"model_config": {"policy": "eplb"}}, []),
    ],
)
def test_what_an_engine_uses_that_nobody_models(stated: dict[str, Any], words: list[str]) -> None:
    found = [said for _, _, said in unmodelled(stated)]
    assert len(found) == len(words)
    assert all(said.startswith(word) for said, word in zip(found, words, strict=True))


def test_the_first_document_that_states_a_setting_counts() -> None:
    resolved = {"scheduler_config": {"max_num_seqs": 8, "async_scheduling": None}}
    asked = {"max-num-seqs": 16, "async-scheduling": True, "not_a_setting": 1}
    assert first_stated("no mapping", resolved, asked) == {
        "max_num_seqs": 8,
        "async_scheduling": True,
    }


def test_a_files_numbers_may_be_written_as_on_a_command_line() -> None:
    document = {"max-model-len": "32k", "max-num-batched-tokens": "8K", "max-num-seqs": "64"}
    read = EngineSettings.from_mapping(document, "a.yaml")
    assert (read.max_model_len, read.max_num_batched_tokens, read.max_num_seqs) == (32000, 8192, 64)


@pytest.mark.parametrize("value", ["2.5", "many", "-3", "8KB", 2.5, [8], "9" * 40])
def test_what_is_no_number_is_refused(value: Any) -> None:
    with pytest.raises(InputError, match="max_num_seqs: expected a valid int"):
        EngineSettings.from_mapping({"max_num_seqs": value}, "a.yaml")


def test_two_spellings_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(InputError, match="block-size: is 32, stated above as 16"):
        EngineSettings.from_mapping({"block_size": 16, "block-size": 32}, "a.yaml")
    both = {"num_gpu_blocks": 300, "num_gpu_blocks_override": 300}
    assert EngineSettings.from_mapping(both, "a.yaml").num_gpu_blocks == 300


def test_what_is_not_followed_is_said_by_name() -> None:
    read = EngineSettings.from_mapping({"port": 8000, "attention-backend": "FLASH_ATTN"}, "a.yaml")
    assert read == EngineSettings()
    assert read.notes == (
        "port: not simulated, concerns the server alone",
        "attention-backend: not simulated, decides how long steps take: the profile has it",
    )


def test_the_document_is_made_from_the_table() -> None:
    text = (Path(__file__).parents[2] / "docs" / "settings.md").read_text(encoding="utf-8")
    made = text.partition(f"{BEGIN}\n")[2].partition(f"\n{END}")[0]
    again = "python -m pytest_gpusim.deployment.settings.document"
    assert made == tables(), f"docs/settings.md: put there what '{again}' prints"
