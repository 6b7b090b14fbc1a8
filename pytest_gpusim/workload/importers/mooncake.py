"""Mooncake's traces: JSON lines of ``timestamp`` (ms), lengths and hashes of 512-token blocks.

``hash_ids`` say which prompts begin alike; they become block hashes, so what is shared stays
shared. Lines without them (or with an empty list) share nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from pytest_gpusim.documents import read_lines, shown
from pytest_gpusim.workload.importers.base import Trace, TraceRequest, nanoseconds, write_trace
from pytest_gpusim.workload.importers.options import ImportOptions
from pytest_gpusim.workload.prompts import Prompt

BLOCK_TOKENS = 512
MILLISECOND = 1_000_000


def import_workload(file: Path, out: Path, options: Mapping[str, Any]) -> None:
    """Import a Mooncake trace; requests without output tokens are left out and counted."""
    trace = Trace("mooncake", Path(file), (), prompts={})
    trace.records = _records(trace)
    write_trace(trace, out, ImportOptions.of(options))


def _records(trace: Trace) -> Iterator[TraceRequest]:
    path, before = trace.file, -1
    assert trace.prompts is not None
    for number, line in enumerate(read_lines(path, parse_float=Decimal, or_array=True)):
        stamp = line.fields.get("timestamp")
        is_number = isinstance(stamp, int | Decimal) and not isinstance(stamp, bool)
        time = nanoseconds(stamp, MILLISECOND) if is_number else None  # type: ignore[arg-type]
        if time is None:
            raise line.fail("timestamp", f"expected milliseconds from 0 on, found {shown(stamp)}")
        if time < before:
            raise line.fail("timestamp", f"{stamp} is before the line above it", "sort the file")
        before = time
        prefill = line.integer("input_length", least=1)
        hashes = line.integers("hash_ids") if line.fields.get("hash_ids") else ()
        if hashes and len(hashes) != -(-prefill // BLOCK_TOKENS):
            raise line.fail(
                "hash_ids", f"has {len(hashes)} blocks of {BLOCK_TOKENS}, input_length is {prefill}"
            )
        decode = line.integer("output_length")
        if decode == 0:
            trace.count("left_out_without_output")
            continue
        trace.prompts[number] = (
            Prompt(number, block_hashes=hashes, block_tokens=BLOCK_TOKENS)
            if hashes
            else Prompt(number, seed=number, num_tokens=prefill)
        )
        yield TraceRequest(time, prefill, decode, number)
