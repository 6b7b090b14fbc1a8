"""``run_meta.json`` as it is read: what users of a run rely on is of its kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pytest_gpusim.deployment.fitted import check_fitted
from pytest_gpusim.documents import JsonObject
from pytest_gpusim.errors import InputError
from pytest_gpusim.json_documents import check_schema_version, read_json
from pytest_gpusim.runs.schema import META, SCHEMA_VERSIONS
from pytest_gpusim.texts import NO_PATH, can_be_path
from pytest_gpusim.workload.load import Load

_TEXTS = (
    "run_type",
    "backend",
    "model",
    "hardware",
    "device_name",
    "workload_dir",
    "workload_digest",
    "profiling_root",
    "profiling_digest",
    "started_at",
    "ended_at",
    "git_commit",
)
_PATHS = ("workload_dir", "profiling_root")
_OBJECTS = ("engine", "profile", "params", "env", "frontend", "assumed", "stated")
_CLOCKS = ("engine", "client")


def read_meta(directory: Path) -> dict[str, Any]:
    """The metadata of a run directory; a run without a name has that of its directory.

    Raises:
        InputError: There are none, or a value is none of its kind.
    """
    path = directory / META
    if not path.exists():
        raise InputError(
            directory, "", f"incomplete: no {META}; the run did not end, or is not a run directory"
        )
    meta = read_json(path, plain=True)
    if not isinstance(meta, dict):
        raise InputError(path, "", "expected a JSON object")
    check_schema_version(path, meta, max(SCHEMA_VERSIONS))
    check_meta(path, meta)
    if meta.get("run_id") is None:
        meta["run_id"] = directory.name
    return meta


def check_meta(path: Path, meta: dict[str, Any]) -> None:
    """Raise `InputError`, with the key, where metadata say something that is none of its kind."""
    said = JsonObject(path, "", meta)
    for key in _TEXTS:
        said.text_or_none(key)
    for key in _PATHS:
        if key in said and not can_be_path(said.text(key)):
            raise said.fail(key, NO_PATH)
    for key in _OBJECTS:
        said.record_or_empty(key)
    if said.fields.get("clock") not in (None, *_CLOCKS):
        raise said.fail("clock", f"expected one of {', '.join(_CLOCKS)}")
    if "frontend" in said:
        for key in ("ingress_ns", "egress_ns"):
            said.record("frontend").number(key)
    Load.from_json(meta.get("load"), path)
    check_fitted(said.record_or_empty("profile"))
