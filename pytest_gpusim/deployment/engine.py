"""Engine settings under vLLM's names: what decides the schedule of a serving engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from pytest_gpusim.artifacts import read_json
from pytest_gpusim.errors import InputError, UsageError
from pytest_gpusim.yaml_documents import read_yaml

# A key that asks for something that is not modelled -> (its name in words, values that ask not).
_UNMODELLED: dict[str, tuple[str, tuple[Any, ...]]] = {
    "kv_cache_dtype": ("quantized KV cache", (None, "auto")),
    "cache_dtype": ("quantized KV cache", (None, "auto")),
    "quantization": ("quantized weights", (None,)),
    "speculative_config": ("speculative decoding", (None, {})),
    "pipeline_parallel_size": ("pipeline parallelism", (None, 1)),
    "data_parallel_size": ("data parallelism", (None, 1)),
    "enable_lora": ("LoRA", (None, False)),
    "lora_config": ("LoRA", (None, {})),
    "enable_expert_parallel": ("mixture of experts", (None, False)),
    "sliding_window": ("sliding window attention", (None, False, 0)),
}
_REQUIRED = ("max_num_seqs", "max_num_batched_tokens", "block_size", "num_gpu_blocks")


@dataclass(frozen=True)
class EngineSettings:
    """vLLM's settings that a simulation must share with the engine; None where not stated.

    ``num_gpu_blocks`` counts KV blocks of ``block_size`` tokens, vLLM's null block included.
    ``engine_version`` picks the scheduling rules of that release.
    """

    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    max_model_len: int | None = None
    block_size: int | None = None
    num_gpu_blocks: int | None = None
    enable_prefix_caching: bool | None = None
    async_scheduling: bool | None = None
    long_prefill_token_threshold: int | None = None
    scheduler_reserve_full_isl: bool | None = None
    dtype: str | None = None
    tensor_parallel_size: int | None = None
    enforce_eager: bool | None = None
    engine_version: str | None = None

    @classmethod
    def from_mapping(
        cls, document: Mapping[str, Any], where: Path | str, *, strict: bool = True
    ) -> EngineSettings:
        """Read settings from a mapping.

        Args:
            document: Settings under vLLM's names.
            where: The file, for messages.
            strict: Refuse unknown keys (a user's file); else pass over them (a run's metadata).

        Raises:
            InputError: An unknown key or a value of the wrong kind.
            UsageError: A setting that is not modelled.
        """
        kinds = {field.name: str(field.type).split(" ")[0] for field in fields(cls)}
        values: dict[str, Any] = {}
        for key, value in document.items():
            if key in _UNMODELLED:
                words, harmless = _UNMODELLED[key]
                # A KV cache of the model's own dtype is not quantized.
                own = key in ("kv_cache_dtype", "cache_dtype") and _same_dtype(value, document)
                if value not in harmless and not own:
                    raise UsageError(f"{where}: {key}={value!r}: {words} is not modelled")
            elif key in kinds:
                values[key] = _checked(key, value, kinds[key], where)
            elif strict:
                raise InputError(
                    where, key, f"unknown engine setting; known are {', '.join(kinds)}"
                )
        return cls(**values)

    @classmethod
    def load(cls, path: Path | str) -> EngineSettings:
        """Read settings from a JSON or YAML file, or from a run directory's resolved ones."""
        path = Path(path)
        if path.is_dir():
            meta = path / "run_meta.json"
            if not meta.exists():
                raise InputError(path, "", "incomplete: no run_meta.json in this run directory")
            document = read_json(meta)
            engine = document.get("engine") if isinstance(document, dict) else None
            if not isinstance(engine, dict):
                raise InputError(meta, "engine", "the run recorded no engine settings")
            return cls.from_mapping(engine, meta, strict=False)
        if path.suffix in (".yaml", ".yml"):
            document = read_yaml(path)
        else:
            document = read_json(path, fix="give a JSON or YAML file, or a run directory")
        if not isinstance(document, dict):
            raise InputError(path, "", "expected a mapping of engine settings")
        return cls.from_mapping(document, path)

    def to_json(self) -> dict[str, Any]:
        """The stated settings, as JSON values."""
        return {key: value for key, value in asdict(self).items() if value is not None}

    def merged(self, other: EngineSettings) -> EngineSettings:
        """These settings, with what they do not state taken from ``other``."""
        missing = {
            key: value for key, value in other.to_json().items() if getattr(self, key) is None
        }
        return replace(self, **missing)

    def require_complete(self, where: Path | str) -> EngineSettings:
        """Return these settings with vLLM's defaults for flags, or raise on a missing limit."""
        missing = [key for key in _REQUIRED if getattr(self, key) is None]
        if missing:
            raise InputError(
                where,
                ", ".join(missing),
                "the simulator needs these engine settings and no source states them",
                "give --engine FILE or a run directory",
            )
        return self.merged(
            EngineSettings(
                enable_prefix_caching=True,
                async_scheduling=False,
                long_prefill_token_threshold=0,
                scheduler_reserve_full_isl=True,
                tensor_parallel_size=1,
            )
        )


def _checked(key: str, value: Any, kind: str, where: Path | str) -> Any:
    if value is None:
        return None
    if kind == "bool":
        good = isinstance(value, bool)
    elif kind == "int":
        minimum = 0 if key == "long_prefill_token_threshold" else 1
        good = isinstance(value, int) and not isinstance(value, bool) and value >= minimum
    else:
        good = isinstance(value, str)
    if not good:
        raise InputError(where, key, f"expected a valid {kind}, found {value!r}")
    return value.removeprefix("torch.") if key == "dtype" else value


def _same_dtype(value: Any, document: Mapping[str, Any]) -> bool:
    names = (value, document.get("dtype"))
    words = {"bf16": "bfloat16", "fp16": "float16", "half": "float16", "float": "float32"}
    one, other = (str(name).lower().removeprefix("torch.") for name in names)
    return words.get(one, one) == words.get(other, other)
