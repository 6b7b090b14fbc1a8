"""The workload of a recorded run, with the lengths that it really produced.

Prompts come from the workload that the run names, where that still exists with the same digest;
else nothing is known of what they share. Failed requests stay, with the length that they were asked
for, and are counted: a comparison pairs requests by id and leaves them out of its figures. The
option ``drop_failed`` leaves them out here. Where ids change, ``source_request_ids`` in the
metadata says which request of the run each one is.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_gpusim.errors import GpusimError, InputError
from pytest_gpusim.runs import Run, read_run
from pytest_gpusim.workload.importers.base import Record, Trace, write_trace
from pytest_gpusim.workload.importers.options import ImportOptions
from pytest_gpusim.workload.trace import Workload, read_workload


def import_run(file: Path, out: Path, options: Mapping[str, Any]) -> None:
    """Write the workload of the run directory ``file``.

    The option ``workload_dir`` names where the run's workload lies now.
    """
    run = read_run(file)
    chosen = ImportOptions.of({"model": run.meta.get("model"), **options})
    rows = run.finished if chosen.drop_failed else run.requests
    rows = rows.sort_values(["arrival_time_ns", "request_id"])
    if run.finished.empty:
        raise InputError(run.path, "", "no request of this run succeeded")
    workload = _workload_of(run, options.get("workload_dir"))
    trace = Trace("run", run.path, (), source={"run_id": run.run_id})
    trace.source["workload_digest"] = run.meta.get("workload_digest")
    trace.source["prompts"] = "as measured" if workload else "not known"
    failed = len(run.requests) - len(run.finished)
    if failed:
        trace.counts["failed_left_out" if chosen.drop_failed else "failed_as_asked"] = failed
    ids = [int(number) for number in rows["request_id"]]
    if ids != list(range(len(ids))):
        trace.source["source_request_ids"] = ids
    prompt_ids: dict[int, int] = {}
    if workload is not None:
        trace.prompts = workload.prompts
        trace.tokenizer_ref = workload.meta.get("tokenizer_ref")
        prompt_ids = {request.request_id: request.prompt_id for request in workload.requests}
        unknown = [number for number in ids if number not in prompt_ids]
        if unknown:
            raise InputError(
                run.path, f"request_id {unknown[0]}", f"is not in the workload {workload.path}"
            )
    # An error row may not even know its lengths; a request has one token of each at least.
    prefill = rows["num_prefill_tokens"].clip(lower=1)
    decode = rows["num_decode_tokens_actual"].fillna(rows["num_decode_tokens"]).clip(lower=1)
    trace.records = [
        Record(int(arrival), int(prefill), int(tokens), prompt_ids.get(number))
        for number, arrival, prefill, tokens in zip(
            ids, rows["arrival_time_ns"], prefill, decode, strict=True
        )
    ]
    write_trace(trace, out, chosen)


def _workload_of(run: Run, moved_to: Path | str | None) -> Workload | None:
    """The run's workload, if it lies where it should and is still the same."""
    named, digest = run.meta.get("workload_dir"), run.meta.get("workload_digest")
    places = [Path(moved_to)] if moved_to else []
    if isinstance(named, str):
        places += [Path(named), run.path / named]
    for place in places:
        try:
            workload = read_workload(place)
        except GpusimError:
            continue
        if workload.digest == digest:
            return workload
    return None
