"""What a published run's ``meta.json`` states, whatever form its sections have."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pytest_gpusim.deployment.settings import SECTIONS, find
from pytest_gpusim.errors import InputError
from pytest_gpusim.json_documents import read_json
from pytest_gpusim.llmservingsim.profile_folder import mapping
from pytest_gpusim.texts import python_literal, whole_number

_SECTIONS = ("hardware", "kv_cache", "engine_kwargs", "resolved_config")
_PAIR = re.compile(r"\b(\w+)=('[^']*'|\"[^\"]*\"|[^\s,()\[\]{}<>]+)")


def read_meta(path: Path) -> tuple[dict[str, Any], list[str]]:
    """``meta.json`` with every section an object and what says nothing left out; notes on it.

    Args:
        path: The file.

    Returns:
        The document, and what could not be read or had to be assumed.

    Raises:
        InputError: The file is missing or no JSON object.
    """
    document = read_json(path)
    if not isinstance(document, dict):
        raise InputError(path, "", "expected a JSON object")
    meta = dict(document)
    notes = _read_sections(meta, _SECTIONS)
    resolved = meta["resolved_config"]
    notes += _read_sections(resolved, SECTIONS)
    if isinstance(document.get("hardware"), str):
        meta["hardware"] = {"device_name": document["hardware"]}
    for place, key in ((meta, "model"), (meta, "vllm_version"), (meta["hardware"], "device_name")):
        place[key] = str(place[key]) if place.get(key) else None
    for section in (meta["kv_cache"], meta["engine_kwargs"], *(resolved[n] for n in SECTIONS)):
        _clean(section)
    return meta, notes + _settle_policy(meta)


def look_up(meta: Mapping[str, Any], *keys: str) -> Any:
    """The first value stated for one of the keys; the engine's own goes before what was asked."""
    resolved = mapping(meta.get("resolved_config"))
    sections = (
        mapping(meta.get("kv_cache")),
        *(mapping(resolved.get(name)) for name in SECTIONS),
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
            holder[name] = {key: python_literal(text) for key, text in pairs}
            notes.append(f"{name} is the text of an object; its fields are read from that")
        else:
            holder[name] = {}
            if value and name != "hardware":
                notes.append(f"{name} is no object and is not read")
    return notes


def _clean(section: dict[str, Any]) -> None:
    """Numbers as numbers; counts of nothing and empty texts are not stated."""
    for key, value in list(section.items()):
        if not _is_count(key):
            continue
        if isinstance(value, str):
            number = whole_number(value)
            value = value if number is None else number
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        section[key] = None if value in (0, "", "None", "auto") else value
    for key in [key for key, value in section.items() if value is None]:
        del section[key]


def _is_count(key: str) -> bool:
    match = find(key)
    counted = match is not None and match[0].kind == "int" and match[0].least > 0
    return counted or key == "num_kv_tokens"


def _settle_policy(meta: Mapping[str, Any]) -> list[str]:
    """Take priorities that nobody states for equal ones, which is fcfs; returns notes on it."""
    notes = []
    for section in (meta["engine_kwargs"], *(meta["resolved_config"][n] for n in SECTIONS)):
        for key in ("policy", "scheduling_policy"):
            if section.get(key) not in (None, "fcfs"):
                said = f"scheduling policy {section[key]!r} is simulated as fcfs"
                notes.append(f"{said}: no priorities are stated")
                section[key] = "fcfs"
    return notes[:1]
