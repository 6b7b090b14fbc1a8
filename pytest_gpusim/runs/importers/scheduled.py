"""An imported run put on the schedule of the workload that it replayed.

A load generator tells when it released a request; when the request was due is in the workload, and
arrival is what was due.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_gpusim.errors import InputError
from pytest_gpusim.runs.schema import Run
from pytest_gpusim.workload import Workload

if TYPE_CHECKING:
    import pandas as pd

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
