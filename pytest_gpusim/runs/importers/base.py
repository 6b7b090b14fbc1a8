"""What importers of other tools' results share: checked values, and one way into a Run.

Errors name the file, the record and the field; units are never guessed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from pytest_gpusim.artifacts import package_version, sha256_file
from pytest_gpusim.errors import InputError, UsageError
from pytest_gpusim.runs.writer import write_run
from pytest_gpusim.tables import open_text

Clock = Literal["client", "engine"]
ImportFunction = TypeVar("ImportFunction", bound=Callable[[Sequence[Path], Path], None])
NS = 1_000_000_000


@dataclass
class ImportedRequest:
    """One request of another tool, in ns on that tool's clock (any origin).

    ``where`` names the record in messages. ``num_decode_tokens`` is what was asked for, None where
    the tool does not tell. ``token_times_ns`` has one time per output token, None where the tool
    did not keep them. A failed request has an ``error_type``, and times None where unknown.
    """

    where: str
    arrival_ns: int
    num_prefill_tokens: int
    num_decode_tokens: int | None = None
    sent_ns: int | None = None
    scheduled_ns: int | None = None
    first_token_ns: int | None = None
    completion_ns: int | None = None
    num_decode_tokens_actual: int | None = None
    num_cached_tokens: int | None = None
    token_times_ns: list[int] | None = None
    error_type: str | None = None
    error_msg: str | None = None


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
    for request in requests:
        _check_order(path, request)
    rows = sorted(requests, key=lambda request: request.arrival_ns)
    origin = rows[0].arrival_ns
    done = [request for request in rows if request.error_type is None]
    untimed = [request for request in done if request.token_times_ns is None]
    lost = list(not_recovered)
    if untimed and len(untimed) < len(done):
        lost.append(f"token times ({len(untimed)} of {len(done)} requests have none)")
    elif untimed:
        lost.append("token times")
    if any(request.num_decode_tokens is None for request in rows):
        lost.append("output lengths asked for (num_decode_tokens is what came; 0 on error rows)")
    write_run(
        out,
        requests=[_request_row(i, request, origin, kind) for i, request in enumerate(rows)],
        tokens=None if untimed else _token_rows(rows, origin),
        meta={
            "run_type": "real",
            "backend": kind,
            **(meta or {}),
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
                    "tool": dict(tool or {}),
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
        ("sent", request.sent_ns),
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


def _request_row(number: int, request: ImportedRequest, origin: int, kind: str) -> dict[str, Any]:
    def relative(time: int | None) -> int | None:
        return None if time is None else time - origin

    failed = request.error_type is not None
    first = request.first_token_ns
    asked, came = request.num_decode_tokens, request.num_decode_tokens_actual
    short = asked is not None and came is not None and came < asked
    return {
        "request_id": number,
        "arrival_time_ns": relative(request.arrival_ns),
        "sent_time_ns": relative(request.sent_ns),
        "scheduled_time_ns": relative(request.scheduled_ns),
        "first_token_time_ns": relative(first),
        "ttft_ns": None if first is None else first - request.arrival_ns,
        "completion_time_ns": relative(request.completion_ns),
        "num_prefill_tokens": request.num_prefill_tokens,
        "num_cached_tokens": request.num_cached_tokens,
        "num_decode_tokens": asked if asked is not None else came or 0,
        "num_decode_tokens_actual": came,
        "status": "error" if failed else "early_stop" if short else "ok",
        "backend": kind,
        "error_type": request.error_type,
        "error_msg": None if request.error_msg is None else " ".join(request.error_msg.split()),
    }


def _token_rows(rows: Sequence[ImportedRequest], origin: int) -> Iterator[tuple[int, ...]]:
    for number, request in enumerate(rows):
        before = request.arrival_ns
        if request.error_type is None:
            for index, time in enumerate(request.token_times_ns or ()):
                yield number, index, time - origin, time - before
                before = time


def to_ns(seconds: float) -> int:
    """Seconds as whole nanoseconds."""
    return round(seconds * NS)


def describe_error(text: str) -> tuple[str, str]:
    """(type, message) of an error text, which may be a Python traceback or a class and message."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    last = lines[-1] if lines else "unknown error"
    name, colon, message = last.partition(":")
    short = name.rsplit(".", 1)[-1]
    if colon and short.isidentifier():
        return short, message.strip() or short
    return "error", last


class Record:
    """A JSON object whose fields are taken with their type checked; ``where`` names it."""

    def __init__(self, path: Path, where: str, fields: Any) -> None:
        self.path = path
        self.where = where
        if not isinstance(fields, dict):
            raise InputError(path, where, "expected a JSON object")
        self.fields: dict[str, Any] = fields

    def __contains__(self, key: str) -> bool:
        return self.fields.get(key) is not None

    def place(self, key: str) -> str:
        """How messages name a field."""
        return f"{self.where}, {key}" if self.where else key

    def fail(self, key: str, problem: str, fix: str = "") -> InputError:
        """The error of one field, to be raised."""
        return InputError(self.path, self.place(key), problem, fix)

    def value(self, key: str) -> Any:
        """A field that must be there and not null."""
        if key not in self:
            raise self.fail(key, "is missing")
        return self.fields[key]

    def record(self, key: str) -> Record:
        """A field that is an object."""
        value = self.value(key)
        if not isinstance(value, dict):
            raise self.fail(key, "expected a JSON object")
        return Record(self.path, self.place(key), value)

    def array(self, key: str, length: int | None = None, of: str = "") -> list[Any]:
        """A field that is an array, as long as the array named ``of`` where that is given."""
        value = self.value(key)
        if not isinstance(value, list):
            raise self.fail(key, "expected an array")
        if length is not None and len(value) != length:
            raise self.fail(key, f"has {len(value)} entries, {of} has {length}")
        return value

    def number(self, key: str, *, signed: bool = False) -> float:
        """A field that is a finite number, not negative unless ``signed``."""
        return check_number(self.path, self.place(key), self.value(key), signed=signed)

    def integer(self, key: str) -> int:
        """A field that is a whole number, not negative."""
        return check_integer(self.path, self.place(key), self.value(key))

    def text(self, key: str) -> str:
        """A field that is a string."""
        value = self.value(key)
        if not isinstance(value, str):
            raise self.fail(key, f"expected a string, found {value!r}")
        return value


def check_number(path: Path, where: str, value: Any, *, signed: bool = False) -> float:
    """``value``, if it is a finite number."""
    good = isinstance(value, int | float) and not isinstance(value, bool)
    if not good or not math.isfinite(value):
        raise InputError(path, where, f"expected a finite number, found {value!r}")
    if value < 0 and not signed:
        raise InputError(path, where, f"expected a number that is not negative, found {value!r}")
    return float(value)


def check_integer(path: Path, where: str, value: Any) -> int:
    """``value``, if it is a whole number that is not negative (``3.0`` counts)."""
    number = check_number(path, where, value)
    if number != int(number):
        raise InputError(path, where, f"expected a whole number, found {value!r}")
    return int(value)


def read_document(path: Path) -> Any:
    """A JSON file; a plain hint where it holds several documents (JSON lines) or none."""
    with open_text(path) as stream:
        text = stream.read()
    if not text.strip():
        raise InputError(path, "", "is empty")
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        hint = "several JSON documents in one file" if error.msg == "Extra data" else error.msg
        raise InputError(path, f"line {error.lineno}", f"not JSON: {hint}") from None


def read_lines(path: Path) -> Iterator[Record]:
    """The objects of a JSON-lines file, one at a time."""
    number = 0
    with open_text(path) as stream:
        for number, line in enumerate(stream, start=1):
            if line.strip():
                try:
                    fields = json.loads(line)
                except json.JSONDecodeError as error:
                    raise InputError(path, f"line {number}", f"not JSON: {error.msg}") from None
                yield Record(path, f"line {number}", fields)
    if number == 0:
        raise InputError(path, "", "is empty")


def peek(path: Path, limit: int = 1 << 28) -> Any:
    """What the file holds, or its first line does; None where that is not JSON. Never raises."""
    try:
        if not path.is_file() or path.stat().st_size > limit:
            return None
        with open_text(path) as stream:
            first = stream.readline()
            try:
                return json.loads(first)
            except ValueError:
                return json.loads(first + stream.read())
    except (InputError, ValueError, OSError):
        return None


def split_index(path: Path) -> tuple[Path, int | None]:
    """``FILE#3`` as the file and 3, for files that hold several runs; other paths as they are."""
    name, mark, index = path.name.rpartition("#")
    if mark and index.isdecimal() and not path.exists():
        return path.with_name(name), int(index)
    return path, None
