"""What importers of other tools' results share: one way into a Run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pytest_gpusim.artifacts import package_version, plain_json, sha256_file
from pytest_gpusim.documents import NS
from pytest_gpusim.errors import InputError, UsageError
from pytest_gpusim.runs.records import RequestRecord, token_rows
from pytest_gpusim.runs.run import Clock
from pytest_gpusim.runs.writer import write_run

ImportFunction = TypeVar("ImportFunction", bound=Callable[[Sequence[Path], Path], None])
ASKED_UNKNOWN = "output lengths asked for (num_decode_tokens is what came; 0 on error rows)"
_LATEST_NS = 2**63


@dataclass
class ImportedRequest(RequestRecord):
    """One request of another tool, in ns on that tool's clock (any origin)."""

    where: str
    arrival_ns: int
    num_prefill_tokens: int


def recognised_by(
    recognises: Callable[[Path], bool],
) -> Callable[[ImportFunction], ImportFunction]:
    """Mark an importer with the test by which its files are told from others.

    ``recognises(path)`` looks at the content of a file or directory and never raises; so the file
    itself can be given wherever a real run is. An importer without it is used by name only.
    """

    def mark(importer: ImportFunction) -> ImportFunction:
        importer.recognises = recognises  # type: ignore[attr-defined]
        return importer

    return mark


def only_file(files: Sequence[Path], kind: str) -> Path:
    """The one file that an importer takes."""
    if len(files) != 1:
        raise UsageError(f"import-run {kind}: takes one file, {len(files)} were given")
    return files[0]


def write_imported(
    out: Path,
    kind: str,
    path: Path,
    requests: Sequence[ImportedRequest],
    *,
    clock: Clock,
    not_recovered: Sequence[str],
    notes: Sequence[str] = (),
    meta: Mapping[str, Any] | None = None,
    tool: Mapping[str, Any] | None = None,
) -> None:
    """Write a run of ``requests``, in order of arrival, times from the first arrival on.

    Args:
        out: The run directory to write.
        kind: The importer's name.
        path: The file that was read.
        requests: All requests of the run, failed ones included.
        clock: Who took the times: the load generator or the engine.
        not_recovered: What the tool does not tell, for ``params.import``.
        notes: What else a reader must know of these times.
        meta: Further keys of ``run_meta.json``.
        tool: The tool's own description of its run (version, rate, …).

    Raises:
        InputError: No request, or times that contradict each other.
    """
    if not requests:
        raise InputError(path, "", "has no requests")
    rows = sorted(requests, key=lambda request: request.arrival_ns)
    origin = rows[0].arrival_ns
    for number, request in enumerate(rows):
        request.request_id = number
    for request in requests:
        _check_order(path, request)
        _check_range(path, request, origin)
    done = [request for request in rows if request.error_type is None]
    untimed = [request for request in done if request.token_times_ns is None]
    lost = list(not_recovered)
    if untimed and len(untimed) < len(done):
        lost.append(f"token times ({len(untimed)} of {len(done)} requests have none)")
    elif untimed:
        lost.append("token times")
    if any(request.num_decode_tokens is None for request in rows):
        lost.append(ASKED_UNKNOWN)
    write_run(
        out,
        requests=[request.row(kind, origin) for request in rows],
        tokens=None if untimed else token_rows(done, origin),
        meta={
            "run_type": "real",
            "backend": kind,
            "clock": clock,
            **plain_json(meta or {}),
            "params": {
                "import": {
                    "kind": kind,
                    "file": path.name,
                    "sha256": sha256_file(path) if path.is_file() else None,
                    "clock": clock,
                    "token_times": not untimed,
                    "not_recovered": lost,
                    "notes": list(notes),
                    "requests": len(rows),
                    "failed": len(rows) - len(done),
                    "tool": plain_json(tool or {}),
                    "importer_version": package_version("pytest-gpusim"),
                }
            },
        },
    )


def _check_order(path: Path, request: ImportedRequest) -> None:
    if request.error_type is not None:
        return
    previous, before = "arrival", request.arrival_ns
    for name, time in (
        ("sending", request.sent_ns),
        ("scheduling", request.scheduled_ns),
        ("first token", request.first_token_ns),
        ("completion", request.completion_ns),
    ):
        if time is not None and time < before:
            raise InputError(
                path,
                request.where,
                f"the {name} is {(before - time) / NS:.9g} s before the {previous}",
            )
        if time is not None:
            previous, before = name, time


def _check_range(path: Path, request: ImportedRequest, origin: int) -> None:
    known = (request.arrival_ns, request.sent_ns, request.scheduled_ns, request.completion_ns)
    latest = [time for time in known if time is not None]
    latest.extend((request.token_times_ns or [])[-1:])
    if max(latest) - origin >= _LATEST_NS:
        raise InputError(path, request.where, "its times span more than 64 bits of nanoseconds")


def describe_error(text: str) -> tuple[str, str]:
    """(type, message) of an error text, which may be a Python traceback or a class and message."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    last = lines[-1] if lines else "unknown error"
    name, colon, message = last.partition(":")
    short = name.rsplit(".", 1)[-1]
    if colon and short.isidentifier():
        return short, message.strip() or short
    return "error", last


def split_index(path: Path) -> tuple[Path, int | None]:
    """``FILE#3`` as the file and 3, for files that hold several runs; other paths as they are."""
    name, mark, index = path.name.rpartition("#")
    if mark and index.isdecimal() and len(index) < 10 and not path.exists():
        return path.with_name(name), int(index)
    return path, None
