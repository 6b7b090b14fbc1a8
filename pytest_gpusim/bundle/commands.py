"""The command that makes a bundle of what is asked, for messages."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_BUILT_IN = ("vllm", "aiconfigurator", "llmservingsim", "vidur")
OTHER_SOURCES = "'gpusim profile --help' lists other sources"


def profile_command(meta: Mapping[str, Any], engine: Path | str | None = None) -> str:
    """The command that makes a bundle like the one described.

    Args:
        meta: ``profile_meta.json``, or as much of it as is known.
        engine: The file or run directory that states the engine's settings.
    """
    source = meta.get("source")
    if not isinstance(source, str) or not source:
        source = "vllm"
    if source == "aiconfigurator" and meta.get("dtype") not in (None, "bfloat16"):
        source = "vllm"  # its tables of operators have no other
    if source not in _BUILT_IN:
        return f"gpusim profile {source}"
    words = [*_WORDS[source](meta), *_degree(meta, source)]
    if source == "vllm" and (engine is not None or meta.get("engine_settings")):
        words += ["--engine", str(engine) if engine is not None else "FILE"]
    if source == "vllm" and meta.get("quick"):
        words.append("--quick")
    return " ".join(["gpusim profile", source, *(shlex.quote(word) for word in words)])


def vidur_command(tree: Path, model: str | None, hardware: str | None) -> str:
    """The command that makes a bundle of Vidur's own ``data/profiling`` tree."""
    devices = _folders(tree / "compute")
    device = hardware if hardware in devices or not devices else None
    if device is None:
        device = devices[0] if len(devices) == 1 else "DEVICE"
    command = f"gpusim profile vidur {shlex.quote(str(tree))} --model {model or 'MODEL'}"
    names = f" (devices: {', '.join(devices)})" if device == "DEVICE" else ""
    return f"'{command} --device {device or 'DEVICE'}'{names}"


def _vllm(meta: Mapping[str, Any]) -> list[str]:
    return ["--model", _text(meta, "model"), "--hardware", _text(meta, "hardware")]


def _aiconfigurator(meta: Mapping[str, Any]) -> list[str]:
    words = ["--system", _text(meta, "system"), "--model", _text(meta, "model")]
    if meta.get("engine") not in (None, "vllm"):
        words += ["--framework", str(meta["engine"])]
    if meta.get("block_size") not in (None, 16):
        words += ["--block-size", str(meta["block_size"])]
    settings = meta.get("engine_settings") or {}
    if settings.get("enable_expert_parallel"):
        words.append("--enable-expert-parallel")
    if settings.get("kv_cache_dtype"):
        words += ["--kv-cache-dtype", str(settings["kv_cache_dtype"])]
    return words


def _llmservingsim(meta: Mapping[str, Any]) -> list[str]:
    return ["DIR", "--model", _text(meta, "model"), "--hardware", _text(meta, "hardware")]


def _vidur(meta: Mapping[str, Any]) -> list[str]:
    words = ["DIR", "--model", _text(meta, "model"), "--device", _text(meta, "hardware")]
    if meta.get("dtype") not in (None, "float16"):
        words += ["--dtype", str(meta["dtype"])]
    return words


_WORDS = {
    "vllm": _vllm,
    "aiconfigurator": _aiconfigurator,
    "llmservingsim": _llmservingsim,
    "vidur": _vidur,
}


def _degree(meta: Mapping[str, Any], source: str) -> list[str]:
    """Options for tensor parallelism; a live engine is told by its settings file."""
    sizes = meta.get("tensor_parallel_sizes")
    sizes = sizes if isinstance(sizes, list) else []
    largest = max((size for size in sizes if isinstance(size, int)), default=1)
    if largest < 2 or source == "vllm":
        return []
    if source == "vidur":
        return ["--network", "NAME"]
    words = ["--tensor-parallel-size", str(largest)]
    return [*words, "--cluster", "FILE"] if source == "llmservingsim" else words


def _text(meta: Mapping[str, Any], key: str) -> str:
    value = meta.get(key)
    return value if isinstance(value, str) and value else key.upper()


def _folders(directory: Path) -> list[str]:
    if not directory.is_dir():
        return []
    return sorted(path.name for path in directory.iterdir() if path.is_dir())
