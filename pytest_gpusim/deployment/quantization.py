"""Quantized weights and KV caches, read from a checkpoint's ``quantization_config``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_gpusim.errors import InputError, UsageError

# Scheme -> bytes of one weight, its share of a scale included: none, a float32 for 128 x 128
# weights, an fp8 one for 16.
_WEIGHT_BYTES = {"fp8": 1.0, "fp8_block": 1 + 4 / 128**2, "nvfp4": 0.5 + 1 / 16, "int8": 1.0}
SCHEMES = tuple(_WEIGHT_BYTES)
"""``fp8`` and ``int8``: one scale a tensor or channel; ``fp8_block``: blocks of 128 x 128."""
# vLLM's ``quantization`` setting -> schemes that a checkpoint of that method may have.
_METHODS = {
    "fp8": ("fp8", "fp8_block"),
    "fbgemm_fp8": ("fp8",),
    "modelopt": ("fp8", "fp8_block"),
    "modelopt_fp4": ("nvfp4",),
    "compressed-tensors": SCHEMES,
}
_MODELOPT = {
    "FP8": "fp8",
    "FP8_PER_CHANNEL_PER_TOKEN": "fp8",
    "FP8_PB_WO": "fp8_block",
    "NVFP4": "nvfp4",
}
# Part of a layer -> how its modules are called. vLLM never quantizes LM head and router.
_PARTS = {
    "attention": re.compile(r"self_attn|[qkvo]_proj"),
    "mlp": re.compile(r"\bmlp(\.(gate|up|down|gate_up)_proj)?\*?$|shared_expert\b"),
    "experts": re.compile(r"experts\b"),
}


@dataclass(frozen=True)
class Quantization:
    """How a checkpoint's weights and KV cache are stored and multiplied.

    Attributes:
        scheme: One of `SCHEMES`.
        kv_cache_dtype: What vLLM's ``kv_cache_dtype: auto`` then means: ``fp8``, or None for the
            model's dtype (``vllm/utils/torch_utils.py: get_kv_cache_quant_algo_string``).
        excluded: Parts that keep the model's dtype: ``attention``, ``mlp``, ``experts``.
    """

    scheme: str
    kv_cache_dtype: str | None = None
    excluded: tuple[str, ...] = ()

    @classmethod
    def from_config(
        cls, config: object, where: Path | str, num_layers: int = 1
    ) -> Quantization | None:
        """Read a ``quantization_config``, or a ``hf_quant_config.json``; None stays None.

        A part that most of ``num_layers`` layers leave as it is counts as left so in all, one that
        fewer do (Llama-3.1-405B: the MLPs of the first and last) in none.

        Raises:
            UsageError: A method that is not modelled, by its name.
        """
        if not config:
            return None
        if not isinstance(config, Mapping):
            raise InputError(where, "quantization_config", "expected a JSON object")
        document = config.get("quantization") or config  # hf_quant_config.json nests it
        scheme = _scheme(document, where)
        ignored = (
            document.get("modules_to_not_convert")
            or document.get("exclude_modules")
            or document.get("ignore")
            or ()
        )
        return cls(scheme, _kv_cache(document), _excluded(ignored, num_layers))

    @classmethod
    def from_json(cls, document: object, where: Path | str) -> Quantization | None:
        """Read what `to_json` wrote; None stays None."""
        if document is None:
            return None
        key = "model_shape, quantization"
        if not isinstance(document, Mapping) or document.get("scheme") not in SCHEMES:
            raise InputError(where, key, f"expected an object whose scheme is of {SCHEMES}")
        excluded, kv_cache = document.get("excluded", []), document.get("kv_cache_dtype")
        if kv_cache not in (None, "fp8"):
            raise InputError(where, key, f"kv_cache_dtype is {kv_cache!r}, expected 'fp8' or null")
        if not isinstance(excluded, list) or not set(excluded) <= set(_PARTS):
            raise InputError(where, key, f"excluded is {excluded!r}, expected some of {[*_PARTS]}")
        return cls(str(document["scheme"]), kv_cache, tuple(excluded))

    def to_json(self) -> dict[str, Any]:
        """All fields, as JSON values."""
        return {
            "scheme": self.scheme,
            "kv_cache_dtype": self.kv_cache_dtype,
            "excluded": list(self.excluded),
        }

    def to_hf_config(self) -> dict[str, Any]:
        """A ``quantization_config`` of this scheme, as vLLM reads it."""
        if self.scheme == "int8":
            weights = {"num_bits": 8, "type": "int", "symmetric": True, "dynamic": False}
            inputs = {"num_bits": 8, "type": "int", "symmetric": True, "dynamic": True}
            group = {
                "targets": ["Linear"],
                "weights": {**weights, "strategy": "channel"},
                "input_activations": {**inputs, "strategy": "token"},
            }
            return {
                "quant_method": "compressed-tensors",
                "format": "int-quantized",
                "config_groups": {"group_0": group},
                "ignore": ["lm_head"],
            }
        if self.scheme == "nvfp4":
            found: dict[str, Any] = {
                "quant_method": "modelopt",
                "quant_algo": "NVFP4",
                "group_size": 16,
                "exclude_modules": ["lm_head"],
            }
        else:
            found = {"quant_method": "fp8", "activation_scheme": "dynamic"}
            if self.scheme == "fp8_block":
                found["weight_block_size"] = [128, 128]
        if self.kv_cache_dtype:
            found["kv_cache_quant_algo"] = "FP8"
        return found

    def covers(self, part: str) -> bool:
        """Whether a part of the model is quantized; only attention, MLPs and experts can be."""
        return part in _PARTS and part not in self.excluded

    @property
    def weight_bytes(self) -> float:
        """Bytes of one quantized weight, scales included."""
        return weight_bytes(self.scheme)


def weight_bytes(scheme: str) -> float:
    """Bytes of one weight of a scheme, scales included."""
    return _WEIGHT_BYTES[scheme]


def method_has(method: str, scheme: str | None) -> bool:
    """Whether weights of ``scheme`` (None: not quantized) can be of vLLM's ``quantization``."""
    return scheme in _METHODS.get(method, ())


def known_methods() -> tuple[str, ...]:
    """vLLM's ``quantization`` settings that are modelled."""
    return tuple(_METHODS)


def _scheme(document: Mapping[str, Any], where: Path | str) -> str:
    method = document.get("quant_method")
    algorithm = document.get("quant_algo")
    if algorithm is not None:
        if algorithm not in _MODELOPT:
            raise _refused(where, f"quant_algo {algorithm!r}")
        return _MODELOPT[algorithm]
    if method in ("fp8", "fbgemm_fp8"):
        block = document.get("weight_block_size")
        if block not in (None, [128, 128]):
            raise _refused(where, f"fp8 in blocks of {block}")
        return "fp8_block" if block else "fp8"
    if method == "compressed-tensors":
        return _compressed(document, where)
    raise _refused(where, f"quant_method {method!r}")


def _compressed(document: Mapping[str, Any], where: Path | str) -> str:
    """The scheme of ``config_groups``, which must all be one."""
    schemes = set()
    for group in (document.get("config_groups") or {}).values():
        weights = (group or {}).get("weights") or {}
        inputs = (group or {}).get("input_activations") or {}
        bits, kind, strategy = (weights.get(key) for key in ("num_bits", "type", "strategy"))
        same = inputs.get("num_bits") == bits and inputs.get("type") == kind
        if same and (bits, kind) == (8, "float"):
            schemes.add("fp8_block" if strategy == "block" else "fp8")
        elif same and (bits, kind) == (8, "int"):
            schemes.add("int8")
        elif same and (bits, kind, weights.get("group_size")) == (4, "float", 16):
            schemes.add("nvfp4")
        else:
            raise _refused(where, f"weights of {bits} bits ({kind}), inputs {inputs or None}")
    if len(schemes) != 1:
        raise _refused(where, f"{len(schemes)} schemes in one checkpoint")
    return schemes.pop()


def _refused(where: Path | str, what: str) -> UsageError:
    return UsageError(
        f"{where}: quantized weights of this kind are not modelled (quantization_config: {what}); "
        f"known are {', '.join(SCHEMES)}"
    )


def _kv_cache(document: Mapping[str, Any]) -> str | None:
    algorithm = document.get("kv_cache_quant_algo")
    scheme = document.get("kv_cache_scheme")
    if isinstance(scheme, Mapping):
        algorithm = "FP8" if scheme.get("num_bits") == 8 else scheme.get("num_bits")
    elif scheme is not None:
        algorithm = scheme
    if algorithm in (None, "", "NONE"):
        return None
    if algorithm != "FP8":
        raise UsageError(f"quantized KV cache {algorithm!r} is not modelled; known is FP8")
    return "fp8"


def _excluded(ignored: Iterable[object], num_layers: int) -> tuple[str, ...]:
    """Parts of a layer that a list of modules, globs among them, leaves as they are."""
    modules = [str(module) for module in ignored]
    found = []
    for part, pattern in _PARTS.items():
        layers = {_layer_of(name) for name in modules if pattern.search(name)}
        if None in layers or 2 * len(layers) > num_layers:
            found.append(part)
    return tuple(found)


def _layer_of(module: str) -> str | None:
    """The number of the only layer that a module's name means."""
    match = re.search(r"\blayers\.(\d+)\.", module)
    return match[1] if match else None
