"""Traces of lengths as CSV; where a column has the hashes of blocks, they say what is shared.

- ``azure``: Azure LLM inference traces, ``TIMESTAMP,ContextTokens,GeneratedTokens``. Wall-clock
  times; the first record arrives at 0. Requests without output are left out and counted. The form
  that Vidur made of them (the columns of ``vidur``) is told by its header; its clock is kept.
- ``vidur``: Vidur's processed traces, ``arrived_at`` (s), ``num_prefill_tokens``,
  ``num_decode_tokens``; of its canary branch ``block_hash_ids`` with ``block_size`` too.
- ``burstgpt``: by column name, ``Timestamp`` (s), ``Request tokens``, ``Response tokens``, and
  ``Model``. Its failed requests have no output tokens; they are left out and counted. Its second
  half, whose clock starts two months late, counts from its first request.
- ``lengths``: ``num_prefill_tokens,num_decode_tokens`` alone; arrivals are made from the options.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

from pytest_gpusim.columns import (
    UNITS_NS,
    Columns,
    is_blank,
    read_header,
    read_rows,
    wall_clock,
)
from pytest_gpusim.documents import LeftOut
from pytest_gpusim.errors import InputError
from pytest_gpusim.json_documents import parse_json
from pytest_gpusim.texts import open_text, python_literal
from pytest_gpusim.workload.importers.base import (
    NS,
    Trace,
    TraceRequest,
    from_zero,
    nanoseconds,
    with_arrivals,
    write_trace,
)
from pytest_gpusim.workload.importers.hashed_blocks import HashedBlocks
from pytest_gpusim.workload.importers.options import ImportOptions

Clock = Callable[[str], int | None]
"""A cell's time in ns; None where it is no time."""

_AZURE = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
_VIDUR = ("arrived_at", "num_prefill_tokens", "num_decode_tokens")
_SECONDS = "seconds from 0 on"
_DIGITS = 18
_AN_HOUR = 3600
_HASHES = "block_hash_ids"
_LENGTHS = Columns({"prefill": _VIDUR[1], "decode": _VIDUR[2], "cached": "block_size"})


def import_azure(file: Path, out: Path, options: Mapping[str, Any]) -> None:
    """Import an Azure LLM inference trace, as published or as Vidur processed it."""
    chosen = ImportOptions.of(options)
    trace = Trace("azure", Path(file), ())
    header = _header(trace.file)
    if _HASHES in header:
        trace.notes.append(f"{_HASHES} is passed over: the kind vidur reads what prompts share")
    if "NumImages" in header:
        trace.notes.append("NumImages is passed over: pictures are not simulated")
    if _is_processed(trace.file):
        trace.source["form"] = "processed"
        trace.records = from_zero(
            trace, _timed(trace, _VIDUR, _seconds, _SECONDS, chosen, drop_unanswered=True)
        )
    else:
        expected = "a date and time"
        records = _timed(trace, _AZURE, wall_clock, expected, chosen, drop_unanswered=True)
        trace.records = _from_first(records)
    write_trace(trace, out, chosen)


def import_vidur(file: Path, out: Path, options: Mapping[str, Any]) -> None:
    """Import a trace in Vidur's format (``arrived_at`` in s)."""
    chosen = ImportOptions.of(options)
    trace = Trace("vidur", Path(file), ())
    header = _header(trace.file)
    clock = _clock_of(chosen)
    if _HASHES in header:
        trace.prompts = {}
        trace.records = from_zero(trace, _hashed(trace, clock, chosen))
    else:
        records = _timed(trace, _VIDUR, clock, _SECONDS, chosen, drop_unanswered=False)
        trace.records = from_zero(trace, records)
    if "session_id" in header:
        trace.notes.append("session_id is passed over: arrivals are the file's")
    write_trace(trace, out, chosen)


def import_burstgpt(file: Path, out: Path, options: Mapping[str, Any]) -> None:
    """Import BurstGPT (``Timestamp`` in s), without its failed requests."""
    chosen = ImportOptions.of(options)
    trace = Trace("burstgpt", Path(file), ())
    header = _header(trace.file)
    if "Session ID" in header:
        trace.notes.append("Session ID is passed over: arrivals are the file's")
    model = ("Model",) if "Model" in header else ()
    columns = ("Timestamp", "Request tokens", "Response tokens", *model)
    records = _timed(trace, columns, _clock_of(chosen), _SECONDS, chosen, drop_unanswered=True)
    trace.records = from_zero(trace, records, late_s=_AN_HOUR)
    write_trace(trace, out, chosen)


def import_lengths(file: Path, out: Path, options: Mapping[str, Any]) -> None:
    """Import lengths alone; ``rate``, ``arrivals`` and ``seed`` make the arrivals."""
    chosen = ImportOptions.of(options)
    trace = Trace("lengths", Path(file), ())
    columns = ("num_prefill_tokens", "num_decode_tokens")
    lengths: list[tuple[int, int]] = []
    bad = trace.left_out(chosen)
    for line, cells in _rows(trace.file, columns, bad):
        if len(lengths) == chosen.first:
            break
        try:
            lengths.append(
                (_tokens(trace, line, columns, cells, 0), _tokens(trace, line, columns, cells, 1))
            )
        except InputError as error:
            bad(error)
    trace.records = (TraceRequest(*each) for each in with_arrivals(trace, lengths, chosen))
    write_trace(trace, out, chosen)


def _clock_of(chosen: ImportOptions) -> Clock:
    """Seconds, or the unit that is asked for."""
    if chosen.unit is None:
        return _seconds
    scale = UNITS_NS[chosen.unit]
    return lambda text: nanoseconds(text, scale)


def _timed(
    trace: Trace,
    columns: Sequence[str],
    clock: Clock,
    expected: str,
    chosen: ImportOptions,
    *,
    drop_unanswered: bool,
) -> Iterator[TraceRequest]:
    """The records of a trace: time, prompt, output and, where there is a fourth column, model."""
    before = -1
    with_model = len(columns) > 3
    bad = trace.left_out(chosen)
    for line, cells in _rows(trace.file, columns, bad):
        try:
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
            if drop_unanswered and cells[2].strip() in ("0", "0.0"):
                trace.count("left_out_without_output")
                continue
            # The quick way for good cells; what is wrong is told apart behind it.
            prefill = decode = 0
            if cells[1].isdecimal() and cells[2].isdecimal() and len(cells[1] + cells[2]) <= 18:
                prefill, decode = int(cells[1]), int(cells[2])
            if prefill < 1 or decode < 1:
                prefill = _tokens(trace, line, columns, cells, 1)
                decode = _tokens(trace, line, columns, cells, 2)
        except InputError as error:
            bad(error)
            continue
        model = cells[3].strip() if with_model else None
        yield TraceRequest(time, prefill, decode, model=model)


def _hashed(trace: Trace, clock: Clock, chosen: ImportOptions) -> Iterator[TraceRequest]:
    """Records of Vidur's canary form, whose prompts are named by the hashes of their blocks."""
    blocks = HashedBlocks(trace)
    before = -1
    bad = trace.left_out(chosen)
    for number, row in enumerate(read_rows(trace.file, _VIDUR, bad)):
        try:
            time = clock(str(row.cell("arrived_at")))
            if time is None or time < before:
                expected = _SECONDS if time is None else "a time that is not before the one above"
                raise row.wrong("arrived_at", expected, row.cell("arrived_at"))
            prefill, decode = _LENGTHS.count(row, "prefill", 1), _LENGTHS.count(row, "decode", 1)
            size = chosen.block_size or _LENGTHS.count(row, "cached", 1)
            if prefill is None or decode is None:
                raise row.wrong(_VIDUR[1 if prefill is None else 2], "a whole number", "nothing")
            if size is None:
                raise row.wrong("block_size", "a whole number (or --block-size N)", "nothing")
            where = f"{row.where}, column {_HASHES}"
            text = str(row.cell(_HASHES) or "[]")
            # pandas writes a list of texts as Python does.
            found = python_literal(text) if "'" in text else parse_json(text, trace.file, where)
            prompt = blocks.prompt(number, found, prefill, size, where)
        except InputError as error:
            bad(error)
            continue
        before = time
        assert trace.prompts is not None
        trace.prompts[number] = prompt
        yield TraceRequest(time, prefill, decode, number)


def _from_first(records: Iterator[TraceRequest]) -> Iterator[TraceRequest]:
    origin = None
    for record in records:
        origin = record[0] if origin is None else origin
        yield record._replace(arrival_time_ns=record[0] - origin) if origin else record


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
        return read_header(path, stream)[1]


def _rows(path: Path, columns: Sequence[str], bad: LeftOut) -> Iterator[tuple[int, Sequence[str]]]:
    """(line, the cells of ``columns``) of each row; ``bad`` is told of rows of another width."""
    with open_text(path) as stream:
        reader, header = read_header(path, stream)
        for column in columns:
            if column not in header:
                raise InputError(
                    path, f"column {column}", f"is missing; columns found: {', '.join(header)[:80]}"
                )
        places = [header.index(column) for column in columns]
        width = len(header)
        pick = itemgetter(*places)
        for row in reader:
            if len(row) == width and (row[0] or not is_blank(row)):
                yield reader.line_num, pick(row)
            elif not is_blank(row) and not row[0].startswith("#"):
                problem = f"has {len(row)} cells, the header has {width}"
                bad(InputError(path, f"line {reader.line_num}", problem))


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
