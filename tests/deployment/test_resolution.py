"""What nobody states: vLLM's own defaults by release, held against its sources, and KV blocks."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_gpusim.deployment import EngineSettings, ModelShape
from pytest_gpusim.deployment.hardware import BUILTIN_HARDWARE, Hardware
from pytest_gpusim.deployment.memory import GIB, collective_bytes, engine_kv_capacity
from pytest_gpusim.deployment.models import BUILTIN_MODELS, LLAMA_3_1_8B, QWEN3_0_6B
from pytest_gpusim.deployment.resolution import PROFILE, resolve_settings
from pytest_gpusim.deployment.settings import SETTINGS, Deployment, default, find
from pytest_gpusim.errors import InputError
from tests.vllm_forks import Forks

HARDWARE = {hardware.name: hardware for hardware in BUILTIN_HARDWARE}


@pytest.mark.parametrize(
    ("release", "hardware", "entry", "expected"),
    [
        # vllm/engine/arg_utils.py of each release.
        ((0, 8), "a100", "serve", (1024, 8192)),
        ((0, 9), "a100", "serve", (256, 2048)),
        ((0, 9), "h100", "serve", (1024, 8192)),
        ((0, 9), "h100", "LLM", (1024, 16384)),
        ((0, 9), "rtx4090", "LLM", (256, 8192)),
        ((0, 27), "b200", "serve", (1024, 8192)),
        ((0, 28), "b200", "serve", (1024, 16384)),
        ((0, 28), "h200", "serve", (1024, 8192)),
        ((0, 9), "cpu", "serve", (32, 2048)),
        ((0, 10), "cpu", "serve", (128, 2048)),
        ((0, 32), "cpu", "LLM", (256, 4096)),
        (None, "b200", "serve", (1024, 16384)),
    ],
)
def test_limits_by_release_device_and_entry_point(
    release: Any, hardware: str, entry: Any, expected: tuple[int, int]
) -> None:
    device = HARDWARE[hardware]
    deployment = Deployment(
        release, device.kind, device.usable_memory_gib, hardware, entry_point=entry
    )
    found = tuple(default(name, deployment) for name in ("max_num_seqs", "max_num_batched_tokens"))
    assert found == expected


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("async_scheduling", {(0, 13): False, (0, 14): True, (0, 32): True}),
        ("scheduler_reserve_full_isl", {(0, 18): False, (0, 19): True}),
        ("gpu_memory_utilization", {(0, 19): 0.9, (0, 20): 0.92}),
        ("enable_prefix_caching", {(0, 8): True, (0, 32): True}),
        ("block_size", {(0, 8): 16, (0, 32): 16}),
    ],
)
def test_flags_by_release(setting: str, expected: dict[Any, Any]) -> None:
    assert {release: default(setting, Deployment(release)) for release in expected} == expected


def test_a_cpu_is_never_asynchronous() -> None:
    assert default("async_scheduling", Deployment((0, 32), "cpu")) is False


_ASK = """
import json, sys
from unittest.mock import patch
from vllm.config import ModelConfig
from vllm.engine.arg_utils import EngineArgs
from vllm.platforms import current_platform as platform
from vllm.usage.usage_lib import UsageContext
GIB = 1 << 30
found = {"limits": [], "utilization": EngineArgs.gpu_memory_utilization}
contexts = {"serve": UsageContext.OPENAI_API_SERVER, "LLM": UsageContext.LLM_CLASS}
for memory, name in ((24, "RTX 4090"), (79.2, "H100"), (79.2, "NVIDIA A100"), (179, "B200")):
    fake = dict(is_cpu=lambda *a: False, get_device_total_memory=lambda *a: int(memory * GIB),
                get_device_name=lambda *a: name)
    with patch.multiple(type(platform), **fake):
        tokens, seats = EngineArgs.get_batch_defaults(world_size=1)
    found["limits"] += [[memory, name, key, seats[c], tokens[c]] for key, c in contexts.items()]
tokens, seats = EngineArgs.get_batch_defaults(world_size=2)
found["cpu"] = {key: [seats[c], tokens[c]] for key, c in contexts.items()}
arguments = EngineArgs(model=sys.argv[1], skip_tokenizer_init=True, max_model_len=4)
config = arguments.create_engine_config(UsageContext.OPENAI_API_SERVER)
scheduler, cache = config.scheduler_config, config.cache_config
found["resolved"] = {
    "max_num_seqs": scheduler.max_num_seqs,
    "max_num_batched_tokens": scheduler.max_num_batched_tokens,
    "async_scheduling": scheduler.async_scheduling,
    "long_prefill_token_threshold": scheduler.long_prefill_token_threshold,
    "scheduler_reserve_full_isl": scheduler.scheduler_reserve_full_isl,
    "enable_prefix_caching": cache.enable_prefix_caching,
    "block_size": cache.block_size,
    "tensor_parallel_size": config.parallel_config.tensor_parallel_size,
}
from vllm.utils.argparse_utils import FlexibleArgumentParser
from vllm.entrypoints.launchers.cli_args import make_arg_parser
parser = make_arg_parser(FlexibleArgumentParser())
found["arguments"] = [[a.dest, *a.option_strings] for a in parser._actions]
print("FOUND" + json.dumps(found))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, vllm_forks: Forks) -> dict[str, Any]:
    """What the installed vLLM says of its defaults and its arguments."""
    release = vllm_forks.run("import vllm.version; print(vllm.version.__version__)").stdout
    if re.match(r"0\.32\.0\b", release) is None:
        pytest.skip("another release is installed than the newest in the table")
    place = tmp_path_factory.mktemp("model")
    (place / "config.json").write_text(json.dumps(QWEN3_0_6B.to_hf_config()))
    done = vllm_forks.run(_ASK, place)
    answer: dict[str, Any] = json.loads(done.stdout.partition("FOUND")[2])
    return answer


def test_the_table_has_the_defaults_of_the_installed_release(installed: dict[str, Any]) -> None:
    for memory, name, entry, seats, tokens in installed["limits"]:
        deployment = Deployment((0, 32), "cuda", memory, name, entry_point=entry)
        assert default("max_num_seqs", deployment) == seats, (name, entry)
        assert default("max_num_batched_tokens", deployment) == tokens, (name, entry)
    for entry, (seats, tokens) in installed["cpu"].items():
        deployment = Deployment((0, 32), "cpu", entry_point=entry, world_size=2)
        assert default("max_num_seqs", deployment) == seats
        assert default("max_num_batched_tokens", deployment) == tokens
    assert default("gpu_memory_utilization", Deployment((0, 32))) == installed["utilization"]
    deployment = Deployment((0, 32), "cpu", max_model_len=4)
    resolved = {name: default(name, deployment) for name in installed["resolved"]}
    assert resolved == installed["resolved"]


def test_every_argument_of_the_installed_server_has_a_row(installed: dict[str, Any]) -> None:
    unknown = [name for names in installed["arguments"] for name in names if find(name) is None]
    assert unknown == []
    # And a name means one setting, whether in a file or on the command line.
    for dest, *options in installed["arguments"]:
        rows = {match[0].name for name in (dest, *options) if (match := find(name))}
        assert len(rows) == 1, (dest, rows)


def resolve(stated: EngineSettings, hardware: str = "h100", **given: Any) -> EngineSettings:
    model: ModelShape = given.pop("model", LLAMA_3_1_8B)
    device: Hardware = HARDWARE[hardware]
    return resolve_settings(stated, model=model, hardware=device, where="profile", **given)


def test_what_nobody_states_is_the_releases_default_and_named() -> None:
    stated = EngineSettings(
        max_num_seqs=256, num_gpu_blocks=100, dtype="bfloat16", engine_version="0.23.0"
    )
    found = resolve(stated)
    assert (found.max_num_seqs, found.max_num_batched_tokens) == (256, 8192)
    assert (found.async_scheduling, found.block_size, found.max_model_len) == (True, 16, 131072)
    assert set(found.assumed.values()) == {"default of vLLM 0.23"}
    assert "max_num_seqs" not in found.assumed
    assert {"async_scheduling", "block_size", "enable_prefix_caching"} <= set(found.assumed)
    assert resolve(found) == found
    assert resolve(found).assumed == found.assumed


def test_an_unknown_release_is_said() -> None:
    found = resolve(EngineSettings(num_gpu_blocks=100, dtype="bfloat16"))
    words = "default of vLLM 0.32; the engine's release is not known"
    assert found.assumed["async_scheduling"] == words


def test_the_profiles_engine_comes_before_the_release() -> None:
    profile = EngineSettings(max_num_seqs=8, async_scheduling=False, engine_version="0.19.0")
    found = resolve(EngineSettings(num_gpu_blocks=100), profile=profile)
    assert (found.max_num_seqs, found.async_scheduling) == (8, False)
    assert found.assumed["max_num_seqs"] == PROFILE
    assert found.assumed["block_size"] == "default of vLLM 0.19"


@pytest.mark.parametrize(
    ("model", "hardware", "stated", "blocks"),
    [
        # Block counts that two engines logged: LLMServingSim's published RTX 4090, and an H100.
        (LLAMA_3_1_8B, "rtx4090", EngineSettings(engine_version="0.19.0", max_num_seqs=256), 2588),
        (
            replace(
                QWEN3_0_6B,
                name="Qwen/Qwen3-14B",
                num_layers=40,
                hidden_size=5120,
                num_q_heads=40,
                intermediate_size=17408,
                tie_word_embeddings=False,
            ),
            "h100",
            EngineSettings(engine_version="0.23.0", max_num_seqs=256),
            18038,
        ),
    ],
    ids=["rtx4090", "h100"],
)
def test_kv_blocks_from_the_devices_memory(
    model: ModelShape, hardware: str, stated: EngineSettings, blocks: int
) -> None:
    found = resolve(replace(stated, dtype="bfloat16"), hardware, model=model)
    assert found.num_gpu_blocks == pytest.approx(blocks, rel=0.02)
    said = found.assumed["num_gpu_blocks"]
    assert said.startswith("computed: (")
    for term in ("of weights", "of activations (estimated)", f"= {found.num_gpu_blocks} KV blocks"):
        assert term in said


@pytest.mark.parametrize(
    ("release", "degree", "gib"),
    [("0.10.0", 4, 4.52), ("0.10.2", 2, 1.79), ("0.10.2", 1, 0), ("0.11.0", 4, 0), (None, 4, 0)],
)
def test_nccl_counted_as_the_engines_until_0_10(
    release: str | None, degree: int, gib: float
) -> None:
    settings = EngineSettings(engine_version=release, tensor_parallel_size=degree)
    assert collective_bytes(settings) / GIB == pytest.approx(gib, abs=0.001)


def test_the_room_of_experts_on_four_devices() -> None:
    """8.11 GiB by a public log of vLLM, of July 2025 (docs/models.md)."""
    settings = EngineSettings(
        engine_version="0.10.0",
        tensor_parallel_size=4,
        max_num_batched_tokens=8192,
        max_num_seqs=1024,
        dtype="bfloat16",
    )
    (shape,) = (each for each in BUILTIN_MODELS if each.name == "Qwen/Qwen3-235B-A22B-FP8")
    room = engine_kv_capacity(shape, settings, memory_gib=79.1, utilization=0.9)
    left = room.num_gpu_blocks * room.block_bytes / GIB
    assert left == pytest.approx(8.11, rel=0.12)
    assert "4.52 GiB of NCCL (estimated)" in str(room)


def test_kv_blocks_from_stated_bytes() -> None:
    stated = EngineSettings(kv_cache_memory_bytes=(16 * 131072) * 1000 + 1, dtype="bfloat16")
    found = resolve(stated)
    assert found.num_gpu_blocks == 1000
    assert found.assumed["num_gpu_blocks"].endswith("GiB / 2 MiB = 1000 KV blocks")


def test_a_model_that_does_not_fit_is_refused_with_the_terms() -> None:
    large = replace(LLAMA_3_1_8B, num_layers=400)
    with pytest.raises(InputError, match=r"num_gpu_blocks: no room for KV blocks: \(23.52 GiB x"):
        resolve(EngineSettings(dtype="bfloat16"), "rtx4090", model=large)


def test_on_a_cpu_the_blocks_must_be_stated() -> None:
    with pytest.raises(InputError, match="num_gpu_blocks: the simulator needs"):
        resolve(EngineSettings(), "cpu", model=QWEN3_0_6B)


def test_what_a_run_assumed_stays_assumed(tmp_path: Path) -> None:
    found = resolve(EngineSettings(num_gpu_blocks=100, engine_version="0.23.0"))
    meta = {"engine": found.to_json(), "assumed": dict(found.assumed)}
    (tmp_path / "run_meta.json").write_text(json.dumps(meta))
    read = EngineSettings.load(tmp_path)
    assert (read, read.assumed) == (found, found.assumed)


def test_every_default_says_what_and_where() -> None:
    for setting in SETTINGS:
        if setting.default is not None:
            assert setting.default.words
            assert setting.default.source
