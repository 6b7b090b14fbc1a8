"""The shape of a decoder, dense or of experts, read from its Hugging Face ``config.json``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from pytest_gpusim.deployment.architectures import ARCHITECTURES, read_architecture, stated_name
from pytest_gpusim.deployment.dtypes import plain_dtype
from pytest_gpusim.deployment.experts import Experts
from pytest_gpusim.deployment.quantization import Quantization
from pytest_gpusim.errors import InputError, UsageError, shortly
from pytest_gpusim.json_documents import read_json

_DTYPE_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "half": 2, "float": 4, "fp8": 1}


_MOST = 10**9
"""No width, number of layers or vocabulary is beyond it."""


@dataclass(frozen=True)
class ModelShape:
    """Everything about a model that decides how long its steps take.

    Widths are in elements, not bytes. ``head_dim`` is the file's where it gives one, since it need
    not be ``hidden_size / num_q_heads`` (Qwen3-0.6B: 128, not 64). ``intermediate_size`` is the
    width of an ordinary MLP; layers of ``experts`` have none. ``qk_norm_over_heads`` says that Q
    and K are normalized over all heads at once (MiniMax-M2), else each head by itself.
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
    qk_norm_over_heads: bool = False
    experts: Experts | None = None
    quantization: Quantization | None = None

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
        architecture = read_architecture(config, where)
        family = ARCHITECTURES[architecture]

        def integer(key: str, default: int | None = None) -> int:
            value = config.get(key, default)
            if value is None and default is not None:
                value = default
            if type(value) is not int or not 1 <= value <= _MOST:
                limit = f" up to {_MOST:,}" if type(value) is int and value > _MOST else ""
                expected = f"expected a positive integer{limit}"
                raise InputError(where, key, f"{expected}, found {shortly(value)}")
            return value

        def number(key: str, document: Mapping[str, Any], default: float) -> float:
            value = document.get(key)
            if value is None:
                return default
            if type(value) not in (int, float) or not 0 < value < _MOST**2:
                raise InputError(where, key, f"expected a positive number, found {shortly(value)}")
            return float(value)

        def flag(key: str) -> bool | None:
            value = config.get(key)
            if not isinstance(value, bool | None):
                raise InputError(where, key, f"expected true or false, found {shortly(value)}")
            return value

        hidden, heads = integer("hidden_size"), integer("num_attention_heads")
        kv_heads = integer("num_key_value_heads", heads)
        if heads % kv_heads:
            raise InputError(
                where, "num_key_value_heads", f"{kv_heads} does not divide {heads} query heads"
            )
        experts = Experts.from_config(architecture, config, integer, where)
        rope = config.get("rope_parameters")
        rope = rope if isinstance(rope, Mapping) else {}
        bias, layers = flag("attention_bias"), integer("num_hidden_layers")
        return cls(
            name=name,
            architecture=architecture,
            num_layers=layers,
            hidden_size=hidden,
            num_q_heads=heads,
            num_kv_heads=kv_heads,
            head_dim=integer("head_dim", hidden // heads),
            intermediate_size=integer("intermediate_size"),
            vocab_size=integer("vocab_size"),
            max_position=integer("max_position_embeddings"),
            tie_word_embeddings=bool(flag("tie_word_embeddings")),
            attention_bias=bool(family.qkv_bias if bias is None else bias),
            qk_norm=family.qk_norm,
            torch_dtype=str(config.get("torch_dtype") or config.get("dtype") or "float32"),
            rms_norm_eps=number("rms_norm_eps", config, 1e-6),
            rope_theta=number("rope_theta", config, number("rope_theta", rope, 10000.0)),
            qk_norm_over_heads=family.norm_over_heads,
            experts=experts,
            quantization=Quantization.from_config(config.get("quantization_config"), where, layers),
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
        beside = path.parent / "hf_quant_config.json"
        if not config.get("quantization_config") and beside.is_file():
            # ModelOpt's checkpoints say it there, and vLLM looks there too.
            config = {**config, "quantization_config": read_json(beside)}
        known = name or stated_name(config) or path.resolve().parent.name
        try:
            return cls.from_config(config, name=known, where=path)
        except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
            said = f"a value is none of its kind: {type(error).__name__}: {error}"
            raise InputError(path, "", said, "give a Hugging Face config.json") from error

    @classmethod
    def from_json(cls, document: Mapping[str, Any], where: Path | str) -> ModelShape:
        """Read what `to_json` wrote."""
        if not isinstance(document, Mapping):
            raise InputError(where, "model_shape", "expected a JSON object")
        nested = {
            "experts": Experts.from_json(document.get("experts"), where),
            "quantization": Quantization.from_json(document.get("quantization"), where),
        }
        values = {"qk_norm_over_heads": False, **document, **nested}
        for field in fields(cls):
            if field.name in nested:
                continue
            if field.name not in values:
                raise InputError(where, "model_shape", f"the key {field.name!r} is missing")
            value = values[field.name]
            kind = {"int": int, "float": int | float, "bool": bool, "str": str}[str(field.type)]
            if not isinstance(value, kind) or isinstance(value, bool) != (kind is bool):
                raise InputError(
                    where,
                    f"model_shape, {field.name}",
                    f"expected a value of type {field.type}, found {shortly(value)}",
                )
            if kind not in (str, bool) and not 0 < float(value) <= _MOST**2:
                said = f"expected a number above 0, found {shortly(value)}"
                raise InputError(where, f"model_shape, {field.name}", said)
        return cls(**{field.name: values[field.name] for field in fields(cls)})

    def to_json(self) -> dict[str, Any]:
        """All fields, as JSON values; of what a plain dense model has not, nothing."""
        document = asdict(self)
        for key in ("experts", "quantization"):
            value = getattr(self, key)
            document.pop(key)
            if value is not None:
                document[key] = value.to_json()
        if not self.qk_norm_over_heads:
            del document["qk_norm_over_heads"]
        return document

    def to_hf_config(self) -> dict[str, Any]:
        """A ``config.json`` from which an engine builds this shape."""
        config: dict[str, Any] = {
            "architectures": [self.architecture],
            "model_type": ARCHITECTURES[self.architecture].model_type,
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
        if self.experts is not None:
            config |= self.experts.to_hf_config(self.architecture)
        if self.quantization is not None:
            config["quantization_config"] = self.quantization.to_hf_config()
        if self.qk_norm_over_heads:
            config |= {
                "use_qk_norm": True,
                "rotary_dim": self.head_dim // 2,
                "scoring_func": "sigmoid",
                "use_routing_bias": True,
            }
        return config

    def kv_cache_dtype(self, dtype: str, setting: str | None = None) -> str:
        """The KV cache's dtype by vLLM's ``kv_cache_dtype``; ``auto`` asks the checkpoint."""
        if setting not in (None, "auto"):
            return "fp8" if str(setting).startswith("fp8") else str(setting)
        own = self.quantization.kv_cache_dtype if self.quantization is not None else None
        return own or dtype

    def kv_bytes_per_token(self, dtype: str, tensor_parallel_size: int = 1) -> int:
        """Bytes of K and V that one token keeps on one device, over all layers.

        ``dtype`` is the KV cache's (`kv_cache_dtype`).
        """
        heads = max(1, self.num_kv_heads // tensor_parallel_size)
        return 2 * self.num_layers * heads * self.head_dim * dtype_bytes(dtype)

    @property
    def num_dense_layers(self) -> int:
        """Layers with an ordinary MLP; the others have experts."""
        return self.num_layers if self.experts is None else self.experts.num_dense_layers

    def num_parameters(self) -> int:
        """Number of weights, embeddings included (tied ones once)."""
        return sum(self.weights_by_part().values())

    def weights_by_part(self, workers: int = 1) -> dict[str, int]:
        """Weights on one of ``workers`` devices, by part of the model.

        Norms and routers are on each; key heads are copied where there are fewer than devices.
        """
        q, kv = self.num_q_heads * self.head_dim, self.num_kv_heads * self.head_dim
        mine = q // workers + 2 * max(self.head_dim, kv // workers)
        hidden, layers = self.hidden_size, self.num_layers
        norms = 2 * hidden + (mine if self.attention_bias else 0)
        if self.qk_norm_over_heads:
            norms += q + kv
        elif self.qk_norm:
            norms += 2 * self.head_dim
        shares = 1 if self.tie_word_embeddings else 2
        parts = {
            "attention": layers * hidden * (mine + q // workers),
            "mlp": 3 * self.num_dense_layers * hidden * self.intermediate_size // workers,
            "norms": layers * norms + hidden,
            "embeddings": shares * self.vocab_size * hidden // workers,
        }
        if self.experts is not None:
            sparse = layers - self.experts.num_dense_layers
            number = self.experts.num_experts * self.experts.width // workers
            parts["experts"] = 3 * sparse * hidden * number
            parts["mlp"] += 3 * sparse * hidden * self.experts.shared_width // workers
            parts["routers"] = sparse * hidden * self.experts.num_experts
        return parts

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
        return _DTYPE_BYTES[plain_dtype(dtype)]
    except KeyError:
        raise UsageError(f"dtype {dtype!r}: known are {', '.join(_DTYPE_BYTES)}") from None
