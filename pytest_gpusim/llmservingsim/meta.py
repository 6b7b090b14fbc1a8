"""What a published run's ``meta.json`` states, whatever form its sections have."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pytest_gpusim.artifacts import read_json
from pytest_gpusim.errors import InputError, UsageError
from pytest_gpusim.llmservingsim.identity import known_dtype
from pytest_gpusim.llmservingsim.profile_folder import mapping

_SECTIONS = ("hardware", "kv_cache", "engine_kwargs", "resolved_config")
# The sections of vLLM's resolved configuration that are read here or by the importer.
_RESOLVED = ("scheduler_config", "cache_config", "model_config", "parallel_config")
_PAIR = re.compile(r"(\w+)=('[^']*'|\"[^\"]*\"|[^\s,()\[\]{}<>]+)")
_COUNTS = ("num_gpu_blocks", "num_gpu_blocks_override", "num_kv_tokens", "kv_cache_memory_bytes")
_OPTIONAL_LIMITS = ("max_num_seqs", "max_num_batched_tokens", "max_model_len", "block_size")
_DEVELOPMENT = re.compile(r"v?0\.(0|1)\.dev")
_SPLIT_CONTEXT = ("decode_context_parallel_size", "prefill_context_parallel_size")
# First release whose resolved configuration is known to have the option.
_RESERVES_SINCE = (0, 19)


def read_meta(path: Path) -> tuple[dict[str, Any], list[str]]:
    """``meta.json`` with every section an object and what says nothing left out; notes on it.

    Args:
        path: The file.

    Returns:
        The document, and what could not be read or had to be assumed.

    Raises:
        InputError: The file is missing or no JSON object.
        UsageError: The engine used something that is not modelled.
    """
    document = read_json(path)
    if not isinstance(document, dict):
        raise InputError(path, "", "expected a JSON object")
    meta = dict(document)
    notes = _read_sections(meta, _SECTIONS)
    resolved = meta["resolved_config"]
    notes += _read_sections(resolved, _RESOLVED)
    if isinstance(document.get("hardware"), str):
        meta["hardware"] = {"device_name": document["hardware"]}
    for place, key in ((meta, "model"), (meta, "vllm_version"), (meta["hardware"], "device_name")):
        place[key] = str(place[key]) if place.get(key) else None
    for section in (meta["kv_cache"], meta["engine_kwargs"], *(resolved[n] for n in _RESOLVED)):
        _clean(section)
    notes += _refuse(path, meta)
    _without_disabled_window(meta)
    _without_own_dtype(meta)
    notes += _imply_release(meta)
    return meta, notes


def look_up(meta: Mapping[str, Any], *keys: str) -> Any:
    """The first value stated for one of the keys; the engine's own goes before what was asked."""
    resolved = mapping(meta.get("resolved_config"))
    sections = (
        mapping(meta.get("kv_cache")),
        *(mapping(resolved.get(name)) for name in _RESOLVED),
        resolved,
        mapping(meta.get("engine_kwargs")),
    )
    for key in keys:
        for section in sections:
            if section.get(key) is not None:
                return section[key]
    return None


def _read_sections(holder: dict[str, Any], names: Iterable[str]) -> list[str]:
    """Make an object of each named entry of ``holder``; returns notes on those that are none."""
    notes = []
    for name in names:
        value = holder.get(name)
        if isinstance(value, Mapping):
            holder[name] = {str(key): entry for key, entry in value.items()}
        elif isinstance(value, str) and (pairs := _PAIR.findall(value)):
            holder[name] = {key: _literal(text) for key, text in pairs}
            notes.append(f"{name} is the text of an object; its fields are read from that")
        else:
            holder[name] = {}
            if value and name != "hardware":
                notes.append(f"{name} is no object and is not read")
    return notes


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _clean(section: dict[str, Any]) -> None:
    """Numbers as numbers; counts of nothing and empty texts are not stated."""
    for key in (*_COUNTS, *_OPTIONAL_LIMITS):
        value = section.get(key)
        if isinstance(value, str) and value.strip().isdecimal():
            value = int(value)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if key in section:
            section[key] = None if value in (0, "", "None", "auto") else value
    for key in [key for key, value in section.items() if value is None]:
        del section[key]


def _refuse(path: Path, meta: Mapping[str, Any]) -> list[str]:
    """Raise on what is not modelled; returns notes on what is simulated otherwise."""
    resolved = meta["resolved_config"]
    kwargs = meta["engine_kwargs"]

    def stated(key: str) -> bool:
        values = (resolved.get(key), kwargs.get(key))
        return any(value not in (None, {}, "", "None", False) for value in values)

    for key, words in (
        ("lora_config", "LoRA"),
        ("speculative_config", "speculative decoding"),
        ("quant_config", "quantized weights"),
        ("kv_transfer_config", "KV cache transfer between engines"),
    ):
        if stated(key):
            raise UsageError(f"{path}: {key}: {words} is not modelled")
    for key in _SPLIT_CONTEXT:
        value = look_up(meta, key)
        if value not in (None, 1):
            raise UsageError(f"{path}: {key}={value!r}: context parallelism is not modelled")
    policy = look_up(meta, "policy", "scheduling_policy")
    if policy in (None, "fcfs"):
        return []
    return [f"scheduling policy {policy!r} is simulated as fcfs: no priorities are stated"]


def _without_disabled_window(meta: Mapping[str, Any]) -> None:
    """A sliding window that the engine was told to ignore is none."""
    window, longest = look_up(meta, "sliding_window"), look_up(meta, "max_model_len")
    numbers = isinstance(window, int) and isinstance(longest, int)
    if look_up(meta, "disable_sliding_window") is True or (numbers and longest <= window):
        for section in (meta["kv_cache"], meta["engine_kwargs"], *_resolved(meta)):
            section.pop("sliding_window", None)


def _without_own_dtype(meta: Mapping[str, Any]) -> None:
    """A KV cache in the model's dtype is not quantized, under whichever name."""
    dtype = known_dtype(look_up(meta, "dtype"))
    for section in (meta["kv_cache"], meta["engine_kwargs"], *_resolved(meta)):
        for key in ("kv_cache_dtype", "cache_dtype"):
            own = known_dtype(str(section.get(key)))
            if own is not None and dtype in (None, own):
                section[key] = "auto"


def _imply_release(meta: Mapping[str, Any]) -> list[str]:
    """Add what a release implies where its configuration does not have it; returns notes."""
    notes = []
    scheduler = meta["resolved_config"]["scheduler_config"]
    version = str(meta.get("vllm_version") or "")
    if _DEVELOPMENT.match(version) and look_up(meta, "async_scheduling") is None:
        scheduler["async_scheduling"] = True
        notes.append(f"async_scheduling is not stated; taken as on for vLLM {version}")
    key = "scheduler_reserve_full_isl"
    number = re.match(r"v?(\d+)\.(\d+)", version)
    older = number is not None and (int(number[1]), int(number[2])) < _RESERVES_SINCE
    if older and not _DEVELOPMENT.match(version) and scheduler and look_up(meta, key) is None:
        scheduler[key] = False
        notes.append(f"{key} is not in vLLM {version}'s configuration; taken as off")
    return notes


def _resolved(meta: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [meta["resolved_config"][name] for name in _RESOLVED]
