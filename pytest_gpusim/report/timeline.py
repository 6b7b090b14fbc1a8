"""Runs on one time axis, as a Chrome trace: opens in Perfetto and in chrome://tracing.

Format: "Trace Event Format" (Google, 2016): complete events (``X``) for steps, counters (``C``) for
queue, batch and KV blocks, instants (``i``) for preemptions, nestable asynchronous events (``b``,
``e``) for requests. Times are microseconds from each run's first arrival, or, where a step began
before it, from so much earlier in all of them.

Perfetto's importer (``json_trace_parser``) takes an ``id`` for one of all processes, so requests
have ids local to theirs; a ``tid`` likewise, so each is used once; and it drops an ``X`` that
overlaps another of its thread, so steps of several replicas are in rows of their own.
"""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_gpusim.artifacts import atomic_file
from pytest_gpusim.errors import UsageError
from pytest_gpusim.progress import ticked

if TYPE_CHECKING:
    from pytest_gpusim.runs import Run

_COUNTERS = {
    "waiting": ("queue", "requests"),
    "num_sequences": ("batch", "requests"),
    "kv_blocks_used": ("KV cache", "blocks"),
}
"""Column of a step, to the counter's name and its unit, which Perfetto shows in one."""
_REQUESTS = 1  # a row of a run; those of its steps follow
_ROWS = 1000  # of a run at most


def write_timeline(runs: Sequence[Run], out: Path) -> None:
    """Write the runs, each a process of the trace, into ``out`` (``.json``, or ``.json.gz``).

    Raises:
        UsageError: ``out`` exists.
    """
    if out.exists():
        raise UsageError(f"--out {out}: exists; name another file")
    opener = gzip.open if out.suffix == ".gz" else open
    with atomic_file(out) as partial, opener(partial, "wt", encoding="utf-8") as stream:
        stream.write('{"displayTimeUnit": "ms", "traceEvents": [\n')
        for number, event in enumerate(_events(runs)):
            stream.write(
                (",\n" if number else "")
                + json.dumps(event, allow_nan=False, separators=(",", ":"))
            )
        stream.write("\n]}\n")


def _events(runs: Sequence[Run]) -> Iterator[dict[str, Any]]:
    starts = [int(run.requests["arrival_time_ns"].min()) for run in runs]
    # No time may be negative.
    before = max(0, *(at - _first_step(run, at) for run, at in zip(runs, starts, strict=True)))
    for number, (run, start) in enumerate(zip(runs, starts, strict=True), start=1):
        kind = "real" if run.meta.get("run_type") == "real" else "simulated"
        yield _named("process_name", number, number * _ROWS, f"{kind}: {run.run_id}")
        yield _named("thread_name", number, number * _ROWS + _REQUESTS, "requests")
        yield from _requests(run, number, start - before)
        if run.steps is not None:
            yield from _steps(run, number, start - before)


def _first_step(run: Run, otherwise: int) -> int:
    if run.steps is None or not len(run.steps):
        return otherwise
    return int(run.steps["start_ns"].min())


def _named(what: str, process: int, thread: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "name": what, "pid": process, "tid": thread, "args": {"name": name}}


def microseconds(nanoseconds: int) -> float:
    """In microseconds, as a number that still has its ns where a reader multiplies and cuts."""
    value = nanoseconds / 1000
    while int(value * 1000.0) < nanoseconds:
        value = math.nextafter(value, math.inf)
    return value


def _steps(run: Run, process: int, start: int) -> Iterator[dict[str, Any]]:
    import pandas as pd

    assert run.steps is not None
    ends: list[int] = []  # of the last step in each row
    shown: dict[str, int] = {}  # a counter stands until it changes
    rows = run.steps.to_dict("records")
    for row in ticked(rows, f"write {run.run_id}", len(rows), "steps"):
        known = {str(key): int(value) for key, value in row.items() if pd.notna(value)}
        begin = microseconds(known["start_ns"] - start)
        lane = next((i for i, end in enumerate(ends) if end <= known["start_ns"]), len(ends))
        place = {"pid": process, "tid": process * _ROWS + _REQUESTS + 1 + lane}
        if lane == len(ends):
            ends.append(0)
            words = f"steps {lane + 1}" if lane else "steps"
            yield _named("thread_name", process, place["tid"], words)
        prefill, decode = known.get("num_prefill_tokens"), known.get("num_decode_tokens")
        name = "decode" if not prefill else "mixed" if decode else "prefill"
        took = known.get("duration_ns", 0)
        ends[lane] = known["start_ns"] + took
        event = {"ph": "X", "name": name, "ts": begin, "dur": microseconds(took)}
        told = {key: known[key] for key in known if key not in ("start_ns", "duration_ns")}
        yield {**event, **place, "args": told}
        for column, (counter, unit) in _COUNTERS.items():
            if column in known and known[column] != shown.get(column):
                shown[column] = known[column]
                values = {unit: known[column]}
                yield {"ph": "C", "name": counter, "ts": begin, "pid": process, "args": values}
        if known.get("preempted"):
            count = {"requests": known["preempted"]}
            yield {"ph": "i", "name": "preempted", "ts": begin, "s": "p", **place, "args": count}


def _requests(run: Run, process: int, start: int) -> Iterator[dict[str, Any]]:
    import pandas as pd

    rows = run.finished.to_dict("records")
    for row in ticked(rows, f"write {run.run_id}", len(rows), "requests"):
        times = [
            ("queued", row["arrival_time_ns"]),
            ("prefill", row["scheduled_time_ns"]),
            ("decode", row["first_token_time_ns"]),
            ("", row["completion_time_ns"]),
        ]
        named = [(name, int(at) - start) for name, at in times if pd.notna(at)]
        # Clocks of two processes may put a start before its request: no span may end before it.
        steady = accumulate((at for _, at in named), max)
        known = [(name, microseconds(at)) for (name, _), at in zip(named, steady, strict=True)]
        request = f"request {row['request_id']}"
        place = {
            "cat": "request",
            "id2": {"local": str(row["request_id"])},
            "pid": process,
            "tid": process * _ROWS + _REQUESTS,
        }
        tokens = {
            "prompt": int(row["num_prefill_tokens"]),
            "output": int(row["num_decode_tokens_actual"]),
        }
        first, last = known[0][1], known[-1][1]
        yield {"ph": "b", "name": request, "ts": first, **place, "args": tokens}
        for (name, begin), (_, end) in pairwise(known):
            yield {"ph": "b", "name": name, "ts": begin, **place}
            yield {"ph": "e", "name": name, "ts": end, **place}
        yield {"ph": "e", "name": request, "ts": last, **place}
