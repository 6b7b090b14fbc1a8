"""Shapes of published models, engine settings, and devices by their own names.

Figures of models are those of their ``config.json`` on the hub; numbers of parameters those of the
models' cards (8.03, 7.25, 7.62 and 0.596 billion).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pytest_gpusim.deployment import EngineSettings, Hardware, ModelShape, detect_device_name
from pytest_gpusim.deployment.hardware import BUILTIN_HARDWARE
from pytest_gpusim.deployment.model import dtype_bytes
from pytest_gpusim.deployment.models import BUILTIN_MODELS, LLAMA_3_1_8B, QWEN3_0_6B
from pytest_gpusim.errors import GpusimError, InputError, UsageError

LLAMA_3_1_8B_CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-05,
    "rope_theta": 500000.0,
    "rope_scaling": {"rope_type": "llama3", "factor": 8.0},
    "tie_word_embeddings": False,
    "attention_bias": False,
    "torch_dtype": "bfloat16",
}
MISTRAL_7B_V03_CONFIG = {
    "architectures": ["MistralForCausalLM"],
    "model_type": "mistral",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 32768,
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-05,
    "rope_theta": 1000000.0,
    "sliding_window": None,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}
QWEN2_5_7B_CONFIG = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "vocab_size": 152064,
    "max_position_embeddings": 131072,
    "max_window_layers": 28,
    "sliding_window": 131072,
    "use_sliding_window": False,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}
QWEN3_0_6B_CONFIG = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151936,
    "max_position_embeddings": 40960,
    "sliding_window": None,
    "use_sliding_window": False,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000,
    "attention_bias": False,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
}


def shape_of(config: dict[str, Any], name: str = "m") -> ModelShape:
    return ModelShape.from_config(config, name=name, where="config.json")


@pytest.mark.parametrize(
    ("config", "head_dim", "bias", "qk_norm", "kv_bytes", "billions"),
    [
        (LLAMA_3_1_8B_CONFIG, 128, False, False, 131072, 8.030),
        (MISTRAL_7B_V03_CONFIG, 128, False, False, 131072, 7.248),
        (QWEN2_5_7B_CONFIG, 128, True, False, 57344, 7.616),
        (QWEN3_0_6B_CONFIG, 128, False, True, 114688, 0.596),
    ],
    ids=["llama", "mistral", "qwen2", "qwen3"],
)
def test_published_models(
    config: dict[str, Any],
    head_dim: int,
    bias: bool,
    qk_norm: bool,
    kv_bytes: int,
    billions: float,
) -> None:
    shape = shape_of(config)
    assert (shape.head_dim, shape.attention_bias, shape.qk_norm) == (head_dim, bias, qk_norm)
    assert shape.kv_bytes_per_token("bfloat16") == kv_bytes
    assert shape.kv_bytes_per_token("torch.float32", 2) == kv_bytes
    assert shape.num_parameters() / 1e9 == pytest.approx(billions, abs=0.0006)
    assert ModelShape.from_json(json.loads(json.dumps(shape.to_json())), "x") == shape
    assert shape_of(shape.to_hf_config()) == shape


def test_builtin_models_are_as_published() -> None:
    assert shape_of(QWEN3_0_6B_CONFIG, "Qwen/Qwen3-0.6B") == QWEN3_0_6B
    assert shape_of(LLAMA_3_1_8B_CONFIG, "meta-llama/Llama-3.1-8B") == LLAMA_3_1_8B
    assert {shape.name for shape in BUILTIN_MODELS} >= {"Qwen/Qwen3-0.6B"}


def test_the_published_config_file_is_read(published_data: Path) -> None:
    shape = ModelShape.from_config_file(published_data / "rtx4090_llama-3.1-8b")
    assert shape.differing_fields(LLAMA_3_1_8B) == []


def test_qwen3_kv_size_is_not_derived_from_the_width() -> None:
    without = {key: value for key, value in QWEN3_0_6B_CONFIG.items() if key != "head_dim"}
    assert shape_of(without).head_dim == 64
    assert shape_of(QWEN3_0_6B_CONFIG).differing_fields(shape_of(without)) == ["head_dim"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_experts": 128}, "the mixture of experts of Qwen3ForCausalLM"),
        ({"architectures": ["DeepseekV2ForCausalLM"], "kv_lora_rank": 512}, "multi-head latent"),
        ({"layer_types": ["full_attention", "linear_attention"]}, "hybrid attention"),
        ({"attn_type_list": [0, 1]}, "hybrid attention"),
        ({"sliding_window": 4096, "use_sliding_window": True}, "sliding window"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "sliding window"),
        ({"quantization_config": {"quant_method": "awq"}}, "quantized weights.*'awq'"),
    ],
)
def test_what_is_not_modelled_is_refused_by_name(change: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=f"config.json: {words}"):
        shape_of({**QWEN3_0_6B_CONFIG, **change})


def test_a_sliding_window_is_in_use_unless_the_family_says_otherwise() -> None:
    with pytest.raises(UsageError, match="sliding window"):
        shape_of({**MISTRAL_7B_V03_CONFIG, "sliding_window": 4096})
    quiet = {k: v for k, v in QWEN2_5_7B_CONFIG.items() if k != "use_sliding_window"}
    assert shape_of(quiet).num_layers == 28


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": None}, "hidden_size: expected a positive integer, found None"),
        ({"num_hidden_layers": "28"}, "num_hidden_layers: expected a positive integer"),
        ({"num_key_value_heads": 5}, "5 does not divide 16"),
        ({"rms_norm_eps": "small"}, "rms_norm_eps: expected a positive number"),
        ({"rope_theta": float("nan")}, "rope_theta: expected a positive number"),
        ({"architectures": ["GPT2LMHeadModel"]}, "GPT2LMHeadModel.*known are LlamaForCausalLM"),
        ({"architectures": None, "model_type": "bert"}, "'bert' is not a decoder"),
    ],
)
def test_bad_configs_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        shape_of({**QWEN3_0_6B_CONFIG, **change})


def test_stored_shapes_are_checked() -> None:
    document = QWEN3_0_6B.to_json()
    for bad, message in (
        (None, "expected a JSON object"),
        ({**document, "head_dim": "128"}, "head_dim: expected a value of type int"),
        ({**document, "num_layers": True}, "num_layers: expected a value of type int"),
        ({k: v for k, v in document.items() if k != "qk_norm"}, "'qk_norm' is missing"),
    ):
        with pytest.raises(InputError, match=message):
            ModelShape.from_json(bad, "profile_meta.json")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="dtype 'int4': known are"):
        dtype_bytes("int4")


SETTINGS = {"max_num_seqs": 8, "max_num_batched_tokens": 512, "dtype": "torch.bfloat16"}


def test_engine_settings_from_json_yaml_and_runs(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(SETTINGS))
    (tmp_path / "a.yaml").write_text(
        "max_num_seqs: 8\nmax_num_batched_tokens: 512\ndtype: bfloat16\n"
    )
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run_meta.json").write_text(
        json.dumps({"engine": {**SETTINGS, "executor": "uni", "kv_cache_dtype": "auto"}})
    )
    loaded = [EngineSettings.load(tmp_path / name) for name in ("a.json", "a.yaml", "run")]
    assert loaded[0] == loaded[1] == loaded[2]
    assert loaded[0].dtype == "bfloat16"
    assert loaded[0].to_json() == {**SETTINGS, "dtype": "bfloat16"}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "a.json",
            '{"max_num_sequences": 8}',
            "max_num_sequences: unknown .*did you mean max_num_seqs.*known",
        ),
        ("a.json", '{"max_num_seqs": 0}', "max_num_seqs: expected a valid int, found 0"),
        ("a.json", '{"max_num_seqs": true}', "max_num_seqs: expected a valid int"),
        ("a.json", '{"enforce_eager": "yes"}', "enforce_eager: expected a valid bool"),
        ("a.json", '{"block_size": NaN}', "block_size: nan is no value of JSON"),
        ("a.json", "[]", "expected a mapping"),
        ("a.json", "{", "line 1: not JSON"),
        ("a.yaml", "a: [1\nb: 2\n", "line 2: not YAML"),
        ("a.yaml", "", "expected a mapping"),
        ("a.json", '{"speculative_config": {"n": 3}}', "speculative decoding is not modelled"),
        ("a.json", '{"kv_cache_dtype": "fp8_e5m2"}', "quantized KV cache of this dtype is not"),
        ("a.json", '{"quantization": "awq"}', "quantized weights of this method are not"),
        ("a.json", '{"pipeline_parallel_size": 2}', "pipeline parallelism is not modelled"),
        ("a.json", '{"enable_lora": true}', "LoRA is not modelled"),
        ("a.json", '{"sliding_window": 4096}', "sliding window attention is not modelled"),
    ],
)
def test_bad_engine_settings(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(GpusimError, match=message) as caught:
        EngineSettings.load(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


def test_a_kv_cache_in_the_models_dtype_is_not_quantized(tmp_path: Path) -> None:
    document = {"dtype": "torch.bfloat16", "kv_cache_dtype": "bfloat16"}
    assert EngineSettings.from_mapping(document, tmp_path).dtype == "bfloat16"
    assert EngineSettings.from_mapping(document, tmp_path).kv_cache_dtype is None
    quantized = EngineSettings.from_mapping({**document, "kv_cache_dtype": "fp8_e4m3"}, tmp_path)
    assert quantized.kv_cache_dtype == "fp8"
    with pytest.raises(UsageError, match="a float16 KV cache of a bfloat16 model"):
        EngineSettings.from_mapping({**document, "kv_cache_dtype": "half"}, tmp_path)


def test_a_directory_without_engine_settings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"incomplete: no run_meta.json"):
        EngineSettings.load(tmp_path)
    for content in ("[]", "{}", '{"engine": null}'):
        (tmp_path / "run_meta.json").write_text(content)
        with pytest.raises(InputError, match="recorded no engine settings"):
            EngineSettings.load(tmp_path)


def test_settings_are_filled_from_others() -> None:
    mine = EngineSettings(max_num_seqs=8)
    merged = mine.merged(EngineSettings(max_num_seqs=16, max_num_batched_tokens=64))
    assert (merged.max_num_seqs, merged.max_num_batched_tokens) == (8, 64)
    assert merged.assumed == {}
    named = mine.merged(EngineSettings(max_num_seqs=16, max_num_batched_tokens=64), "elsewhere")
    assert named.assumed == {"max_num_batched_tokens": "elsewhere"}


@pytest.mark.parametrize(
    ("device_name", "expected"),
    [
        ("NVIDIA A100-SXM4-80GB", "a100"),
        ("NVIDIA A100 80GB PCIe", "a100"),
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H100 PCIe", "h100"),
        ("NVIDIA H200", "h200"),
        ("NVIDIA B200", "b200"),
        ("NVIDIA A40", "a40"),
        ("NVIDIA L40S", "l40s"),
        ("NVIDIA GeForce RTX 4090", "rtx4090"),
        ("NVIDIA RTX A4000", None),
        ("NVIDIA RTX A1000", None),
        ("NVIDIA GH200 480GB", None),
        ("NVIDIA L40", None),
        ("NVIDIA GeForce RTX 4090 D", None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("Tesla V100-SXM2-16GB", None),
    ],
)
def test_devices_by_their_own_names(device_name: str, expected: str | None) -> None:
    found = [h.name for h in BUILTIN_HARDWARE if h.kind == "cuda" and h.matches(device_name)]
    assert found == ([expected] if expected else [])


def test_this_machine_has_a_cpu() -> None:
    name = detect_device_name("cpu")
    assert name is not None
    assert name.endswith(" cores")
    assert Hardware("cpu", "cpu", ".", memory_gb=1, fp16_tflops=1).present_device() == name
    assert Hardware("x", "cpu", "no such chip", memory_gb=1, fp16_tflops=1).present_device() is None
