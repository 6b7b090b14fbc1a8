"""Traces of lengths as CSV: no contents, so no prompt shares anything.

- ``azure``: Azure LLM inference traces, ``TIMESTAMP,ContextTokens,GeneratedTokens``. Wall-clock
  times; the first record arrives at 0. Requests without output are left out and counted. The form
  that Vidur made of them (the columns of ``vidur``) is told by its header; its clock is kept.
- ``vidur``: Vidur's processed traces, ``arrived_at`` (s), ``num_prefill_tokens``,
  ``num_decode_tokens``.
- ``burstgpt``: by column name, ``Timestamp`` (s), ``Request tokens``, ``Response tokens``. Its
  failed requests have no output tokens; they are left out and counted.
- ``lengths``: ``num_prefill_tokens,num_decode_tokens`` alone; arrivals are made from the options.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from operator import itemgetter
from pathlib import Path
from typing import Any

from pytest_gpusim.errors import InputError
from pytest_gpusim.tables import open_text
from pytest_gpusim.workload.importers.base import (
    NS,
    Trace,
    TraceRequest,
    nanoseconds,
    with_arrivals,
    write_trace,
)
from pytest_gpusim.workload.importers.options import ImportOptions

Clock = Callable[[str], int | None]
"""A cell's time in ns; None where it is no time."""
_WALL_CLOCK = re.compile(
    r"(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?\s*(Z|[+-]\d\d:?\d\d)?", re.ASCII
)


_AZURE = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
_VIDUR = ("arrived_at", "num_prefill_tokens", "num_decode_tokens")
_SECONDS = "seconds from 0 on"
_DIGITS = 18


def import_azure(file: Path, out: Path, options: Mapping[str, Any]) -> None:
    """Import an Azure LLM inference trace, as published or as Vidur processed it."""
    trace = Trace("azure", Path(file), ())
    if _is_processed(trace.file):
        trace.source["form"] = "processed"
        trace.records = _timed(trace, _VIDUR, _seconds, _SECONDS, drop_unanswered=True)
    else:
        records = _timed(trace, _AZURE, _wall_clock, "a date and time", drop_unanswered=True)
        trace.records = _from_first(records)
    write_trace(trace, out, ImportOptions.of(options))


def import_vidur(file: Path, out: Path, options: Mapping[str, Any]) -> None:
    """Import a trace in Vidur's format (``arrived_at`` in s)."""
    trace = Trace("vidur", Path(file), ())
    trace.records = _timed(trace, _VIDUR, _seconds, _SECONDS, drop_unanswered=False)
    write_trace(trace, out, ImportOptions.of(options))


def import_burstgpt(file: Path, out: Path, options: Mapping[str, Any]) -> None:
    """Import BurstGPT (``Timestamp`` in s), without its failed requests."""
    columns = ("Timestamp", "Request tokens", "Response tokens")
    trace = Trace("burstgpt", Path(file), ())
    trace.records = _timed(trace, columns, _seconds, _SECONDS, drop_unanswered=True)
    write_trace(trace, out, ImportOptions.of(options))


def import_lengths(file: Path, out: Path, options: Mapping[str, Any]) -> None:
    """Import lengths alone; ``rate``, ``arrivals`` and ``seed`` make the arrivals."""
    chosen = ImportOptions.of(options)
    trace = Trace("lengths", Path(file), ())
    columns = ("num_prefill_tokens", "num_decode_tokens")
    lengths: list[tuple[int, int]] = []
    for line, cells in _rows(trace.file, columns):
        if len(lengths) == chosen.first:
            break
        lengths.append(
            (_tokens(trace, line, columns, cells, 0), _tokens(trace, line, columns, cells, 1))
        )
    trace.records = (TraceRequest(*each) for each in with_arrivals(trace, lengths, chosen))
    write_trace(trace, out, chosen)


def _timed(
    trace: Trace, columns: Sequence[str], clock: Clock, expected: str, *, drop_unanswered: bool
) -> Iterator[TraceRequest]:
    before = -1
    for line, cells in _rows(trace.file, columns):
        time = clock(cells[0])
        if time is None:
            raise _wrong(trace.file, line, columns[0], expected, cells[0])
        if time < before:
            raise InputError(
                trace.file,
                f"line {line}, column {columns[0]}",
                f"{cells[0]!r} is before the record above it",
                "sort the file by time",
            )
        before = time
        if drop_unanswered and cells[2].strip() == "0":
            trace.count("left_out_without_output")
            continue
        # The quick way for good cells; what is wrong is told apart behind it.
        prefill = decode = 0
        if cells[1].isdecimal() and cells[2].isdecimal() and len(cells[1] + cells[2]) <= _DIGITS:
            prefill, decode = int(cells[1]), int(cells[2])
        if prefill < 1 or decode < 1:
            prefill = _tokens(trace, line, columns, cells, 1)
            decode = _tokens(trace, line, columns, cells, 2)
        yield TraceRequest(time, prefill, decode)


def _from_first(records: Iterator[TraceRequest]) -> Iterator[TraceRequest]:
    origin = None
    for record in records:
        origin = record[0] if origin is None else origin
        yield TraceRequest(record[0] - origin, record[1], record[2])


def _is_processed(path: Path) -> bool:
    """Whether the header is that of Vidur's form, and not that of the published one."""
    header = _header(path)
    known = [form for form in (_AZURE, _VIDUR) if not set(form) - set(header)]
    if not known and not set(header) & {*_AZURE, *_VIDUR}:
        raise InputError(
            path,
            "line 1",
            f"expected the columns {','.join(_AZURE)} or {','.join(_VIDUR)}; found: "
            f"{', '.join(header)[:80]}",
        )
    return known == [_VIDUR] or (not known and "arrived_at" in header)


def _header(path: Path) -> list[str]:
    with open_text(path) as stream:
        header = [name.strip() for name in next(csv.reader(stream), [])]
    if not header:
        raise InputError(path, "", "is empty")
    return header


def _rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, Sequence[str]]]:
    """(line, the cells of ``columns``) of each row."""
    with open_text(path) as stream:
        reader = csv.reader(stream)
        header = [name.strip() for name in next(reader, [])]
        if not header:
            raise InputError(path, "", "is empty")
        for column in columns:
            if column not in header:
                raise InputError(
                    path, f"column {column}", f"is missing; columns found: {', '.join(header)[:80]}"
                )
        places = [header.index(column) for column in columns]
        width = len(header)
        pick = itemgetter(*places)
        for row in reader:
            if len(row) == width:
                yield reader.line_num, pick(row)
            elif row:
                raise InputError(
                    path,
                    f"line {reader.line_num}",
                    f"has {len(row)} cells, the header has {width}",
                )


def _tokens(
    trace: Trace, line: int, columns: Sequence[str], cells: Sequence[str], place: int
) -> int:
    text = cells[place].strip()
    whole = text.removesuffix(".0")
    if not whole.isdecimal() or len(whole) > _DIGITS or int(whole) < 1:
        raise _wrong(trace.file, line, columns[place], "a whole number of at least 1", text)
    return int(whole)


def _wrong(path: Path, line: int, column: str, expected: str, found: str) -> InputError:
    return InputError(
        path, f"line {line}, column {column}", f"expected {expected}, found {found[:40]!r}"
    )


def _seconds(text: str) -> int | None:
    return nanoseconds(text, NS)


def _wall_clock(text: str) -> int | None:
    found = _WALL_CLOCK.fullmatch(text.strip())
    if found is None:
        return None
    head, fraction, zone = found.groups()
    seconds = _epoch_seconds(head, zone or "Z")
    return None if seconds is None else seconds * NS + int((fraction or "").ljust(9, "0"))


@lru_cache(maxsize=1024)
def _epoch_seconds(head: str, zone: str) -> int | None:
    try:
        moment = datetime.fromisoformat(head + ("" if zone == "Z" else zone))
    except ValueError:
        return None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
