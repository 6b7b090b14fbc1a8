"""Experts and quantization, as they stand in public checkpoints."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from pytest_gpusim.deployment import ModelShape
from pytest_gpusim.deployment.experts import Experts
from pytest_gpusim.deployment.memory import GIB, weight_bytes
from pytest_gpusim.deployment.model import ModelShape as Shape
from pytest_gpusim.deployment.models import (
    BUILTIN_MODELS,
    LLAMA_3_1_70B,
    MINIMAX_M2_5,
    QWEN3_30B_A3B,
)
from pytest_gpusim.deployment.quantization import Quantization, method_has
from pytest_gpusim.errors import InputError, UsageError
from tests.factories import TINY

KNOWN = {shape.name: shape for shape in BUILTIN_MODELS}
# Total parameters as the models' own pages state them, in billions.
BILLIONS = {
    "Qwen/Qwen3-32B": 32.8,
    "Qwen/Qwen3-30B-A3B": 30.5,
    "Qwen/Qwen3-235B-A22B": 235.1,
    "meta-llama/Llama-3.1-70B": 70.6,
    "mistralai/Mixtral-8x7B-v0.1": 46.7,
    "MiniMaxAI/MiniMax-M2.5": 228.7,
}


def published(name: str) -> Path:
    """A public ``config.json`` that the package of silicon tables carries."""
    spec = find_spec("aiconfigurator_core")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("aiconfigurator-core is not installed")
    folder = Path(next(iter(spec.submodule_search_locations))) / "model_configs"
    return folder / f"{name.replace('/', '--')}_config.json"


@pytest.mark.parametrize(("name", "billions"), BILLIONS.items())
def test_parameters_are_those_that_the_publishers_state(name: str, billions: float) -> None:
    assert KNOWN[name].num_parameters() / 1e9 == pytest.approx(billions, abs=0.06)


@pytest.mark.parametrize(
    "name",
    ["Qwen/Qwen3-32B", "Qwen/Qwen3-30B-A3B-FP8", "Qwen/Qwen3-235B-A22B-FP8",
     "mistralai/Mixtral-8x7B-v0.1", "MiniMaxAI/MiniMax-M2.5"],
)  # fmt: skip
def test_built_in_shapes_are_their_public_files(name: str, tmp_path: Path) -> None:
    found = ModelShape.from_config_file(published(name), name=name)
    found = replace(found, torch_dtype="bfloat16")  # MiniMax's file leaves it out
    assert found == KNOWN[name]
    assert Shape.from_json(json.loads(json.dumps(found.to_json())), "x") == found
    again = tmp_path / "config.json"
    again.write_text(json.dumps(found.to_hf_config()), encoding="utf-8")
    assert ModelShape.from_config_file(again, name=name) == found


def test_modelopt_says_its_quantization_beside_the_config(tmp_path: Path) -> None:
    name = "nvidia/Llama-3.1-70B-Instruct-FP8"
    source = published(name)
    beside = source.with_name(source.name.replace("_config", "_hf_quant_config"))
    (tmp_path / "config.json").write_bytes(source.read_bytes())
    (tmp_path / "hf_quant_config.json").write_bytes(beside.read_bytes())
    shape = ModelShape.from_config_file(tmp_path, name=name)
    assert shape == KNOWN[name]
    assert shape.kv_cache_dtype("bfloat16") == "fp8"
    assert shape.kv_cache_dtype("bfloat16", "bfloat16") == "bfloat16"
    # 70 GB of weights, of which 2.1 G of embeddings keep two bytes.
    assert weight_bytes(shape, "bfloat16") / GIB == pytest.approx(67.7, abs=0.1)


def test_attention_may_be_left_as_it_is() -> None:
    path = published("nvidia/MiniMax-M2.5-NVFP4")
    beside = path.with_name(path.name.replace("_config", "_hf_quant_config"))
    found = Quantization.from_config(json.loads(beside.read_text()), beside)
    assert found == Quantization("nvfp4", "fp8", ("attention",))
    document = json.loads(path.read_text())
    shape = Shape.from_config(document, name="m", where=path)
    shape = replace(shape, quantization=found)
    parts = shape.weights_by_part()
    expected = parts["experts"] * (0.5 + 1 / 16) + 2 * (sum(parts.values()) - parts["experts"])
    assert weight_bytes(shape, "bfloat16") == round(expected)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"quant_method": "fp8", "activation_scheme": "static"}, Quantization("fp8")),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, Quantization("fp8_block")),
        (
            {"quant_method": "modelopt", "quant_algo": "NVFP4", "kv_cache_quant_algo": "FP8"},
            Quantization("nvfp4", "fp8"),
        ),
        (Quantization("int8").to_hf_config(), Quantization("int8")),
        (Quantization("fp8", "fp8").to_hf_config(), Quantization("fp8", "fp8")),
        (None, None),
    ],
)
def test_quantization_is_read_from_the_checkpoint(
    config: dict[str, Any] | None, expected: Quantization | None
) -> None:
    assert Quantization.from_config(config, "config.json") == expected


@pytest.mark.parametrize(
    ("modules", "excluded"),
    [
        # As Llama-3.1-405B-Instruct-FP8 has it: attention in all layers, two layers' MLPs.
        (
            [f"model.layers.{layer}.self_attn.q_proj" for layer in range(80)]
            + [f"model.layers.{layer}.mlp.down_proj" for layer in (0, 79)],
            ("attention",),
        ),
        (["model.layers.*.mlp.down_proj"], ("mlp",)),
        (["lm_head", "model.layers.3.mlp.gate_proj"], ()),
    ],
)
def test_a_part_is_left_as_it_is_where_most_layers_leave_it(
    modules: list[str], excluded: tuple[str, ...]
) -> None:
    config = LLAMA_3_1_70B.to_hf_config()
    config["quantization_config"] = {
        "quant_method": "fbgemm_fp8",
        "modules_to_not_convert": modules,
    }
    found = ModelShape.from_config(config, name="m", where="config.json").quantization
    assert found == Quantization("fp8", excluded=excluded)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"quant_method": "gptq", "bits": 4}, "quant_method 'gptq'"),
        ({"quant_method": "fp8", "weight_block_size": [64, 64]}, "blocks of"),
        ({"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION"}, "MIXED_PRECISION"),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"a": {"weights": {"num_bits": 4, "type": "int"}}},
            },
            "weights of 4 bits",
        ),
        ({"quant_algo": "FP8", "kv_cache_quant_algo": "NVFP4"}, "KV cache 'NVFP4'"),
    ],
)
def test_other_quantization_is_refused_by_name(config: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Quantization.from_config(config, "config.json")


def test_a_setting_must_be_the_checkpoints_method() -> None:
    assert method_has("fp8", "fp8_block")
    assert method_has("modelopt_fp4", "nvfp4")
    assert not method_has("fp8", "nvfp4")
    assert not method_has("fp8", None)


def test_layers_without_experts_have_an_mlp() -> None:
    document = {**QWEN3_30B_A3B.to_hf_config(), "mlp_only_layers": [0], "decoder_sparse_step": 2}
    shape = Shape.from_config(document, name="m", where="config.json")
    assert shape.experts is not None
    # Every second layer has experts, the first of all is named besides.
    assert shape.experts.num_dense_layers == 24
    assert shape.num_dense_layers == 24


@pytest.mark.parametrize("tokens", [0, 1, 64])
def test_active_experts_are_those_drawn_at_random(tokens: int) -> None:
    import random

    experts, draw = Experts(16, 2, 8), random.Random(1)
    trials = [
        len({expert for _ in range(tokens) for expert in draw.sample(range(16), 2)})
        for _ in range(2000)
    ]
    assert experts.expected_active(tokens) == pytest.approx(sum(trials) / 2000, rel=0.02, abs=1e-9)


def test_a_norm_over_all_heads_has_a_weight_for_each() -> None:
    per_head = replace(MINIMAX_M2_5, qk_norm_over_heads=False)
    more = MINIMAX_M2_5.num_parameters() - per_head.num_parameters()
    assert more == 62 * ((48 + 8) * 128 - 2 * 128)


@pytest.mark.parametrize("bad", [{}, {"num_experts": 8}, 3, {"scheme": "fp9"}])
def test_bad_experts_and_quantization_in_metadata_are_named(bad: object) -> None:
    with pytest.raises(InputError, match="model_shape, experts"):
        Experts.from_json(bad, "profile_meta.json")
    with pytest.raises(InputError, match="model_shape, quantization"):
        Quantization.from_json(bad, "profile_meta.json")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("head_dim", 0),
        ("num_kv_heads", -1),
        ("num_layers", 10**30),
        ("hidden_size", 1.5),
        ("rope_theta", 0.0),
        ("tie_word_embeddings", 1),
    ],
)
def test_sizes_in_metadata_that_no_model_has_are_named(key: str, value: object) -> None:
    with pytest.raises(InputError, match=f"model_shape, {key}: expected a "):
        ModelShape.from_json({**MINIMAX_M2_5.to_json(), key: value}, "profile_meta.json")


@pytest.mark.parametrize(("key", "value"), [("num_experts", 0), ("per_token", 9), ("width", "x")])
def test_experts_in_metadata_that_no_model_has_are_named(key: str, value: object) -> None:
    good = {"num_experts": 8, "per_token": 2, "width": 64, "shared_width": 0, "num_dense_layers": 0}
    with pytest.raises(InputError, match=f"model_shape, experts, {key}: "):
        Experts.from_json({**good, key: value}, "profile_meta.json")


@pytest.mark.parametrize("key", ["tie_word_embeddings", "attention_bias"])
def test_a_text_is_neither_true_nor_false(tmp_path: Path, key: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**TINY.to_hf_config(), key: "false"}))
    with pytest.raises(InputError, match=f"{key}: expected true or false, found 'false'"):
        ModelShape.from_config_file(tmp_path)


@pytest.mark.parametrize(
    ("name", "degree", "gib"),
    [("meta-llama/Llama-3.1-8B", 1, 14.9888), ("Qwen/Qwen3-30B-A3B", 4, 14.2474)],
)
def test_weights_are_those_that_vllm_logs(name: str, degree: int, gib: float) -> None:
    """vLLM's "Model loading took" of public logs (docs/models.md)."""
    assert weight_bytes(KNOWN[name], "bfloat16", degree) / GIB == pytest.approx(gib, rel=0.003)


@pytest.mark.parametrize(
    ("name", "degree", "gib", "tokens"),
    [
        ("meta-llama/Llama-3.1-8B", 1, 3.81, 1952 * 16),
        ("meta-llama/Llama-3.1-70B", 1, 38.71, 126_832),
        ("Qwen/Qwen3-235B-A22B-FP8", 4, 8.11, 178_880),
    ],
)
def test_kv_blocks_are_those_that_vllm_logs(
    name: str, degree: int, gib: float, tokens: int
) -> None:
    """vLLM's "Available KV cache memory" and "GPU KV cache size" of public logs."""
    shape = KNOWN[name]
    a_token = shape.kv_bytes_per_token(shape.kv_cache_dtype("bfloat16"), degree)
    assert gib * GIB / a_token == pytest.approx(tokens, rel=0.012)
