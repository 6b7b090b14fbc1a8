"""Mooncake's traces: JSON lines of ``timestamp`` (ms), lengths and hashes of 512-token blocks.

``hash_ids`` say which prompts begin alike; they become block hashes, so what is shared stays
shared. Lines without them (or with an empty list) share nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from pytest_gpusim.errors import InputError
from pytest_gpusim.workload.importers.base import Record, Trace, nanoseconds, write_trace
from pytest_gpusim.workload.importers.json_lines import integer, integers, read_objects, shown
from pytest_gpusim.workload.importers.options import ImportOptions
from pytest_gpusim.workload.prompts import Prompt

BLOCK_TOKENS = 512
MILLISECOND = 1_000_000


def import_workload(file: Path, out: Path, options: Mapping[str, Any]) -> None:
    """Import a Mooncake trace; requests without output tokens are left out and counted."""
    trace = Trace("mooncake", Path(file), (), prompts={})
    trace.records = _records(trace)
    write_trace(trace, out, ImportOptions.of(options))


def _records(trace: Trace) -> Iterator[Record]:
    path, before = trace.file, -1
    assert trace.prompts is not None
    for number, (where, document) in enumerate(read_objects(path)):
        stamp = document.get("timestamp")
        is_number = isinstance(stamp, int | Decimal) and not isinstance(stamp, bool)
        time = nanoseconds(stamp, MILLISECOND) if is_number else None  # type: ignore[arg-type]
        if time is None:
            raise InputError(
                path,
                f"{where}, timestamp",
                f"expected milliseconds from 0 on, found {shown(stamp)}",
            )
        if time < before:
            raise InputError(
                path, f"{where}, timestamp", f"{stamp} is before the line above it", "sort the file"
            )
        before = time
        prefill = integer(path, where, document, "input_length")
        hashes = integers(path, where, document, "hash_ids") if document.get("hash_ids") else ()
        if hashes and len(hashes) != -(-prefill // BLOCK_TOKENS):
            raise InputError(
                path,
                f"{where}, hash_ids",
                f"has {len(hashes)} blocks of {BLOCK_TOKENS}, input_length is {prefill}",
            )
        decode = integer(path, where, document, "output_length", least=0)
        if decode == 0:
            trace.count("left_out_without_output")
            continue
        trace.prompts[number] = (
            Prompt(number, block_hashes=hashes, block_tokens=BLOCK_TOKENS)
            if hashes
            else Prompt(number, seed=number, num_tokens=prefill)
        )
        yield Record(time, prefill, decode, number)
