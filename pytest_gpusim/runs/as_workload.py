"""The workload of a recorded run, with the lengths that it really produced.

Prompts come from the workload that the run names, where that still exists with the same digest;
else nothing is known of what they share. Failed requests stay, with the lengths that they were
asked for, and are counted: a comparison pairs requests by id, and holds neither lengths nor times
of failed ones against each other. Those that the server refused at once are marked as refused, and
not simulated. What a failed request does not know of itself comes from that workload, else it is
one token. The option ``drop_failed`` leaves them out here; ids then change, so that such a
workload's simulations do not compare with the run. Where ids change, ``source_request_ids`` in the
metadata says which request of the run each one is.

Under a limit of requests at once, and in conversations, requests are due as that workload says:
when the run could send them is for the simulation to find.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_gpusim.errors import GpusimError, GpusimWarning, InputError
from pytest_gpusim.runs import Run, read_run
from pytest_gpusim.runs.importers.failures import is_refusal
from pytest_gpusim.workload.importers.base import Trace, TraceRequest, write_trace
from pytest_gpusim.workload.importers.options import ImportOptions
from pytest_gpusim.workload.load import turns_followed
from pytest_gpusim.workload.prompts import Prompt
from pytest_gpusim.workload.token_ids import continuations
from pytest_gpusim.workload.trace import Workload, read_workload

if TYPE_CHECKING:
    import pandas as pd


def import_run(file: Path, out: Path, options: Mapping[str, Any]) -> None:
    """Write the workload of the run directory ``file``.

    The option ``workload_dir`` names where the run's workload lies now.
    """
    run = read_run(file)
    chosen = ImportOptions.of({"model": run.meta.get("model"), **options})
    rows = run.finished if chosen.drop_failed else run.requests
    if run.finished.empty:
        raise InputError(run.path, "", "no request of this run succeeded")
    workload = workload_of(run, options.get("workload_dir"))
    as_due = not (run if workload is None else workload).is_open_loop
    rows = rows.sort_values(["request_id"] if as_due else ["arrival_time_ns", "request_id"])
    trace = Trace("run", run.path, (), source={"run_id": run.run_id})
    trace.source["workload_digest"] = run.meta.get("workload_digest")
    trace.source["prompts"] = "as measured" if workload else "not known"
    failed = len(run.requests) - len(run.finished)
    if failed:
        trace.counts["failed_left_out" if chosen.drop_failed else "failed_as_asked"] = failed
    trace.load = run.load if workload is None else workload.load
    if workload is not None:
        trace.prompts = _prompts(workload, rows)
        trace.tokenizer_ref = workload.meta.get("tokenizer_ref")
    trace.records = _records(run, rows, workload)
    refused = sum(record.refused for record in trace.records)
    if refused:
        trace.counts["refused_not_simulated"] = refused
    write_trace(trace, out, chosen)


def _records(run: Run, rows: pd.DataFrame, workload: Workload | None) -> list[TraceRequest]:
    asked = {r.request_id: r for r in workload.requests} if workload else {}
    decode = rows["num_decode_tokens_actual"].fillna(rows["num_decode_tokens"])
    refused = _refused(rows) | (workload.refused if workload else frozenset())
    sessions = run.sessions if workload is None else workload.sessions
    due = _due(run, rows)
    records = []
    for number, arrival, prefill, tokens, status in zip(
        rows["request_id"].tolist(),
        rows["arrival_time_ns"].tolist(),
        rows["num_prefill_tokens"].tolist(),
        decode.tolist(),
        rows["status"].tolist(),
        strict=True,
    ):
        known = asked.get(number)
        if known is None:
            if workload is not None:
                raise InputError(
                    run.path, f"request_id {number}", f"is not in the workload {workload.path}"
                )
            lengths = max(prefill, 1), max(tokens, 1)
            places = sessions.get(number), number in refused
            records.append(TraceRequest(due.get(number, arrival), *lengths, None, number, *places))
            continue
        if status == "error":
            prefill, tokens = known.num_prefill_tokens, tokens or known.num_decode_tokens
        assert workload is not None
        records.append(
            TraceRequest(
                arrival if workload.is_open_loop else known.arrival_time_ns,
                prefill,
                max(tokens, 1),
                known.prompt_id,
                number,
                sessions.get(number),
                number in refused,
            )
        )
    return records


def _due(run: Run, rows: pd.DataFrame) -> dict[int, int]:
    """When requests were due, of a run whose arrivals are its side's own; empty for others.

    A later turn's says nothing, and is that of the request before it; where nobody tells, a request
    was due when it could be sent.
    """
    if run.is_open_loop:
        return {}
    told = rows["arrival_time_ns"]
    if "due_time_ns" in rows.columns:
        told = rows["due_time_ns"].fillna(told)
    due: dict[int, int] = {}
    latest, follows = 0, turns_followed(run.sessions)
    for number, time in zip(rows["request_id"].tolist(), told.tolist(), strict=True):
        latest = latest if number in follows else max(latest, time)
        due[number] = latest
    return due


def _prompts(workload: Workload, rows: pd.DataFrame) -> dict[int, Prompt] | None:
    """Its prompts; those that go on with an answer take no more of it than came."""
    if workload.prompts is None:
        return None
    prompts = dict(workload.prompts)
    came = rows.set_index("request_id")["num_decode_tokens_actual"].dropna().to_dict()
    for request_id, (earlier, taken) in continuations(workload).items():
        there = workload.requests[earlier].num_prefill_tokens + int(came.get(earlier, taken))
        if there < taken:
            prompt_id = workload.requests[request_id].prompt_id
            prompts[prompt_id] = replace(prompts[prompt_id], prefix_tokens=there)
    return prompts


def _refused(rows: pd.DataFrame) -> set[int]:
    """Requests that the server refused at once: no token came, and the error is of that kind."""
    failed = rows[(rows["status"] == "error") & rows["first_token_time_ns"].isna()]
    said = zip(failed["request_id"], failed["error_type"], failed["error_msg"], strict=True)
    return {int(number) for number, *words in said if is_refusal(*words)}


def workload_of(run: Run, moved_to: Path | str | None = None) -> Workload | None:
    """The run's workload, if it lies where it should and is still the same.

    One that lies there and cannot be read is said.
    """
    named, digest = run.meta.get("workload_dir"), run.meta.get("workload_digest")
    places = [Path(moved_to)] if moved_to else []
    if isinstance(named, str):
        places += [Path(named), run.path / named]
    for place in places:
        if not place.is_dir():
            continue
        try:
            workload = read_workload(place)
        except GpusimError as error:
            said = f"the workload of the run {run.path} cannot be read, so what its prompts share "
            warnings.warn(GpusimWarning(f"{said}is not known: {error}"), stacklevel=3)
            continue
        if workload.digest == digest:
            return workload
    return None
