"""LLMServingSim's ``bench run``: a folder with ``requests.jsonl`` and ``meta.json``.

Times are the engine's own, seconds on its monotonic clock: a request arrives when the engine has
queued it (``queued_ts``), which is also where that project's simulator starts to count.
``meta.json`` records vLLM's whole resolved configuration.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pytest_gpusim.deployment import EngineSettings
from pytest_gpusim.deployment.settings import Deployment, default, first_stated, release_of
from pytest_gpusim.documents import JsonObject, read_lines, to_ns
from pytest_gpusim.errors import InputError, UsageError
from pytest_gpusim.json_documents import read_json
from pytest_gpusim.runs.importers.base import ImportedRequest, write_imported
from pytest_gpusim.runs.importers.files import recognised_by

KIND = "llmservingsim"
REQUESTS, META = "requests.jsonl", "meta.json"


def recognises(path: Path) -> bool:
    """Whether this is such a run's folder, one that holds it as ``vllm_run``, or its requests."""
    if path.name == REQUESTS:
        return path.is_file() and path.with_name(META).is_file()
    return _run_folder(path) is not None


@recognised_by(recognises)
def import_run(files: Sequence[Path], out: Path) -> None:
    """Write the run of a folder with ``requests.jsonl`` and ``meta.json``, or of the two files.

    Raises:
        InputError: A file is missing, or a record cannot be read.
    """
    path, meta_path = _two_files(files)
    write_run_of(path, _read_meta(meta_path), meta_path, out)


def write_run_of(path: Path, meta: Mapping[str, Any], meta_path: Path, out: Path) -> None:
    """Write the run of a ``requests.jsonl`` whose ``meta.json`` says ``meta``."""
    settings, notes = engine_settings(meta, meta_path)
    stated = JsonObject(meta_path, "", dict(meta))
    requests = read_requests(path)
    made = meta.get("num_requests")
    if isinstance(made, int) and len(requests) < made:
        raise InputError(path, "", f"has {len(requests)} of the {made} requests that {META} counts")
    write_imported(
        out,
        KIND,
        path,
        requests,
        clock="engine",
        not_recovered=["cached tokens"],
        notes=["arrivals are queued_ts, when the engine took the request", *notes],
        meta={
            "model": stated.text_or_none("model"),
            "device_name": stated.record_or_empty("hardware").text_or_none("device_name"),
            "engine": settings.to_json(),
            "assumed": dict(settings.assumed),
            "started_at": meta.get("started_at"),
            "ended_at": meta.get("finished_at"),
        },
        tool={
            key: meta[key]
            for key in ("vllm_version", "dataset_path", "dataset_hash", "num_requests")
            if key in meta
        },
    )


def _read_meta(path: Path) -> dict[str, Any]:
    meta = JsonObject(path, "", read_json(path))
    for section in ("hardware", "kv_cache", "engine_kwargs", "resolved_config"):
        meta.record_or_empty(section)
    return meta.fields


def read_requests(path: Path) -> list[ImportedRequest]:
    """The requests of ``requests.jsonl`` in the file's order.

    Raises:
        InputError: Names the line and the field.
    """
    records = list(read_lines(path))
    # A request that never got into the engine has a wall-clock time only; the clocks differ by a
    # constant, and one that finds the engine idle is queued at once.
    delays = [
        _ns(record, "queued_ts") - _ns(record, "arrival_time")
        for record in records
        if _queued(record) and "arrival_time" in record
    ]
    return [_request(record, min(delays, default=0)) for record in records]


def _done(record: JsonObject) -> bool:
    """Whether the request came to an end; a time that the engine never set may be null or 0."""
    return all(
        record.fields.get(key) not in (None, 0) for key in ("first_token_ts", "last_token_ts")
    )


def _queued(record: JsonObject) -> bool:
    return "queued_ts" in record and (_done(record) or record.fields["queued_ts"] != 0)


def _request(record: JsonObject, clock_offset: int) -> ImportedRequest:
    done = _done(record)
    if _queued(record) or done:
        queued = _ns(record, "queued_ts")
    else:
        queued = _ns(record, "arrival_time") + clock_offset
    scheduled = "scheduled_ts" in record and (record.fields["scheduled_ts"] != 0 or queued == 0)
    output = record.integer("output_toks")
    return ImportedRequest(
        where=record.where,
        arrival_ns=queued,
        num_prefill_tokens=record.integer("input_toks"),
        num_decode_tokens=output,
        scheduled_ns=_ns(record, "scheduled_ts") if scheduled else None,
        first_token_ns=_ns(record, "first_token_ts") if done else None,
        completion_ns=_ns(record, "last_token_ts") if done else None,
        num_decode_tokens_actual=output if done else None,
        error_type=None if done else "incomplete",
        error_msg=None if done else "the request has no first or last token time",
    )


def _ns(record: JsonObject, key: str) -> int:
    return to_ns(record.seconds(key))


def engine_settings(meta: Mapping[str, Any], path: Path) -> tuple[EngineSettings, list[str]]:
    """The engine's resolved settings, and what had to be assumed.

    Args:
        meta: ``meta.json``.
        path: Its path, for messages.

    Raises:
        UsageError: The engine used something that is not modelled.
    """
    resolved = dict(meta.get("resolved_config") or {})
    stated = first_stated(meta.get("kv_cache"), resolved, meta.get("engine_kwargs"))
    notes: list[str] = []
    version = meta.get("vllm_version")
    stated["engine_version"] = None if version is None else str(version)
    usual = Deployment(release=release_of(stated["engine_version"]))
    words, assumed = f"default of vLLM {version or 'of an unknown release'}", {}
    if "async_scheduling" not in stated:
        stated["async_scheduling"] = default("async_scheduling", usual)
        assumed["async_scheduling"] = words
        word = "on" if stated["async_scheduling"] else "off"
        notes.append(f"async_scheduling is not stated; vLLM {version or 'latest'} has it {word}")
    for key in ("block_size", "enable_prefix_caching"):
        if key not in stated:
            stated[key] = default(key, usual)
            assumed[key] = words
            notes.append(f"{key} is not stated; taken as vLLM's default, {stated[key]}")
    key = "scheduler_reserve_full_isl"
    if key not in stated and not default(key, usual):
        stated[key] = False
        assumed[key] = words
        notes.append(f"{key} is not in vLLM {version}'s configuration; taken as off")
    settings = EngineSettings.from_mapping(stated, path, strict=False)
    # The blocks are stated, or derived from the machine's memory: never from these alone.
    settings = replace(settings, gpu_memory_utilization=None, kv_cache_memory_bytes=None)
    return replace(settings, assumed=assumed), notes


def _two_files(files: Sequence[Path]) -> tuple[Path, Path]:
    """(requests, meta) of what was given: a folder, the requests, or both in either order."""
    if len(files) == 2:
        first, second = files
        return (second, first) if second.suffix == ".jsonl" else (first, second)
    if len(files) != 1:
        raise UsageError(f"import-run {KIND}: takes a folder or two files, {len(files)} were given")
    path = files[0]
    folder = _run_folder(path)
    if folder is not None:
        return folder / REQUESTS, folder / META
    if path.is_file():
        meta = path.with_name(META)
        if not meta.is_file():
            raise InputError(path, "", f"no {META} beside it", f"give it too: {path} {META}")
        return path, meta
    if not path.exists():
        raise InputError(path, "", "no such file or folder")
    raise InputError(path, "", f"no {REQUESTS} and {META} in it: not a run of LLMServingSim")


def _run_folder(path: Path) -> Path | None:
    for folder in (path, path / "vllm_run"):
        if (folder / REQUESTS).is_file() and (folder / META).is_file():
            return folder
    return None
