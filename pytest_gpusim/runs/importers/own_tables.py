"""A table of one's own as a run: a CSV or JSON lines with a row a request.

Needed are TTFT (or the time of the first token) and E2E (or the time of completion). Their columns
are named by ``--columns``, or go by usual names that end in their unit, as ``ttft_ms`` and
``e2e_ms``. Arrivals are a column, or those of the ``--workload`` that was replayed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from pytest_gpusim.columns import Columns, Row, read_rows, split_unit, wall_clock
from pytest_gpusim.documents import NEVER, JsonObject, LeftOut, first_document, shown
from pytest_gpusim.errors import GpusimError, InputError
from pytest_gpusim.json_documents import parse_json
from pytest_gpusim.limits import DOCUMENT_BYTES
from pytest_gpusim.runs.importers.base import ImportedRequest, write_imported
from pytest_gpusim.runs.importers.failures import has_failed, is_refusal
from pytest_gpusim.runs.importers.files import only_file, recognised_by
from pytest_gpusim.runs.importers.options import RunOptions
from pytest_gpusim.texts import read_text_within
from pytest_gpusim.workload import Workload, read_workload

KIND = "csv"
_USUAL = {
    "arrival": (
        "arrival", "arrival_time", "arrived_at", "arrival_timestamp", "start_time",
        "request_start_time", "start_timestamp", "submit_time", "timestamp",
    ),
    "ttft": ("ttft", "time_to_first_token", "first_token_latency"),
    "e2e": (
        "e2e", "e2e_latency", "e2e_time", "end_to_end_latency", "request_latency", "total_latency",
        "latency", "e2el",
    ),
    "queue": ("queue", "queue_delay", "queue_time", "scheduling_delay", "queuing_delay"),
    "prefill": (
        "num_prefill_tokens", "prefill_tokens", "input_tokens", "prompt_tokens", "input_length",
        "input_len", "prefill", "isl", "num_prompt_tokens", "num_input_tokens",
        "number_input_tokens",
    ),
    "decode": (
        "num_decode_tokens", "decode_tokens", "output_tokens", "completion_tokens",
        "output_length", "output_len", "decode", "osl", "num_output_tokens", "number_output_tokens",
    ),
    "cached": ("num_cached_tokens", "cached_tokens"),
    "id": ("request_id", "id"),
    "model": ("model",),
    "session": ("session_id", "conversation_id"),
    "status": ("status", "success"),
    "error": ("error", "error_msg", "error_message"),
}  # fmt: skip
_TIMES = ("arrival", "ttft", "e2e", "queue")
_NO_ERROR = ("", "0", "0.0", "false", "no", "ok", "[]", "{}", "''", '""')


def recognises(path: Path) -> bool:
    """Whether this is a table of TTFT and E2E under usual names, each with its unit."""
    try:
        if not path.is_file():
            return False
        row = next(_rows(path), None)
        columns = usual_columns(row)
    except GpusimError:
        return False
    return row is not None and {"ttft", "e2e"} <= columns.names.keys()


def usual_columns(row: Row | None) -> Columns:
    """The columns of a row that go by usual names; times only with their unit in the name, but for
    arrivals that are dates.
    """
    spelled: dict[tuple[str, str | None], str] = {}
    for column in map(str, row.cells if row else ()):
        spelled.setdefault(split_unit(column), column)
    names: dict[str, str] = {}
    for role, usual in _USUAL.items():
        for (name, unit), column in spelled.items():
            timed = unit is not None or (role == "arrival" and _is_date(row, column))
            if role == "id" and (row is None or not str(row.cell(column)).isdecimal()):
                continue  # a name of its own, and not which request of a workload it is
            if name in usual and timed is (role in _TIMES):
                best = names.get(role)
                if best is None or usual.index(name) < usual.index(split_unit(best)[0]):
                    names[role] = column
    return Columns(names)


def _is_date(row: Row | None, column: str) -> bool:
    cell = row.cell(column) if row is not None else None
    return isinstance(cell, str) and wall_clock(cell) is not None


@recognised_by(recognises, general=True)
def import_run(files: Sequence[Path], out: Path, options: Mapping[str, Any] | None = None) -> None:
    """Write the run of a table.

    Raises:
        InputError: A column or a cell is not what it must be, or nothing tells the arrivals.
    """
    path = only_file(files, KIND)
    chosen = RunOptions.of(options)
    workload = (options or {}).get("workload")
    if chosen.columns:
        columns = Columns.parse(chosen.columns)
        columns.require_unit(path)
    else:
        columns = usual_columns(next(_rows(path), None))
    table = _Table(path, columns, read_workload(workload) if workload else None)
    table.check()
    requests, bad = [], LeftOut(chosen.skip_bad)
    for number, row in enumerate(_rows(path, list(columns.names.values()), bad)):
        with bad.where_bad():
            requests.append(table.request(row, number))
    unit = columns.unit or {
        role: columns.unit_of(role) for role in columns.names if columns.unit_of(role)
    }
    write_imported(
        out,
        KIND,
        path,
        requests,
        clock="client",
        notes=[*columns.notes(), *table.notes()],
        not_recovered=[
            *([] if "model" in columns.names else ["model"]),
            "engine settings",
            "hardware",
        ],
        tool={"columns": {**columns.names, "unit": unit}},
        left_out=bad,
        options=chosen,
        simulator=(options or {}).get("simulator"),
    )


def _rows(path: Path, needed: Sequence[str] = (), bad: LeftOut = NEVER) -> Iterator[Row]:
    """As `read_rows`, and the rows in the one list of a JSON document that is no row itself."""
    top = first_document(path)
    fields = top if isinstance(top, dict) else {}
    lists = [
        key for key, value in fields.items() if isinstance(value, list) and _is_of_objects(value)
    ]
    row = Row(path, "", fields)
    is_row = any(name in row for name in needed) or (
        not needed and {"ttft", "e2e"} <= usual_columns(row).names.keys()
    )
    if len(lists) != 1 or is_row:
        yield from read_rows(path, needed, bad)
        return
    text = read_text_within(path, DOCUMENT_BYTES)
    document = JsonObject(path, "", parse_json(text, path, parse_float=Decimal))
    for number, entry in enumerate(document.array(lists[0])):
        where = f"{lists[0]}[{number}]"
        if isinstance(entry, dict):
            yield Row(path, where, entry)
        else:
            bad(InputError(path, where, f"expected a JSON object, found {shown(entry)}"))


def _is_of_objects(value: list[Any]) -> bool:
    return bool(value) and isinstance(value[0], dict)


class _Table:
    """What the columns of one file say of a request."""

    def __init__(self, path: Path, columns: Columns, workload: Workload | None) -> None:
        self._path = path
        self._columns = columns
        self._workload = workload
        self._seen: set[int] = set()

    def check(self) -> None:
        """Raise `InputError` where a needed column is not named."""
        names = self._columns.names
        for role, other in (("ttft", "first_token"), ("e2e", "completion")):
            if role not in names and other not in names:
                raise InputError(
                    self._path,
                    "",
                    f"no column is known to be {role} (such as {role}_ms)",
                    f"name it: gpusim import-run csv {self._path} "
                    f"--columns arrival=…,{role}=…,unit=ms",
                )
        known = self._workload is not None
        for role in ("arrival", "prefill", "decode"):
            if role not in names and not known:
                raise InputError(
                    self._path,
                    "",
                    f"no column is known to be {role}",
                    f"name it with gpusim import-run csv {self._path} --columns {role}=…, or give "
                    "there the --workload that was replayed",
                )

    def notes(self) -> list[str]:
        """How rows were taken for the workload's requests."""
        names = self._columns.names
        if self._workload is None or "arrival" in names or "id" in names:
            return []
        return ["rows are the workload's requests in its order; a column id=… would tell"]

    def request(self, row: Row, number: int) -> ImportedRequest:
        """The request of a row.

        It is the request of the workload, where one is given, that the column ``id`` says, else the
        ``number``-th.
        """
        columns = self._columns
        planned = None
        if self._workload is not None:
            told = columns.count(row, "id")
            number = number if told is None else told
            if number >= len(self._workload.requests):
                count = len(self._workload.requests)
                raise InputError(row.path, row.where, f"the workload has {count} requests only")
            if number in self._seen:
                raise row.wrong(columns.names["id"], "an id that no row above has", str(number))
            self._seen.add(number)
            planned = self._workload.requests[number]
        arrival = columns.time(row, "arrival")
        if arrival is None and planned is not None:
            arrival = planned.arrival_time_ns
        if arrival is None:
            raise row.wrong(columns.names.get("arrival", "arrival"), "a time", "nothing")
        prefill = columns.count(row, "prefill")
        if prefill is None:
            prefill = planned.num_prefill_tokens if planned is not None else 0
        decode = columns.count(row, "decode")
        if decode is None and planned is not None:
            decode = planned.num_decode_tokens
        request = ImportedRequest(
            row.where,
            arrival,
            prefill,
            sent_ns=columns.time(row, "sent"),
            num_cached_tokens=columns.count(row, "cached"),
            model=columns.text(row, "model"),
        )
        session = columns.text(row, "session")
        if session is not None:
            request.conversation = session, None
        error = columns.text(row, "error")
        error = None if (error or "").lower() in _NO_ERROR else error
        status = (columns.text(row, "status") or "ok").lower()
        failed = has_failed(status)
        if failed is None and not error:
            expected = "a known word for success or failure, such as ok or error"
            raise row.wrong(columns.names["status"], expected, status)
        if error or failed:
            request.error_type = status if failed else "error"
            request.error_msg = error or status
            request.refused = is_refusal(status, error)
            return request
        first = self._time(row, "first_token", "ttft", arrival)
        last = self._time(row, "completion", "e2e", arrival)
        if decode == 0 or (decode is None and first is None and last is None):
            request.error_type, request.error_msg = "no_output", "no output tokens"
            return request
        if decode is None:
            raise row.wrong(columns.names["decode"], "a whole number", "nothing")
        request.num_decode_tokens_actual = decode
        request.scheduled_ns = self._time(row, "scheduled", "queue", arrival)
        if first is None or last is None:
            missing = "ttft" if first is None else "e2e"
            raise row.wrong(columns.names.get(missing, missing), "a time", "nothing")
        request.first_token_ns, request.completion_ns = first, last
        if decode == 1:
            request.token_times_ns = [first]
        return request

    def _time(self, row: Row, at: str, after: str, arrival: int) -> int | None:
        """A time that is stated, or that is so long after the arrival."""
        stated = self._columns.time(row, at)
        if stated is not None:
            return stated
        delay = self._columns.time(row, after)
        return None if delay is None else arrival + delay


def _lacks_arrivals(path: Path) -> bool:
    columns = usual_columns(next(_rows(path), None))
    return "arrival" not in columns.names


# Where a table has no arrivals, those of the workload that was replayed are taken.
import_run.takes_workload = True  # type: ignore[attr-defined]
import_run.lacks_arrivals = _lacks_arrivals  # type: ignore[attr-defined]
