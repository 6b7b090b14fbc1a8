"""An imported run put on the schedule of the workload that it replayed.

A load generator tells when it released a request; when the request was due is in the workload, and
arrival is what was due.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Hashable, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_gpusim.errors import InputError
from pytest_gpusim.runs.run import Run
from pytest_gpusim.workload import Workload, WorkloadRequest

if TYPE_CHECKING:
    import pandas as pd

JITTER_NS = 5_000_000
"""Within this, a client's stamps of two requests say nothing of their order."""
_TIMES = ("sent_time_ns", "scheduled_time_ns", "first_token_time_ns", "completion_time_ns")


def on_schedule(run: Run, workload: Workload, path: Path) -> tuple[Run, list[str]]:
    """``run`` with the arrivals and the asked-for lengths of ``workload``, and notes on it.

    The two clocks are set so that no request was released before it was due, and one exactly then.

    Args:
        run: An imported run, whose ids count requests in order of arrival.
        workload: What it replayed.
        path: What messages name.

    Raises:
        InputError: Requests or lengths are not the workload's; names the first that differs.
    """
    import pandas as pd

    rows = run.requests.copy()
    if rows["request_id"].tolist() != list(range(len(workload.requests))):
        raise InputError(
            path,
            "",
            f"has {len(rows)} requests, the workload {workload.path} has {len(workload.requests)}",
            "give the --workload that was replayed",
        )
    expected = pd.DataFrame(workload.requests, index=rows.index)
    run = _in_order_of(run, workload)
    rows = run.requests.copy()
    _fit_lengths(rows, expected, workload, path)

    due, released = expected["arrival_time_ns"], rows["arrival_time_ns"].astype("int64")
    clock = int((released - due).min())
    late = released - clock - due
    rows["sent_time_ns"] = rows["sent_time_ns"].fillna(rows["arrival_time_ns"])
    for column in _TIMES:
        rows[column] = rows[column] - clock
    rows["arrival_time_ns"] = due.astype("Int64")
    rows["ttft_ns"] = rows["first_token_time_ns"] - rows["arrival_time_ns"]
    tokens = run.tokens
    if tokens is not None:
        tokens = tokens.copy()
        tokens["token_time_ns"] = tokens["token_time_ns"] - clock
        first = tokens["token_index"] == 0
        ttft = rows.set_index("request_id")["ttft_ns"]
        tokens.loc[first, "token_latency_ns"] = tokens.loc[first, "request_id"].map(ttft)
    steps = run.steps
    if steps is not None:
        steps = steps.copy()
        steps["start_ns"] = steps["start_ns"] - clock
    note = f"arrivals are the workload's; requests were released up to {late.max() / 1e6:.6g} ms"
    return replace(run, requests=rows, tokens=tokens, steps=steps), [f"{note} later"]


def _in_order_of(run: Run, workload: Workload) -> Run:
    """``run`` with ids of requests that were due at the same instant set by their lengths.

    A load generator may release those in any order. Where steps name requests, ids stand.
    """
    if run.steps is not None or run.batches() is not None:
        return run
    groups = groupby(workload.requests, key=lambda request: request.arrival_time_ns)
    return _with_ids_of(run, [list(group) for _, group in groups])


def like_first(runs: Sequence[Run]) -> list[Run]:
    """Repeats of one load, ids set by the first's lengths where a client swapped neighbours.

    A client that stamps what it really sent may stamp two requests that were due within its jitter
    the other way round; the next repeat then counts them in another order.
    """
    return [*runs[:1], *(_like(run, runs[0]) for run in runs[1:])]


def _like(run: Run, first: Run) -> Run:
    known = ["num_prefill_tokens", "num_decode_tokens_actual"]
    rows, expected = run.requests, first.requests
    plain = run.steps is None and run.batches() is None and run.is_open_loop and first.is_open_loop
    if not plain or "import" not in (run.meta.get("params") or {}) or len(rows) != len(expected):
        return run
    if rows["request_id"].tolist() != expected["request_id"].tolist():
        return run
    if rows[known].equals(expected[known]) or (expected["status"] == "error").any():
        return run
    groups: list[list[WorkloadRequest]] = []
    for number, arrival, prefill, decode in zip(
        expected["request_id"],
        expected["arrival_time_ns"],
        *(expected[k] for k in known),
        strict=True,
    ):
        request = WorkloadRequest(number, number, int(prefill), int(decode), int(arrival))
        if groups and arrival - groups[-1][-1].arrival_time_ns <= JITTER_NS:
            groups[-1].append(request)
        else:
            groups.append([request])
    return _with_ids_of(run, groups)


def _with_ids_of(run: Run, groups: Sequence[Sequence[WorkloadRequest]]) -> Run:
    """``run`` with the ids that requests of the same lengths have in groups due together."""
    rows = run.requests.to_dict("records")
    ids: list[int] = []
    for due in groups:
        ids += _matched(rows[len(ids) : len(ids) + len(due)], due)
    if ids == list(range(len(ids))):
        return run
    requests = run.requests.assign(request_id=ids).astype({"request_id": "Int64"})
    requests = requests.sort_values("request_id", ignore_index=True)
    tokens = run.tokens
    if tokens is not None:
        new = tokens["request_id"].map(dict(enumerate(ids))).astype("Int64")
        tokens = tokens.assign(request_id=new)
        tokens = tokens.sort_values(["request_id", "token_index"], ignore_index=True)
    return replace(run, requests=requests, tokens=tokens)


def _matched(rows: list[dict[Hashable, Any]], due: Sequence[WorkloadRequest]) -> list[int]:
    """The id of each row; as they come where the lengths leave no choice or do not fit."""
    as_they_come = [request.request_id for request in due]
    free: dict[tuple[int, int], deque[int]] = defaultdict(deque)
    for request in due:
        free[request.num_prefill_tokens, request.num_decode_tokens].append(request.request_id)
    found: list[int | None] = []
    for row in rows:
        lengths = row["num_prefill_tokens"], row["num_decode_tokens_actual"]
        slots = free.get(lengths) if row["status"] != "error" else None
        found.append(slots.popleft() if slots else None)
    # Early stops and failures take what is left, where a prompt of their length is.
    left = sorted(slot for slots in free.values() for slot in slots)
    prefill = {request.request_id: request.num_prefill_tokens for request in due}
    for place in sorted(range(len(rows)), key=lambda place: rows[place]["status"] == "error"):
        if found[place] is None:
            row = rows[place]
            fits = (
                slot
                for slot in left
                if row["status"] == "error" or prefill[slot] == row["num_prefill_tokens"]
            )
            slot = next(fits, None)
            if slot is None:
                return as_they_come
            left.remove(slot)
            found[place] = slot
    return [slot for slot in found if slot is not None]


def _fit_lengths(
    rows: pd.DataFrame, expected: pd.DataFrame, workload: Workload, path: Path
) -> None:
    """Hold lengths against the workload's, and take from it those that the run does not know."""
    done = rows["status"] != "error"
    prefill, asked = expected["num_prefill_tokens"], expected["num_decode_tokens"]
    came = rows["num_decode_tokens_actual"]
    for column, wrong, found in (
        (
            "num_prefill_tokens",
            done & (rows["num_prefill_tokens"] != prefill),
            rows["num_prefill_tokens"],
        ),
        ("num_decode_tokens", (done & (came > asked)).fillna(False), came),
    ):
        if wrong.any():
            number = int(rows.index[wrong][0])
            raise InputError(
                path,
                f"request {number} in order of arrival, {column}",
                f"is {found[number]}, the workload {workload.path} has {expected[column][number]}",
                "give the --workload that was replayed",
            )
    # A failed request may not even know its lengths.
    rows["num_prefill_tokens"] = prefill.astype("Int64")
    rows["num_decode_tokens"] = asked.astype("Int64")
    short = (done & (came < asked)).fillna(False).astype(bool)
    rows.loc[short, "status"] = "early_stop"
