"""The shape of a dense decoder, read from its Hugging Face ``config.json``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from pytest_gpusim.artifacts import read_json
from pytest_gpusim.errors import InputError, UsageError

# Architecture -> (model_type, has RMS norms on Q and K, has biases on QKV by default).
_ARCHITECTURES = {
    "LlamaForCausalLM": ("llama", False, False),
    "MistralForCausalLM": ("mistral", False, False),
    "Qwen2ForCausalLM": ("qwen2", False, True),
    "Qwen3ForCausalLM": ("qwen3", True, False),
}
_EXPERT_KEYS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
_DTYPE_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "half": 2, "float": 4}


@dataclass(frozen=True)
class ModelShape:
    """Everything about a model that decides how long its steps take.

    Widths are in elements, not bytes. ``head_dim`` is the file's where it gives one, since it need
    not be ``hidden_size / num_q_heads`` (Qwen3-0.6B: 128, not 64).
    """

    name: str
    architecture: str
    num_layers: int
    hidden_size: int
    num_q_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int
    vocab_size: int
    max_position: int
    tie_word_embeddings: bool
    attention_bias: bool
    qk_norm: bool
    torch_dtype: str
    rms_norm_eps: float
    rope_theta: float

    @classmethod
    def from_config(cls, config: Mapping[str, Any], *, name: str, where: Path | str) -> ModelShape:
        """Build a shape from a parsed ``config.json``.

        Args:
            config: The document, in Hugging Face's terms.
            name: The name the model goes by, such as ``Qwen/Qwen3-0.6B``.
            where: The file, for messages.

        Raises:
            InputError: A key is missing or of the wrong kind.
            UsageError: The model has a feature that is not modelled.
        """
        architecture = _architecture(config, where)
        _refuse_unmodelled(config, where)
        _, qk_norm, qkv_bias = _ARCHITECTURES[architecture]

        def integer(key: str, default: int | None = None) -> int:
            value = config.get(key, default)
            if value is None and default is not None:
                value = default
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise InputError(where, key, f"expected a positive integer, found {value!r}")
            return value

        def number(key: str, document: Mapping[str, Any], default: float) -> float:
            value = document.get(key)
            if value is None:
                return default
            if not isinstance(value, int | float) or isinstance(value, bool) or not value > 0:
                raise InputError(where, key, f"expected a positive number, found {value!r}")
            return float(value)

        hidden, heads = integer("hidden_size"), integer("num_attention_heads")
        kv_heads = integer("num_key_value_heads", heads)
        if heads % kv_heads:
            raise InputError(
                where, "num_key_value_heads", f"{kv_heads} does not divide {heads} query heads"
            )
        rope = config.get("rope_parameters")
        rope = rope if isinstance(rope, Mapping) else {}
        bias = config.get("attention_bias")
        return cls(
            name=name,
            architecture=architecture,
            num_layers=integer("num_hidden_layers"),
            hidden_size=hidden,
            num_q_heads=heads,
            num_kv_heads=kv_heads,
            head_dim=integer("head_dim", hidden // heads),
            intermediate_size=integer("intermediate_size"),
            vocab_size=integer("vocab_size"),
            max_position=integer("max_position_embeddings"),
            tie_word_embeddings=bool(config.get("tie_word_embeddings", False)),
            attention_bias=bool(qkv_bias if bias is None else bias),
            qk_norm=qk_norm,
            torch_dtype=str(config.get("torch_dtype") or config.get("dtype") or "float32"),
            rms_norm_eps=number("rms_norm_eps", config, 1e-6),
            rope_theta=number("rope_theta", config, number("rope_theta", rope, 10000.0)),
        )

    @classmethod
    def from_config_file(cls, path: Path | str, *, name: str | None = None) -> ModelShape:
        """Read ``path``, a ``config.json`` or the directory that holds one."""
        path = Path(path)
        if path.is_dir():
            path = path / "config.json"
        config = read_json(path, fix="give a Hugging Face config.json")
        if not isinstance(config, dict):
            raise InputError(path, "", "expected a JSON object, a Hugging Face config.json")
        known = name or _stated_name(config) or path.resolve().parent.name
        return cls.from_config(config, name=known, where=path)

    @classmethod
    def from_json(cls, document: Mapping[str, Any], where: Path | str) -> ModelShape:
        """Read what `to_json` wrote."""
        if not isinstance(document, Mapping):
            raise InputError(where, "model_shape", "expected a JSON object")
        for field in fields(cls):
            if field.name not in document:
                raise InputError(where, "model_shape", f"the key {field.name!r} is missing")
            value = document[field.name]
            kind = {"int": int, "float": int | float, "bool": bool, "str": str}[str(field.type)]
            if not isinstance(value, kind) or isinstance(value, bool) != (kind is bool):
                raise InputError(
                    where,
                    f"model_shape, {field.name}",
                    f"expected a value of type {field.type}, found {value!r}",
                )
        return cls(**{field.name: document[field.name] for field in fields(cls)})

    def to_json(self) -> dict[str, Any]:
        """All fields, as JSON values."""
        return asdict(self)

    def to_hf_config(self) -> dict[str, Any]:
        """A ``config.json`` from which an engine builds this shape."""
        return {
            "architectures": [self.architecture],
            "model_type": _ARCHITECTURES[self.architecture][0],
            "hidden_size": self.hidden_size,
            "num_hidden_layers": self.num_layers,
            "num_attention_heads": self.num_q_heads,
            "num_key_value_heads": self.num_kv_heads,
            "head_dim": self.head_dim,
            "intermediate_size": self.intermediate_size,
            "vocab_size": self.vocab_size,
            "max_position_embeddings": self.max_position,
            "tie_word_embeddings": self.tie_word_embeddings,
            "attention_bias": self.attention_bias,
            "torch_dtype": self.torch_dtype,
            "rms_norm_eps": self.rms_norm_eps,
            "rope_theta": self.rope_theta,
            "hidden_act": "silu",
            "bos_token_id": 0,
            "eos_token_id": 0,
            "sliding_window": None,
        }

    def kv_bytes_per_token(self, dtype: str, tensor_parallel_size: int = 1) -> int:
        """Bytes of K and V that one token keeps on one device, over all layers."""
        heads = max(1, self.num_kv_heads // tensor_parallel_size)
        return 2 * self.num_layers * heads * self.head_dim * dtype_bytes(dtype)

    def num_parameters(self) -> int:
        """Number of weights, embeddings included (tied ones once)."""
        qkv = (self.num_q_heads + 2 * self.num_kv_heads) * self.head_dim
        layer = self.hidden_size * qkv + self.num_q_heads * self.head_dim * self.hidden_size
        layer += 3 * self.hidden_size * self.intermediate_size + 2 * self.hidden_size
        layer += qkv if self.attention_bias else 0
        layer += 2 * self.head_dim if self.qk_norm else 0
        embeddings = self.vocab_size * self.hidden_size * (1 if self.tie_word_embeddings else 2)
        return self.num_layers * layer + embeddings + self.hidden_size

    def differing_fields(self, other: ModelShape) -> list[str]:
        """Names of the fields, other than the name and dtype, in which two shapes differ."""
        ignored = {"name", "torch_dtype", "rms_norm_eps", "rope_theta", "max_position"}
        return [
            field.name
            for field in fields(self)
            if field.name not in ignored and getattr(self, field.name) != getattr(other, field.name)
        ]


def dtype_bytes(dtype: str) -> int:
    """Bytes of one element; raises `UsageError` for an unknown dtype."""
    try:
        return _DTYPE_BYTES[dtype.removeprefix("torch.")]
    except KeyError:
        raise UsageError(f"dtype {dtype!r}: known are {', '.join(_DTYPE_BYTES)}") from None


def _stated_name(config: Mapping[str, Any]) -> str | None:
    """``_name_or_path`` where it is a name: a path on the machine that saved the file is none."""
    name = config.get("_name_or_path")
    if not isinstance(name, str) or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
        return None
    return None if set(name.split("/")) & {".", ".."} else name


def _architecture(config: Mapping[str, Any], where: Path | str) -> str:
    architectures = config.get("architectures")
    model_type = config.get("model_type")
    found = architectures[0] if isinstance(architectures, list) and architectures else None
    if found is None:
        found = next((a for a, (t, *_) in _ARCHITECTURES.items() if t == model_type), None)
    if any(config.get(key) for key in _EXPERT_KEYS) or "moe" in str(found).lower():
        raise UsageError(f"{where}: mixture of experts is not modelled ({found or model_type})")
    if found not in _ARCHITECTURES:
        raise InputError(
            where,
            "architectures",
            f"{found or model_type!r} is not a dense decoder that is modelled; "
            f"known are {', '.join(_ARCHITECTURES)}",
        )
    return str(found)


def _refuse_unmodelled(config: Mapping[str, Any], where: Path | str) -> None:
    # Qwen states a window that its models use only where use_sliding_window says so.
    in_use = config.get("use_sliding_window", not str(config.get("model_type")).startswith("qwen"))
    layers = config.get("layer_types") or ()
    if (config.get("sliding_window") and in_use) or "sliding_attention" in layers:
        raise UsageError(f"{where}: sliding window attention is not modelled (sliding_window)")
    if config.get("quantization_config"):
        raise UsageError(f"{where}: quantized weights are not modelled (quantization_config)")
