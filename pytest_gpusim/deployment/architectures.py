"""Which models are known by their ``config.json``, and what of one is refused by name."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pytest_gpusim.errors import InputError, UsageError, shortly


class Architecture(NamedTuple):
    """What the class of a model decides.

    Attributes:
        model_type: Hugging Face's word for it.
        qk_norm: Whether Q and K are normalized, each head by itself.
        qkv_bias: Whether QKV have biases where the file does not say.
        experts: Whether its layers may hold experts.
        norm_over_heads: Whether that norm is over all heads of a layer at once, so over all ranks
            (``minimax_m2.py: MiniMaxM2Attention``).
    """

    model_type: str
    qk_norm: bool = False
    qkv_bias: bool = False
    experts: bool = False
    norm_over_heads: bool = False


ARCHITECTURES = {
    "LlamaForCausalLM": Architecture("llama"),
    "MistralForCausalLM": Architecture("mistral"),
    "Qwen2ForCausalLM": Architecture("qwen2", qkv_bias=True),
    "Qwen3ForCausalLM": Architecture("qwen3", qk_norm=True),
    "MixtralForCausalLM": Architecture("mixtral", experts=True),
    "Qwen2MoeForCausalLM": Architecture("qwen2_moe", qkv_bias=True, experts=True),
    "Qwen3MoeForCausalLM": Architecture("qwen3_moe", qk_norm=True, experts=True),
    "MiniMaxM2ForCausalLM": Architecture(
        "minimax_m2", qk_norm=True, experts=True, norm_over_heads=True
    ),
}
# Of the keys that are read: what their values must be, where they are not null.
_KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    **dict.fromkeys(
        ("architectures", "layer_types"),
        ("a list of texts", lambda value: _all_of(value, str)),
    ),
    **dict.fromkeys(
        ("attn_type_list", "mlp_only_layers"),
        ("a list of whole numbers", lambda value: _all_of(value, int)),
    ),
    **dict.fromkeys(
        ("model_type", "torch_dtype", "dtype"), ("a text", lambda value: isinstance(value, str))
    ),
    **dict.fromkeys(
        ("rope_parameters", "rope_scaling", "quantization_config"),
        ("an object", lambda value: isinstance(value, Mapping)),
    ),
    **dict.fromkeys(
        ("tie_word_embeddings", "attention_bias", "use_sliding_window"),
        ("true or false", lambda value: isinstance(value, bool)),
    ),
    **dict.fromkeys(
        ("sliding_window", "kv_lora_rank", "decoder_sparse_step"),
        ("a whole number", lambda value: type(value) in (int, bool)),
    ),
}
_EXPERT_KEYS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")


def _all_of(value: Any, kind: type) -> bool:
    return isinstance(value, list) and all(type(item) is kind for item in value)


@dataclass(frozen=True)
class Refusal:
    """A feature of a model that is not modelled.

    Attributes:
        name: The feature in words.
        keys: Keys of ``config.json`` that tell of it.
        present: Whether a parsed ``config.json`` has it.
    """

    name: str
    keys: tuple[str, ...]
    present: Callable[[Mapping[str, Any]], bool]


def _has_sliding_window(config: Mapping[str, Any]) -> bool:
    # Qwen states a window that its models use only where use_sliding_window says so.
    in_use = config.get("use_sliding_window", not str(config.get("model_type")).startswith("qwen"))
    layers = config.get("layer_types") or ()
    return bool(config.get("sliding_window") and in_use) or "sliding_attention" in layers


def _has_hybrid_attention(config: Mapping[str, Any]) -> bool:
    other = {"linear_attention", "mamba", "chunked_attention", "hybrid"}
    kinds = config.get("attn_type_list") or ()  # MiniMax's: 0 is linear, 1 is full attention
    return bool(other & set(config.get("layer_types") or ())) or 0 in kinds


REFUSED_FEATURES = (
    Refusal(
        "multi-head latent attention (MLA)",
        ("kv_lora_rank",),
        lambda config: bool(config.get("kv_lora_rank")),
    ),
    Refusal("sliding window attention", ("sliding_window", "layer_types"), _has_sliding_window),
    Refusal("hybrid attention", ("layer_types", "attn_type_list"), _has_hybrid_attention),
)
"""Features of a model that are refused by name, in the order in which they are looked for."""


def read_architecture(config: Mapping[str, Any], where: Path | str) -> str:
    """The class of a model, or of the first known one of its ``model_type``.

    Raises:
        UsageError: The model has a feature that is not modelled, or experts that are not.
        InputError: The class is not known.
    """
    for key, (expected, is_right) in _KINDS.items():
        value = config.get(key)
        if value is not None and not is_right(value):
            raise InputError(where, key, f"expected {expected}, found {shortly(value)}")
    for refusal in REFUSED_FEATURES:
        if refusal.present(config):
            keys = ", ".join(key for key in refusal.keys if config.get(key))
            raise UsageError(f"{where}: {refusal.name} is not modelled ({keys})")
    architectures = config.get("architectures")
    model_type = config.get("model_type")
    found = architectures[0] if isinstance(architectures, list) and architectures else None
    if found is None:
        found = next(
            (a for a, kind in ARCHITECTURES.items() if kind.model_type == model_type), None
        )
    with_experts = [name for name, kind in ARCHITECTURES.items() if kind.experts]
    sparse = any(config.get(key) for key in _EXPERT_KEYS) or "moe" in str(found).lower()
    if sparse and found not in with_experts:
        raise UsageError(
            f"{where}: the mixture of experts of {found or model_type} is not modelled; known are "
            f"{', '.join(with_experts)}"
        )
    if found not in ARCHITECTURES:
        raise InputError(
            where,
            "architectures",
            f"{found or model_type!r} is not a decoder that is modelled; "
            f"known are {', '.join(ARCHITECTURES)}",
        )
    return str(found)


def stated_name(config: Mapping[str, Any]) -> str | None:
    """``_name_or_path`` where it is a name: a path on the machine that saved the file is none."""
    name = config.get("_name_or_path")
    if not isinstance(name, str) or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
        return None
    return None if set(name.split("/")) & {".", ".."} else name
