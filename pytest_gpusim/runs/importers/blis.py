"""``blis``: the JSON of BLIS (``inference-sim``) with ``requests``.

By its ``sim/metrics_utils.go``: ``arrived_at`` is in seconds, ``ttft_ms`` and ``e2e_ms`` in
milliseconds. ``scheduling_delay_ms`` of a request is in ticks of its clock, microseconds, in many
of its versions: that is told by the percentile of the same name, which is in milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_gpusim.documents import JsonObject, first_document, read_document, to_ns
from pytest_gpusim.runs.importers.base import ImportedRequest
from pytest_gpusim.runs.importers.files import only_file, recognised_by, require_counted
from pytest_gpusim.runs.importers.options import RunOptions
from pytest_gpusim.runs.importers.simulated import finish, milliseconds, write_simulated

KIND = "blis"
_DELAY, _P99 = "scheduling_delay_ms", "scheduling_delay_p99_ms"
_NS = {"ms": 1_000_000, "us": 1_000}
_REFUSED = "rejected"


def recognises(path: Path) -> bool:
    """Whether this is a result of BLIS."""
    document = first_document(path)
    return isinstance(document, dict) and {"vllm_estimated_duration_s", "completed_requests"} <= (
        document.keys()
    )


@recognised_by(recognises, simulator=KIND)
def import_run(files: Sequence[Path], out: Path, options: Mapping[str, Any] | None = None) -> None:
    """Write the run of a result of BLIS; requests that did not end are failed ones.

    Raises:
        InputError: The file has no requests, or a value is none of its kind.
    """
    path = only_file(files, KIND)
    document = JsonObject(path, "", read_document(path))
    if "requests" not in document:
        raise document.fail("requests", "is missing", "run blis with --metrics-path FILE")
    records = [
        JsonObject(path, f"requests[{number}]", entry)
        for number, entry in enumerate(document.array("requests"))
    ]
    tick = _tick(document, records)
    requests = [_request(record, tick) for record in records]
    if not RunOptions.of(options).skip_bad:
        counted = document.fields.get("completed_requests")
        require_counted(path, "completed", len(requests), counted)
    arrivals = [request.arrival_ns for request in requests] or [0]
    # Its duration is in seconds by its name, and lasts longer than the arrivals.
    if max(arrivals) - min(arrivals) > 2e9 * document.seconds("vllm_estimated_duration_s"):
        raise document.fail("requests", "arrived_at spans more than the run: it is not in seconds")
    adapters = any(record.fields.get("adapter") for record in records)
    write_simulated(
        out,
        KIND,
        KIND,
        path,
        requests,
        options,
        meta={"engine": {"enable_lora": True}} if adapters else None,
    )


def _tick(document: JsonObject, records: Sequence[JsonObject]) -> int | None:
    """The unit of the requests' scheduling delays in ns; None where nothing tells it."""
    delays = sorted(record.number(_DELAY) for record in records if _DELAY in record)
    if not any(delays):
        return _NS["ms"]
    rank = 0.99 * (len(delays) - 1)
    below, above = delays[int(rank)], delays[min(int(rank) + 1, len(delays) - 1)]
    found = below + (above - below) * (rank - int(rank))
    stated = document.number(_P99) if _P99 in document else 0.0
    for unit, factor in (("ms", 1), ("us", 1000)):
        # It may be over more requests than are listed; the units are a factor of 1,000 apart.
        if found and 0.1 < stated * factor / found < 10:
            return _NS[unit]
    return None


def _request(record: JsonObject, tick: int | None) -> ImportedRequest:
    request = ImportedRequest(
        record.where,
        to_ns(record.seconds("arrived_at")),
        record.integer("num_prefill_tokens"),
        model=record.text_or_none("model") or None,
        identity=str(record.fields["requestID"]) if record.fields.get("requestID") else None,
    )
    session = record.fields.get("session_id")
    if isinstance(session, str) and session:
        turn = record.integer("round_index") if "round_index" in record else None
        request.conversation = session, turn
    if record.fields.get("status") == _REFUSED:
        request.error_type, request.error_msg = _REFUSED, "refused on admission"
        request.refused = True
    elif record.fields.get("length_capped"):
        request.error_type = "length_capped"
        request.error_msg = "ended early, after how many tokens is not told"
    else:
        waited = record.number(_DELAY) if _DELAY in record and tick is not None else None
        finish(
            request,
            decode=record.integer("num_decode_tokens"),
            ttft=milliseconds(record, "ttft_ms"),
            e2e=milliseconds(record, "e2e_ms"),
            queue=None if waited is None or tick is None else round(waited * tick),
        )
    return request
