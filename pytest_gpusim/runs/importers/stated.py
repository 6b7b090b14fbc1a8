"""What a user states of an imported run: model, device, engine settings, workload.

A tool's file hardly ever says all that a simulation of the run, or a recording, needs. What it does
say stands: a statement that contradicts it is refused.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_gpusim.artifacts import require_vacant
from pytest_gpusim.deployment import EngineSettings, Hardware
from pytest_gpusim.deployment.dtypes import plain_dtype
from pytest_gpusim.errors import InputError, UsageError
from pytest_gpusim.runs.importers.base import ASKED_UNKNOWN
from pytest_gpusim.runs.importers.options import call_importer
from pytest_gpusim.runs.importers.scheduled import on_schedule
from pytest_gpusim.runs.writer import OWN_WORKLOAD, rewrite_run
from pytest_gpusim.workload import Workload


@dataclass(frozen=True)
class Stated:
    """What is known of a run beside its file; None where nothing is."""

    model: str | None = None
    hardware: Hardware | None = None
    device_name: str | None = None
    engine: EngineSettings | None = None
    workload: Workload | None = None


def import_stated(
    kind: str,
    importer: Callable[..., None],
    files: Sequence[Path],
    out: Path,
    stated: Stated,
    options: Mapping[str, Any] | None = None,
) -> list[str]:
    """Import ``files`` as a run at ``out`` that says what ``stated`` says; returns notes on it.

    With a workload, ids and lengths are held against it, and arrivals become its schedule.
    ``options`` are the importer's (see `pytest_gpusim.runs.importers.options`).

    Raises:
        InputError: The file cannot be used, or contradicts what is stated.
    """
    given = dict(options or {})
    if stated.workload is not None and getattr(importer, "takes_workload", False):
        given["workload"] = stated.workload.path
    if stated == Stated():
        call_importer(kind, importer, files, out, given)
        return []
    require_vacant(out)
    with tempfile.TemporaryDirectory(prefix="gpusim-import-") as scratch:
        made = Path(scratch) / out.name
        run = call_importer(kind, importer, files, made, given)
        _require_agreement(files[0], run.meta, stated)
        notes: list[str] = []
        if stated.workload is not None:
            run, notes = on_schedule(run, stated.workload, files[0])
        rewrite_run(run, out, _with_stated(run.meta, stated, notes))
    return notes


def _require_agreement(path: Path, meta: Mapping[str, Any], stated: Stated) -> None:
    def hold(what: str, option: str, found: Any, said: Any, same: bool | None = None) -> None:
        if found is not None and said is not None and not (found == said if same is None else same):
            raise InputError(
                path,
                what,
                f"the file says {found!r}, {option} says {said!r}",
                f"leave {option} out, or correct it",
            )

    model, digest = meta.get("model"), meta.get("workload_digest")
    hold("model", "--model", model, stated.model, _same_model(model, stated.model))
    hold("device_name", "--device-name", meta.get("device_name"), stated.device_name)
    if stated.hardware is not None:
        hold("hardware", "--hardware", meta.get("hardware"), stated.hardware.name)
        device = meta.get("device_name")
        if isinstance(device, str):
            fits = stated.hardware.matches(device)
            hold("device_name", "--hardware", device, stated.hardware.name, fits)
        elif stated.device_name and not stated.hardware.matches(stated.device_name):
            raise UsageError(
                f"--device-name {stated.device_name!r} is no {stated.hardware.name} (--hardware)"
            )
    engine, assumed = _engine_of(meta), _assumed(meta)
    for key, value in (stated.engine or EngineSettings()).to_json().items():
        if key not in assumed:
            found = engine.get(key)
            found = plain_dtype(found) if key == "dtype" and isinstance(found, str) else found
            hold(f"engine, {key}", "--engine", found, value)
    if stated.workload is not None and meta.get("workload_dir") != OWN_WORKLOAD:
        hold("workload_digest", "--workload", digest, stated.workload.digest)


def _same_model(found: Any, said: str | None) -> bool:
    """Servers are often started with a checkpoint's path: its last part is the model's name."""
    if not isinstance(found, str) or said is None:
        return found is None and said is None
    if found.count("/") == 1 and found[0] not in "/.~":  # ORG/NAME
        return found.lower() == said.lower()
    return found.rstrip("/").rpartition("/")[2].lower() == said.rpartition("/")[2].lower()


def _assumed(meta: Mapping[str, Any]) -> set[str]:
    """Settings that the importer took from defaults."""
    found = meta.get("assumed")
    return set(found) if isinstance(found, Mapping) else set()


def _texts(value: Any) -> list[str]:
    """A list of texts in a run's metadata, whoever wrote it."""
    return [text for text in value if isinstance(text, str)] if isinstance(value, list) else []


def _engine_of(meta: Mapping[str, Any]) -> dict[str, Any]:
    return dict(meta.get("engine") or {})


def _import_of(meta: Mapping[str, Any]) -> dict[str, Any]:
    params = meta.get("params")
    found = params.get("import") if isinstance(params, Mapping) else None
    return dict(found) if isinstance(found, Mapping) else {}


def _with_stated(meta: Mapping[str, Any], stated: Stated, notes: Sequence[str]) -> dict[str, Any]:
    values: dict[str, Any] = {
        "model": stated.model,
        "hardware": stated.hardware.name if stated.hardware else None,
        "device_name": stated.device_name,
        "engine": stated.engine.to_json() if stated.engine else None,
        "workload_dir": str(stated.workload.path) if stated.workload else None,
        "workload_digest": stated.workload.digest if stated.workload else None,
    }
    said = {key: value for key, value in values.items() if value is not None}
    found = _import_of(meta)
    known = {"engine": "engine settings", "workload_digest": ASKED_UNKNOWN}
    recovered = {known.get(key, key) for key in said}
    lost = _texts(found.get("not_recovered"))
    found["not_recovered"] = [what for what in lost if what not in recovered]
    earlier = _texts(found.get("notes"))
    found["notes"] = [*(note for note in earlier if not _settled(note, stated)), *notes]
    found["stated"] = sorted(said)
    params = meta.get("params")
    kept = params if isinstance(params, Mapping) else {}
    merged = {**meta, **said, "params": {**kept, "import": found}}
    if "engine" in said:
        merged["engine"] = {**_engine_of(meta), **said["engine"]}
        left = meta.get("assumed") or {}
        merged["assumed"] = {k: words for k, words in left.items() if k not in said["engine"]}
    return merged


def _settled(note: str, stated: Stated) -> bool:
    """Whether a note tells of an assumed setting that is now stated."""
    key, _, rest = note.partition(" ")
    return rest.startswith("is not stated") and getattr(stated.engine, key, None) is not None
