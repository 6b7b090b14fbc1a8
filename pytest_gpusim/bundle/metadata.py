"""``profile_meta.json``: its keys, and of what kind their values are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_gpusim.bundle.commands import OTHER_SOURCES, profile_command
from pytest_gpusim.bundle.schema import META, META_KEYS
from pytest_gpusim.deployment import EngineSettings
from pytest_gpusim.deployment.fitted import check_fitted
from pytest_gpusim.deployment.model import dtype_bytes
from pytest_gpusim.documents import JsonObject
from pytest_gpusim.errors import GpusimError, InputError, UsageError
from pytest_gpusim.json_documents import check_schema_version, read_json

IDENTITY = ("model", "hardware", "dtype", "engine_mode")
"""What a bundle is of; without one of these it could stand for anything."""
ENGINE_MODES = ("eager", "compiled")
_TEXTS = (*IDENTITY, "device_name", "engine", "engine_version", "source")
_OBJECTS = ("model_shape", "engine_settings", "skew_fit")


def read_bundle_meta(directory: Path) -> dict[str, Any]:
    """``profile_meta.json``, with the keys of the contract and values of the right kinds.

    A value may be null; `identity_findings` names those that must not be.
    """
    path = directory / META
    if not path.exists():
        fix = f"make one with '{profile_command({})}'; {OTHER_SOURCES}"
        raise InputError(
            directory, "", f"no {META}: the tables alone do not say what was measured", fix
        )
    meta = read_json(path, fix=made_again({}))
    if not isinstance(meta, dict):
        raise InputError(path, "", "expected a JSON object", made_again({}))
    check_schema_version(path, meta)
    fix = made_again(meta)
    for key in META_KEYS:
        if key not in meta:
            raise InputError(path, key, "is missing", fix)
    check_kinds(path, meta, fix)
    return meta


def made_again(meta: Mapping[str, Any]) -> str:
    """What mends most things."""
    return f"make it again with '{profile_command(meta)}'"


def identity_findings(meta: Mapping[str, Any]) -> list[str]:
    """Keys that must say what was profiled and do not, with what was expected."""
    expected = {"engine_mode": "'eager' or 'compiled'", "dtype": "a dtype such as 'bfloat16'"}
    found = []
    for key in IDENTITY:
        value = meta[key]
        good = bool(value)
        if key == "engine_mode":
            good = value in ENGINE_MODES
        elif key == "dtype" and value:
            good = _is_dtype(value)
        if not good:
            found.append(f"{META}: {key} is {value!r}, expected {expected.get(key, 'a name')}")
    return found


def check_kinds(path: Path, meta: Mapping[str, Any], fix: str = "") -> None:
    """Raise `GpusimError`, with the key, where metadata say something that is none of its kind."""

    def refuse(key: str, expected: str) -> None:
        raise InputError(path, key, f"expected {expected}, found {meta[key]!r}", fix)

    for key in _TEXTS:
        if not isinstance(meta[key], str | None):
            refuse(key, "a text")
    if not isinstance(meta["digest"], str):
        refuse("digest", "the tables' sha256")
    for key in _OBJECTS:
        if not isinstance(meta.get(key), Mapping | None):
            refuse(key, "an object")
    size = meta["block_size"]
    if size is not None and not _is_count(size):
        refuse("block_size", "a positive integer")
    sizes = meta["tensor_parallel_sizes"]
    if sizes is not None and not (isinstance(sizes, list) and all(map(_is_count, sizes))):
        refuse("tensor_parallel_sizes", "a list of positive integers")
    texts = meta.get("calibrated_on") or []
    if not isinstance(texts, list) or not all(isinstance(each, str) for each in texts):
        refuse("calibrated_on", "a list of texts")
    if not isinstance(meta.get("distrusted") or [], list):
        refuse("distrusted", "a list")
    try:
        check_fitted(JsonObject(path, "", dict(meta)))
        EngineSettings.from_mapping(
            meta.get("engine_settings") or {}, f"{path}: engine_settings", strict=False
        )
    except GpusimError as error:
        raise UsageError(f"{error}; {fix}" if fix else str(error)) from None


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_dtype(value: str) -> bool:
    try:
        return dtype_bytes(value) > 0
    except UsageError:
        return False
