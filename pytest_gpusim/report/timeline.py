"""Runs on one time axis, as a Chrome trace: opens in Perfetto and in chrome://tracing.

Format: "Trace Event Format" (Google, 2016): complete events (``X``) for steps, counters (``C``) for
queue, batch and KV blocks, instants (``i``) for preemptions, nestable asynchronous events (``b``,
``e``) for requests. Times are microseconds from each run's first arrival.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_gpusim.errors import UsageError

if TYPE_CHECKING:
    from pytest_gpusim.runs import Run

_COUNTERS = {"waiting": "queue", "num_sequences": "batch", "kv_blocks_used": "KV blocks"}
_STEPS, _REQUESTS = 1, 2  # rows of a run


def write_timeline(runs: Sequence[Run], out: Path) -> None:
    """Write the runs, each a process of the trace, into ``out`` (``.json``, or ``.json.gz``).

    Raises:
        UsageError: ``out`` exists.
    """
    if out.exists():
        raise UsageError(f"--out {out}: exists; name another file")
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.partial-{os.getpid()}")
    opener = gzip.open if out.suffix == ".gz" else open
    try:
        with opener(partial, "wt", encoding="utf-8") as stream:
            stream.write('{"displayTimeUnit": "ms", "traceEvents": [\n')
            for number, event in enumerate(_events(runs)):
                stream.write((",\n" if number else "") + json.dumps(event))
            stream.write("\n]}\n")
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)


def _events(runs: Sequence[Run]) -> Iterator[dict[str, Any]]:
    for number, run in enumerate(runs, start=1):
        kind = "real" if run.meta.get("run_type") == "real" else "simulated"
        yield _named("process_name", number, 0, f"{kind}: {run.run_id}")
        yield _named("thread_name", number, _STEPS, "steps")
        start = int(run.requests["arrival_time_ns"].min())
        yield from _requests(run, number, start)
        if run.steps is not None:
            yield from _steps(run, number, start)


def _named(what: str, process: int, thread: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "name": what, "pid": process, "tid": thread, "args": {"name": name}}


def _steps(run: Run, process: int, start: int) -> Iterator[dict[str, Any]]:
    import pandas as pd

    assert run.steps is not None
    place = {"pid": process, "tid": _STEPS}
    for row in run.steps.to_dict("records"):
        known = {str(key): int(value) for key, value in row.items() if pd.notna(value)}
        begin = (known["start_ns"] - start) / 1000
        prefill, decode = known.get("num_prefill_tokens"), known.get("num_decode_tokens")
        name = "decode" if not prefill else "mixed" if decode else "prefill"
        duration = known.get("duration_ns", 0) / 1000
        yield {"ph": "X", "name": name, "ts": begin, "dur": duration, **place, "args": known}
        for column, counter in _COUNTERS.items():
            if column in known:
                values = {counter: known[column]}
                yield {"ph": "C", "name": counter, "ts": begin, "pid": process, "args": values}
        if known.get("preempted"):
            count = {"requests": known["preempted"]}
            yield {"ph": "i", "name": "preempted", "ts": begin, "s": "p", **place, "args": count}


def _requests(run: Run, process: int, start: int) -> Iterator[dict[str, Any]]:
    import pandas as pd

    for row in run.finished.to_dict("records"):
        times = [
            ("queued", row["arrival_time_ns"]),
            ("prefill", row["scheduled_time_ns"]),
            ("decode", row["first_token_time_ns"]),
            ("", row["completion_time_ns"]),
        ]
        known = [(name, (int(at) - start) / 1000) for name, at in times if pd.notna(at)]
        request = f"request {row['request_id']}"
        place = {"cat": "request", "id": str(row["request_id"]), "pid": process, "tid": _REQUESTS}
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
