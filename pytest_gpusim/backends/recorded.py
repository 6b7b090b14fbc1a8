"""Recordings: a workload, a bundle and real runs in one folder that replays elsewhere.

``<case>/{workload,profile,real/1…N,recording.json}``; large tables are packed.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_gpusim.artifacts import atomic_directory, provenance, safe_name, utc_now
from pytest_gpusim.deployment import EngineSettings, Hardware, ModelShape
from pytest_gpusim.errors import InputError, UsageError, shortly
from pytest_gpusim.json_documents import SCHEMA_VERSION, check_schema_version, read_json, write_json
from pytest_gpusim.texts import open_bytes

if TYPE_CHECKING:
    from pytest_gpusim.bundle import Bundle
    from pytest_gpusim.runs import Run
    from pytest_gpusim.workload import Workload

RECORDING, WORKLOAD, PROFILE, REAL = "recording.json", "workload", "profile", "real"
_FIX = "make it again with 'gpusim record'"
_TOKENIZER = "tokenizer.json"
_COMPRESS_FROM_BYTES = 100_000
_KEYS = {
    **dict.fromkeys(("model", "hardware", "device_name", "workload_digest"), str),
    **dict.fromkeys(("model_shape", "engine", "runs"), dict),
}
"""What a recording must say, and the kind of each."""


@dataclass(frozen=True)
class Recording:
    """A recording as read."""

    path: Path
    meta: dict[str, Any]
    workload: Workload
    runs: list[Run]
    bundle: Bundle


def write_recording(
    out: Path, *, workload_dir: Path, bundle_dir: Path, run_dirs: Sequence[Path]
) -> None:
    """Write a recording at ``out``, whole or not at all.

    Args:
        out: An absent or empty directory.
        workload_dir: What the runs replayed.
        bundle_dir: The bundle to simulate them with.
        run_dirs: Real runs of one workload on one engine.

    Raises:
        InputError: The parts are not of one case; names the two that differ.
    """
    from pytest_gpusim.bundle import read_bundle
    from pytest_gpusim.bundle.schema import META as BUNDLE_META
    from pytest_gpusim.bundle.schema import TABLES
    from pytest_gpusim.runs import read_run
    from pytest_gpusim.workload import read_workload
    from pytest_gpusim.workload.trace import FILES

    if not run_dirs:
        raise UsageError("a recording needs at least one real run")
    workload, bundle = read_workload(workload_dir), read_bundle(bundle_dir)
    runs = [read_run(path) for path in run_dirs]
    _require_one_case(workload, bundle, runs)
    first = runs[0].meta
    with atomic_directory(out) as partial:
        _copy_files(workload.path, partial / WORKLOAD, FILES)
        _keep_tokenizer(workload, partial / WORKLOAD)
        _copy_files(bundle.path, partial / PROFILE, [*TABLES, BUNDLE_META])
        for number, run in enumerate(runs, start=1):
            _copy_run(run, partial / REAL / str(number))
        write_json(
            partial / RECORDING,
            {
                "schema_version": SCHEMA_VERSION,
                "model": first["model"],
                "model_shape": bundle.meta["model_shape"],
                "hardware": first["hardware"],
                "device_name": first["device_name"],
                "engine": _portable(first["engine"]),
                "workload_id": workload.workload_id,
                "workload_digest": workload.digest,
                "profiling_digest": bundle.digest,
                "runs": {
                    str(number): _digest(partial / REAL / str(number))
                    for number in range(1, len(runs) + 1)
                },
                "created_at": utc_now(),
                "git_commit": provenance()["git_commit"],
            },
        )
        open_recording(partial)


def open_recording(place: Path | str) -> Recording:
    """Read a recording and check that its parts are the ones it was made of.

    Raises:
        InputError: Something is missing, was changed, or does not belong.
    """
    from pytest_gpusim.bundle import read_bundle
    from pytest_gpusim.runs import read_run
    from pytest_gpusim.workload import read_workload

    place = Path(place)
    meta = _read_meta(place)
    workload = read_workload(place / WORKLOAD)
    if workload.digest != meta["workload_digest"]:
        raise InputError(place / RECORDING, "workload_digest", "is of another workload", _FIX)
    bundle = read_bundle(place / PROFILE)
    if bundle.digest != meta.get("profiling_digest"):
        raise InputError(place / RECORDING, "profiling_digest", "is of another bundle", _FIX)
    runs = []
    for name, digest in meta["runs"].items():
        directory = place / REAL / name
        if not directory.is_dir():
            raise InputError(directory, "", f"is missing, {RECORDING} lists it", _FIX)
        if _digest(directory) != digest:
            raise InputError(directory, "", "was changed after it was recorded", _FIX)
        runs.append(read_run(directory))
    for directory in sorted((place / REAL).iterdir()):
        if directory.is_dir() and directory.name not in meta["runs"]:
            raise InputError(directory, "", f"is a run that {RECORDING} does not list", _FIX)
    _require_one_case(workload, bundle, runs)
    return Recording(place, meta, workload, runs, bundle)


def why_not_replayable(
    place: Path | str,
    *,
    model: ModelShape,
    hardware: Hardware,
    engine: EngineSettings,
    workload_digest: str,
) -> str | None:
    """Why the recording at ``place`` is not of this case, in one line; None where it is.

    ``engine`` states settings that the recorded engine must have resolved to.

    Raises:
        InputError: The recording is broken.
    """
    meta = _read_meta(Path(place))
    shape = ModelShape.from_json(meta["model_shape"], Path(place) / RECORDING)
    recorded: Mapping[str, Any] = meta["engine"]
    pairs: list[tuple[str, Any, Any]] = [
        ("model", meta["model"], model.name),
        *(
            (f"model's {f}", getattr(shape, f), getattr(model, f))
            for f in shape.differing_fields(model)
        ),
        ("hardware", meta["hardware"], hardware.name),
        ("workload", meta["workload_digest"][:12], workload_digest[:12]),
        *((key, recorded.get(key), value) for key, value in engine.to_json().items()),
    ]
    for what, found, asked in pairs:
        if found != asked:
            return f"the recording at {place} has {what} {found}, the case {asked}"
    return None


def _read_meta(place: Path) -> dict[str, Any]:
    path = place / RECORDING
    meta = read_json(path, fix=_FIX)
    if not isinstance(meta, dict):
        raise InputError(path, "", "expected a JSON object", _FIX)
    check_schema_version(path, meta)
    for key, kind in _KEYS.items():
        value = meta.get(key)
        if not value:
            raise InputError(path, key, "is missing", _FIX)
        if not isinstance(value, kind):
            expected = "a text" if kind is str else "a JSON object"
            raise InputError(path, key, f"expected {expected}, found {shortly(value)}", _FIX)
    for name in meta["runs"]:
        if safe_name(name) != name:
            raise InputError(path, "runs", f"{name!r} is no name of a folder", _FIX)
    return meta


def _require_one_case(workload: Workload, bundle: Bundle, runs: Sequence[Run]) -> None:
    from pytest_gpusim.bundle.match import compare_with_run

    first = runs[0]
    for run in runs:
        if run.meta.get("run_type") != "real":
            raise InputError(run.path, "run_type", "is not 'real'; record measured runs")
        if run.meta.get("workload_digest") != workload.digest:
            raise InputError(run.path, "workload_digest", f"is not that of {workload.path}")
        for key in ("model", "hardware", "device_name"):
            if run.meta.get(key) != first.meta.get(key):
                raise InputError(run.path, key, f"differs from that of {first.path}")
        for field, text in compare_with_run(bundle.meta, run.meta)[1]:
            raise InputError(run.path, field, f"does not fit {bundle.path}: {text}")
        if _portable(run.meta.get("engine")) != _portable(first.meta.get("engine")):
            raise InputError(run.path, "engine", f"differs from that of {first.path}")
    if not isinstance(first.meta.get("engine"), dict):
        raise InputError(first.path, "engine", "the run recorded no engine settings")


def _portable(settings: Any) -> Any:
    """Settings without the place of a checkpoint on the machine that recorded."""
    if not isinstance(settings, dict) or not settings.get("weights"):
        return settings
    return {**settings, "weights": Path(str(settings["weights"])).name}


def _copy_run(run: Run, target: Path) -> None:
    """Copy a run without paths of this machine; packed where it is large."""
    from pytest_gpusim.runs.writer import rewrite_run

    meta = {**run.meta, "workload_dir": f"../../{WORKLOAD}"}
    for part in ("engine", "params"):
        meta[part] = _portable(meta.get(part))
    size = sum(path.stat().st_size for path in _files(run.path))
    rewrite_run(run, target, meta, compress=size >= _COMPRESS_FROM_BYTES)


def _digest(directory: Path) -> str:
    """Sha256 over the content of the files of a run, packed or not."""
    total = hashlib.sha256()
    for path in _files(directory):
        with open_bytes(path) as stream:
            total.update(hashlib.file_digest(stream, "sha256").hexdigest().encode("ascii"))
    return total.hexdigest()


def _keep_tokenizer(workload: Workload, target: Path) -> None:
    """Text prompts need their tokenizer elsewhere, too; its path on this machine tells nobody."""
    if not workload.meta.get("tokenizer_ref"):
        return
    needed = any(prompt.text is not None for prompt in (workload.prompts or {}).values())
    if needed:
        from pytest_gpusim.workload.token_ids import tokenizer_of

        tokenizer_of(workload).save(target / _TOKENIZER)
    meta = {**workload.meta, "tokenizer_ref": _TOKENIZER if needed else None}
    write_json(target / "workload_meta.json", meta)


def _copy_files(source: Path, target: Path, names: Sequence[str]) -> None:
    target.mkdir(parents=True)
    for name in names:
        if (source / name).exists():
            shutil.copyfile(source / name, target / name)


def _files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.iterdir() if path.is_file())
