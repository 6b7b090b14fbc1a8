"""What an engine is started with, and the environment that its process gets."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pytest_gpusim.deployment import EngineSettings, ModelShape
from pytest_gpusim.deployment.hardware import DeviceKind
from pytest_gpusim.errors import InputError, UsageError
from pytest_gpusim.json_documents import digest_json

_DEFAULT_CONTEXT = 4096
_CPU_BLOCK_MULTIPLE = 32  # vLLM's CPU attention: get_supported_kernel_block_sizes
_CPU_DEFAULT_BLOCK = 128
_GIB = 2**30


@dataclass(frozen=True)
class LaunchSpec:
    """One engine: the model, its settings, the device, and where its weights come from.

    ``weights`` is a local directory of a checkpoint; None gives weights of made-up values, which
    cost the same time. ``threads`` is the number of OpenMP threads on a CPU.
    """

    model: ModelShape
    settings: EngineSettings
    device: DeviceKind
    weights: Path | None = None
    threads: int | None = None

    @classmethod
    def resolve(
        cls,
        model: ModelShape,
        settings: EngineSettings,
        device: DeviceKind,
        *,
        weights: Path | str | None = None,
        threads: int | None = None,
    ) -> LaunchSpec:
        """Fill in what is not stated, and refuse what vLLM is known to refuse, in one line.

        Raises:
            UsageError: A setting that this device cannot have.
            InputError: ``weights`` is not a checkpoint.
        """
        filled = settings.merged(
            EngineSettings(max_model_len=min(model.max_position, _DEFAULT_CONTEXT))
        )
        if (filled.max_model_len or 0) > model.max_position:
            raise UsageError(
                f"max_model_len={filled.max_model_len}: {model.name} has "
                f"{model.max_position} positions"
            )
        if device == "cpu":
            filled = _for_cpu(filled)
            threads = threads or default_threads()
        if weights is not None:
            _require_checkpoint_of(model, Path(weights))
        return cls(model, filled, device, Path(weights) if weights is not None else None, threads)

    @property
    def key(self) -> str:
        """Equal for equal engines."""
        return digest_json(self.to_json())

    def with_settings(self, **changes: Any) -> LaunchSpec:
        """The same engine with some settings changed."""
        return replace(self, settings=replace(self.settings, **changes))

    def to_json(self) -> dict[str, Any]:
        """For the child."""
        return {
            "model": self.model.to_json(),
            "settings": self.settings.to_json(),
            "device": self.device,
            "weights": str(self.weights.resolve()) if self.weights else None,
            "threads": self.threads,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> LaunchSpec:
        """Read what `to_json` wrote."""
        return cls(
            ModelShape.from_json(document["model"], "launch"),
            EngineSettings(**document["settings"]),
            document["device"],
            Path(document["weights"]) if document["weights"] else None,
            document["threads"],
        )

    def environment(self) -> dict[str, str]:
        """The environment of the engine's process: one process, offline, nothing phoned home."""
        env = {
            **os.environ,
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
            "VLLM_NO_USAGE_STATS": "1",
            "VLLM_DO_NOT_TRACK": "1",
            "HF_HUB_OFFLINE": "1",
            "TRANSFORMERS_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "PYTHONUNBUFFERED": "1",
        }
        env.setdefault("VLLM_LOGGING_LEVEL", "INFO")
        if self.device == "cpu":
            env["OMP_NUM_THREADS"] = str(self.threads or 1)
            env["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
            env["VLLM_CPU_KVCACHE_SPACE"] = str(self._kv_cache_gib())
        return env

    def _kv_cache_gib(self) -> int:
        stated = self.settings
        per_token = self.model.kv_bytes_per_token(
            stated.dtype or "float32", stated.tensor_parallel_size or 1
        )
        block = stated.block_size or _CPU_DEFAULT_BLOCK
        if stated.num_gpu_blocks is not None:
            need = stated.num_gpu_blocks * block * per_token
        else:
            # Room for every seat to be full, but no more than a quarter of the memory.
            need = (stated.max_num_seqs or 128) * (stated.max_model_len or 1) * per_token
            memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
            need = min(need, memory // 4)
        return max(1, math.ceil(need / _GIB))


def default_threads() -> int:
    """``OMP_NUM_THREADS`` where set, else all usable cores but one.

    The one is left to the rest of the machine: OpenMP threads that spin at a barrier for one that
    lost its core make a step three to ten times slower, at random.
    """
    stated = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    if stated.isdecimal() and int(stated) > 0:
        return int(stated)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, (cores or 1) - 1)


def _require_checkpoint_of(model: ModelShape, weights: Path) -> None:
    if not (weights / "config.json").is_file():
        raise InputError(weights, "", "no config.json", "name the directory of a checkpoint")
    found = ModelShape.from_config_file(weights)
    for field in found.differing_fields(model):
        raise InputError(
            weights / "config.json",
            field,
            f"is {getattr(found, field)}, that of {model.name} {getattr(model, field)}",
        )


def _for_cpu(settings: EngineSettings) -> EngineSettings:
    block = settings.block_size
    if block is not None and block % _CPU_BLOCK_MULTIPLE:
        raise UsageError(
            f"block_size={block}: vLLM's CPU attention takes multiples of {_CPU_BLOCK_MULTIPLE}"
        )
    if settings.async_scheduling:
        raise UsageError("async_scheduling=true: vLLM schedules synchronously on a CPU")
    if (settings.tensor_parallel_size or 1) > 1:
        raise UsageError("tensor_parallel_size: more than 1 is not measured on a CPU")
    # vLLM's dtype=auto may pick bfloat16, which is slow without the instructions for it.
    return settings.merged(
        EngineSettings(dtype="float32", enforce_eager=True, block_size=_CPU_BLOCK_MULTIPLE)
    )
