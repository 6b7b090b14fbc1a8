"""A trace of one's own: any CSV or JSON lines, whose columns are named by ``--columns``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pytest_gpusim.columns import Columns, Row, read_rows
from pytest_gpusim.errors import UsageError
from pytest_gpusim.workload.importers.base import (
    Trace,
    TraceRequest,
    from_zero,
    with_arrivals,
    write_trace,
)
from pytest_gpusim.workload.importers.options import ImportOptions

_ROLES = ("arrival", "prefill", "decode", "model")


def import_table(file: Path, out: Path, options: Mapping[str, Any]) -> None:
    """Import the columns ``prefill``, ``decode`` and, unless a rate makes them, ``arrival``.

    Raises:
        UsageError: The columns are not named, or arrivals have no unit.
        InputError: A cell is none of its kind; names line and column.
    """
    chosen = ImportOptions.of(options)
    trace = Trace("csv", Path(file), ())
    if chosen.columns is None:
        raise UsageError("workload import csv: give --columns arrival=…,prefill=…,decode=…,unit=s")
    columns = Columns.parse(chosen.columns)
    if columns.unit is None and chosen.unit is not None:
        columns = Columns(columns.names, chosen.unit)
    for role in ("prefill", "decode"):
        if role not in columns.names:
            raise UsageError(f"--columns {chosen.columns}: names no {role}")
    unused = [role for role in columns.names if role not in _ROLES]
    if unused:
        trace.notes.append(f"a trace has no use for {', '.join(unused)}: passed over")
    if "arrival" in columns.names:
        columns.require_unit(trace.file)
        trace.records = from_zero(trace, _timed(trace, columns, chosen))
    else:
        lengths = [(prefill, decode) for _, prefill, decode in _read(trace, columns, chosen)]
        timed = with_arrivals(trace, lengths[: chosen.first], chosen)
        trace.records = (TraceRequest(*each) for each in timed)
    write_trace(trace, out, chosen)


def _timed(trace: Trace, columns: Columns, chosen: ImportOptions) -> Iterator[TraceRequest]:
    before, bad = -1, trace.left_out(chosen)
    for row, prefill, decode in _read(trace, columns, chosen):
        time = columns.time(row, "arrival")
        if time is None or time < before:
            name = columns.names["arrival"]
            expected = "a time" if time is None else "a time that is not before the one above"
            bad(row.wrong(name, expected, row.cell(name)))
            continue
        before = time
        yield TraceRequest(time, prefill, decode, model=columns.text(row, "model"))


def _read(trace: Trace, columns: Columns, chosen: ImportOptions) -> Iterator[tuple[Row, int, int]]:
    """Rows with their lengths; those without output tokens are left out and counted."""
    bad = trace.left_out(chosen)
    for row in read_rows(trace.file, list(columns.names.values()), bad):
        lengths = None
        with bad.where_bad():
            lengths = _lengths(trace, columns, row)
        if lengths is not None:
            yield row, *lengths


def _lengths(trace: Trace, columns: Columns, row: Row) -> tuple[int, int] | None:
    """Prompt and output of a row; None without output tokens."""
    decode = columns.count(row, "decode")
    if decode == 0:
        trace.count("left_out_without_output")
        return None
    prefill = columns.count(row, "prefill", least=1)
    for role, value in (("prefill", prefill), ("decode", decode)):
        if value is None:
            raise row.wrong(columns.names[role], "a whole number", "nothing")
    columns.time(row, "arrival")
    return prefill or 0, decode or 0
