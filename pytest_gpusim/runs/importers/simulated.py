"""Results of other simulators, to stand as the simulated side of a comparison.

- ``vidur-metrics``: Vidur's ``request_metrics.csv`` (seconds), or the folder that holds it. TTFT is
  ``prefill_e2e_time``; arrivals are ``request_arrived_at`` where its canary branch writes that,
  else the sums of ``request_inter_arrival_delay``.
- ``llmservingsim-sim``: the per-request CSV of LLMServingSim's ``--output`` (nanoseconds), whose
  ``output`` counts the prompt, too, in its first releases (``scheduler.py``: ``save_output``).
- ``aisimulate``: ``requests.jsonl`` of ``aisimulate predict --capture-per-request`` (milliseconds),
  read from files of 0.13.

Requests are taken in order of arrival, as their ids count them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any

from pytest_gpusim.columns import Columns, Row, read_rows
from pytest_gpusim.documents import JsonObject, first_document, read_lines
from pytest_gpusim.errors import GpusimError, InputError
from pytest_gpusim.json_documents import parse_json
from pytest_gpusim.runs.importers.base import ImportedRequest, write_imported
from pytest_gpusim.runs.importers.files import only_file, recognised_by
from pytest_gpusim.runs.importers.options import RunOptions
from pytest_gpusim.tables import find_table

_MS = 1_000_000
_LATEST = 2**63
VIDUR_FILE, AISIMULATE_FILE = "request_metrics.csv", "requests.jsonl"
_VIDUR = Columns(
    {
        "queue": "request_scheduling_delay",
        "ttft": "prefill_e2e_time",
        "e2e": "request_e2e_time",
        "prefill": "request_num_prefill_tokens",
        "decode": "request_num_decode_tokens",
    },
    "s",
)
_IDS = ("request_id", "request_uuid", "uuid", "id")
_GAP, _ARRIVED, _VIDUR_ID = "request_inter_arrival_delay", "request_arrived_at", "Request Id"
_VIDUR_CACHED = "request_num_prefill_tokens_cached"
_OUTPUT = "output"
_SERVINGSIM = Columns(
    {
        "arrival": "arrival",
        "queue": "queuing_delay",
        "ttft": "TTFT",
        "e2e": "latency",
        "prefill": "input",
        "decode": _OUTPUT,
        "model": "model",
    },
    "ns",
)


def recognises_vidur(path: Path) -> bool:
    """Whether this is Vidur's ``request_metrics.csv``, or the folder that holds it."""
    return {_VIDUR.names["ttft"], _VIDUR.names["e2e"]} <= _header(_in(path, VIDUR_FILE))


def recognises_servingsim(path: Path) -> bool:
    """Whether this is LLMServingSim's per-request CSV."""
    return {"request id", "arrival", "end_time", "latency", "TTFT"} <= _header(path)


def recognises_aisimulate(path: Path) -> bool:
    """Whether these are AISimulate's records of requests, or the folder that holds them."""
    first = first_document(_in(path, AISIMULATE_FILE))
    return isinstance(first, dict) and "terminal_status" in first and "ttft_ms" in first


@recognised_by(recognises_vidur, simulator="vidur")
def import_vidur(
    files: Sequence[Path], out: Path, options: Mapping[str, Any] | None = None
) -> None:
    """Write the run of Vidur's ``request_metrics.csv``, any version's.

    Raises:
        InputError: A column is missing, or a cell is none of its kind.
    """
    path = _in(only_file(files, "vidur-metrics"), VIDUR_FILE)
    rows = list(read_rows(path, list(_VIDUR.names.values())))
    ids: list[int] = []
    if rows and all(row.cell(_VIDUR_ID) is not None for row in rows):
        named = Columns({"prefill": _VIDUR_ID})
        rows.sort(key=lambda row: named.count(row, "prefill") or 0)
        ids = [named.count(row, "prefill") or 0 for row in rows]
    requests = [
        _request(row, _VIDUR, arrival, _VIDUR_ID)
        for row, arrival in zip(rows, _vidur_arrivals(path, rows, ids), strict=True)
    ]
    cached = Columns({"cached": _VIDUR_CACHED})
    for row, request in zip(rows, requests, strict=True):
        if request.error_type is None:
            request.num_cached_tokens = cached.count(row, "cached")
    write_simulated(out, "vidur-metrics", "vidur", path, requests, options)


def _vidur_arrivals(path: Path, rows: Sequence[Row], ids: Sequence[int]) -> list[int]:
    """When requests arrived: as its canary branch says, else by the sums of the gaps before."""
    if rows and all(row.cell(_ARRIVED) is not None for row in rows):
        arrived = Columns({"arrival": _ARRIVED}, "s")
        return [_needed(row, arrived, "arrival") for row in rows]
    gap = Columns({"arrival": _GAP}, "s")
    if len(rows) > 1 and all(row.cell(_GAP) is None for row in rows[1:]):
        fix = "run vidur with its request metrics on (store_request_metrics)"
        raise InputError(path, f"column {_GAP}", "is missing, so arrivals are unknown", fix)
    for row, before, number in zip(rows[1:], ids, ids[1:], strict=False):
        if number > before + 1:
            problem = f"is request {number}, the one before it is {before}: the gaps have no sum"
            raise InputError(path, row.where, problem, "give the table as Vidur wrote it")
    # The first request of a run has no gap before it.
    return list(accumulate([0, *(_needed(row, gap, "arrival") for row in rows[1:])]))[: len(rows)]


@recognised_by(recognises_servingsim, simulator="llmservingsim")
def import_servingsim(
    files: Sequence[Path], out: Path, options: Mapping[str, Any] | None = None
) -> None:
    """Write the run of LLMServingSim's per-request CSV.

    Raises:
        InputError: A column is missing, or a cell is none of its kind.
    """
    path = only_file(files, "llmservingsim-sim")
    requests = []
    rows = list(read_rows(path, list(_SERVINGSIM.names.values())))
    counts_prompts = _counts_prompts(path, rows)
    for row in rows:
        arrival = _SERVINGSIM.time(row, "arrival") or 0
        if counts_prompts:
            row = replace(row, cells={**row.cells, _OUTPUT: _generated(row, True)})
        request = _request(row, _SERVINGSIM, arrival, "request id")
        request.token_times_ns = _gap_times(row, request)
        if request.token_times_ns:
            request.completion_ns = request.token_times_ns[-1]
        requests.append(request)
    write_simulated(out, "llmservingsim-sim", "llmservingsim", path, requests, options)


@recognised_by(recognises_aisimulate, simulator="aisimulate")
def import_aisimulate(
    files: Sequence[Path], out: Path, options: Mapping[str, Any] | None = None
) -> None:
    """Write the run of AISimulate's records of requests.

    Raises:
        InputError: A field is missing, or none of its kind.
    """
    path = _in(only_file(files, "aisimulate"), AISIMULATE_FILE)
    requests = []
    for record in read_lines(path):
        prefill = record.integer(_key(record, "input_length", "input_tokens", "isl"))
        decode = record.integer(_key(record, "output_length", "output_tokens", "osl"))
        arrival = milliseconds(
            record, _key(record, "arrival_time_ms", "arrival_ms", "arrival_timestamp_ms")
        )
        identity = next((record.fields[key] for key in _IDS if key in record), None)
        request = ImportedRequest(record.where, arrival, prefill)
        request.identity = None if identity is None else str(identity)
        if "session_id" in record:
            turn = record.integer("turn_index") if "turn_index" in record else None
            request.conversation = record.text("session_id"), turn
        if "reused_input_tokens" in record:
            request.num_cached_tokens = record.integer("reused_input_tokens")
        admitted = (
            milliseconds(record, "first_admit_ms") - arrival if "first_admit_ms" in record else None
        )
        status = record.text("terminal_status")
        if status.lower() not in ("completed", "complete", "success", "ok"):
            request.error_type, request.error_msg = status, f"terminal_status {status}"
        else:
            finish(
                request,
                decode=decode,
                ttft=milliseconds(record, "ttft_ms"),
                e2e=milliseconds(record, _key(record, "e2e_latency_ms", "e2e_ms")),
                queue=admitted,
            )
        requests.append(request)
    write_simulated(out, "aisimulate", "aisimulate", path, requests, options)


def _counts_prompts(path: Path, rows: Sequence[Row]) -> bool:
    """Whether ``output`` counts the prompt, too, as it did before ``save_output`` took that off.

    ``TPOT`` tells: it is the time behind the first token by the tokens behind it, without the rest.

    Raises:
        InputError: It fits neither.
    """
    tpot = Columns({"ttft": "TPOT"}, "ns")
    fits = {False: True, True: True}
    for row in rows:
        each = tpot.time(row, "ttft") if row.cell("TPOT") is not None else None
        last, first = _SERVINGSIM.time(row, "e2e"), _SERVINGSIM.time(row, "ttft")
        if each is None or last is None or first is None:
            continue
        for prompt in fits:
            behind = _generated(row, prompt) - 1
            # Of one token alone it is 0, whatever came behind that one.
            meets = behind > 0 and abs(last - first - each * behind) <= behind
            fits[prompt] &= meets if each else behind == 0
        if not any(fits.values()):
            raise row.wrong(
                _OUTPUT, "as many tokens as fit TTFT, TPOT and latency", row.cell(_OUTPUT)
            )
    return not fits[False]


def _generated(row: Row, without_prompt: bool) -> int:
    prompt = _SERVINGSIM.count(row, "prefill") or 0 if without_prompt else 0
    return (_SERVINGSIM.count(row, "decode") or 0) - prompt


def write_simulated(
    out: Path,
    kind: str,
    simulator: str,
    path: Path,
    requests: Sequence[ImportedRequest],
    options: Mapping[str, Any] | None,
    **more: Any,
) -> None:
    """Write the run of another simulator; ``more`` goes to `write_imported`."""
    write_imported(
        out,
        kind,
        path,
        requests,
        clock="engine",
        not_recovered=["engine settings", "hardware", "profile"],
        notes=[f"a result of the simulator {simulator}, not a measurement"],
        options=RunOptions.of(options),
        simulator=simulator,
        **more,
    )


def _request(row: Row, columns: Columns, arrival: int, identity: str) -> ImportedRequest:
    named = row.cell(identity)
    request = ImportedRequest(
        row.where,
        arrival,
        columns.count(row, "prefill") or 0,
        model=columns.text(row, "model"),
        identity=None if named is None else str(named),
    )
    finish(
        request,
        decode=columns.count(row, "decode") or 0,
        # A simulation that was ended leaves the times empty of what it did not end.
        ttft=_needed(row, columns, "ttft") if row.cell(columns.names["e2e"]) is not None else 0,
        e2e=columns.time(row, "e2e") or 0,
        queue=columns.time(row, "queue"),
    )
    return request


def finish(
    request: ImportedRequest, *, decode: int, ttft: int, e2e: int, queue: int | None
) -> None:
    """Fill in what became of a request, from delays after its arrival in ns."""
    if not decode or not e2e:
        request.error_type, request.error_msg = "unfinished", "the simulation did not end it"
        return
    request.num_decode_tokens = request.num_decode_tokens_actual = decode
    request.first_token_ns = request.arrival_ns + ttft
    request.completion_ns = request.arrival_ns + e2e
    if queue is not None and queue <= ttft:
        request.scheduled_ns = request.arrival_ns + queue
    if decode == 1:
        request.completion_ns = request.first_token_ns
        request.token_times_ns = [request.first_token_ns]


def _needed(row: Row, columns: Columns, role: str) -> int:
    time = columns.time(row, role)
    if time is None:
        raise row.wrong(columns.names[role], "a time", "nothing")
    return time


def _gap_times(row: Row, request: ImportedRequest) -> Sequence[int] | None:
    """Token times from LLMServingSim's list of gaps, where it has one gap less than tokens."""
    text, first = row.cell("ITL"), request.first_token_ns
    if not isinstance(text, str) or first is None:
        return request.token_times_ns
    try:
        gaps = parse_json(text, row.path, f"{row.where}, column ITL")
    except InputError:
        return None
    good = isinstance(gaps, list) and all(
        type(gap) in (int, float) and 0 <= gap < _LATEST for gap in gaps
    )
    if not good or len(gaps) + 1 != request.num_decode_tokens_actual:
        return request.token_times_ns
    return [round(time) for time in accumulate(gaps, initial=first)]


def milliseconds(record: JsonObject, key: str) -> int:
    """A field that is a time in ms, in ns."""
    return round(record.number(key) * _MS)


def _key(record: JsonObject, *names: str) -> str:
    """The one of several spellings of a key that the record has; the first where it has none."""
    return next((name for name in names if name in record), names[0])


def _in(path: Path, name: str) -> Path:
    return find_table(path, name) or path / name if path.is_dir() else path


def _header(path: Path) -> set[str]:
    try:
        row = next(read_rows(path), None) if path.is_file() else None
    except GpusimError:
        return set()
    return set(row.cells) if row is not None else set()
