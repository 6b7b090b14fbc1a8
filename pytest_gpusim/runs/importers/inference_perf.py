"""inference-perf's ``per_request_lifecycle_metrics.json``: a list of requests.

Read from files of inference-perf 0.7.0 (``report.request_lifecycle.per_request: true``) and its
``reportgen/base.py``. Times are seconds on the load generator's monotonic clock.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytest_gpusim.documents import JsonObject, check_seconds, first_document, read_document, to_ns
from pytest_gpusim.errors import InputError
from pytest_gpusim.runs.importers.base import (
    ImportedRequest,
    only_file,
    recognised_by,
    write_imported,
)

KIND = "inference-perf"
FILE = "per_request_lifecycle_metrics.json"
_FIX = "set report.request_lifecycle.per_request_fields.info: true"


def recognises(path: Path) -> bool:
    """Whether this looks like inference-perf's list, or the directory that holds it."""
    document = first_document(path / FILE if path.is_dir() else path)
    return (
        isinstance(document, list)
        and bool(document)
        and isinstance(document[0], dict)
        and {"start_time", "end_time", "error"} <= document[0].keys()
    )


@recognised_by(recognises)
def import_run(files: Sequence[Path], out: Path) -> None:
    """Write the run of a ``per_request_lifecycle_metrics.json`` (or of its directory).

    Raises:
        InputError: The file is not one, or a record contradicts itself.
    """
    given = only_file(files, KIND)
    path = given / FILE if given.is_dir() else given
    document = read_document(path)
    if not isinstance(document, list):
        raise InputError(path, "", "expected a JSON list of requests")
    entries = [JsonObject(path, f"record {i}", entry) for i, entry in enumerate(document)]
    sent = [_sent_body(entry) for entry in entries]
    models = {body["model"] for body in sent if isinstance(body.get("model"), str)}
    write_imported(
        out,
        KIND,
        path,
        [_request(entry, body) for entry, body in zip(entries, sent, strict=True)],
        clock="client",
        not_recovered=[
            "when a request was due (arrivals are the times of dispatch, so a late load generator "
            "does not show)",
            "engine settings",
            "hardware",
            "scheduled times",
        ],
        notes=["tokens of one chunk share its time of arrival"],
        meta={"model": models.pop() if len(models) == 1 else None},
    )


def _sent_body(entry: JsonObject) -> dict[str, Any]:
    """The request as it was sent, where the report kept it."""
    text = entry.fields.get("request")
    if not isinstance(text, str):
        return {}
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


def _request(entry: JsonObject, body: dict[str, Any]) -> ImportedRequest:
    start, end = entry.seconds("start_time"), entry.seconds("end_time")
    if end < start:
        raise entry.fail("end_time", f"is {start - end:.6g} s before start_time")
    request = ImportedRequest(entry.where, to_ns(start), 0, sent_ns=to_ns(start))
    asked = body.get("max_tokens", body.get("max_completion_tokens"))
    if type(asked) is int and asked > 0:
        request.num_decode_tokens = asked
    info = entry.record("info") if "info" in entry else None
    if info is not None:
        request.num_prefill_tokens = _prompt_tokens(info)
    if "error" in entry:
        error = entry.record("error")
        request.error_type = error.text("error_type")
        request.error_msg = str(error.fields.get("error_msg") or request.error_type)
        return request
    if info is None:
        raise entry.fail("info", "is missing", _FIX)

    response = info.record("response_metrics")
    usage = response.record("server_usage") if "server_usage" in response else None
    if usage is not None and "completion_tokens" in usage:
        produced = usage.integer("completion_tokens")
    else:
        produced = response.integer("output_tokens")
    if produced == 0:
        request.error_type, request.error_msg = "no_output", "no output tokens"
        return request
    request.num_decode_tokens_actual = produced
    if usage is not None:
        request.num_prefill_tokens = usage.integer("prompt_tokens")
        if "prompt_tokens_details" in usage:
            details = usage.record("prompt_tokens_details")
            if "cached_tokens" in details:
                request.num_cached_tokens = details.integer("cached_tokens")
    times = _token_times(entry, response, start, end)
    # The record ends later than its last token: with the end of the connection.
    request.first_token_ns, request.completion_ns = times[0], times[-1]
    request.token_times_ns = times if len(times) == produced else None
    return request


def _prompt_tokens(info: JsonObject) -> int:
    return info.record("request_metrics").record("text").integer("input_tokens")


def _token_times(entry: JsonObject, response: JsonObject, start: float, end: float) -> list[int]:
    key = "output_token_times"
    if not response.fields.get(key):
        raise response.fail(key, "is missing or empty, so TTFT is unknown", "use streaming: true")
    values = response.array(key)
    times = [
        check_seconds(entry.path, f"{response.place(key)}[{k}]", t) for k, t in enumerate(values)
    ]
    before = start
    for k, time in enumerate(times):
        if not before <= time <= end:
            raise response.fail(
                f"{key}[{k}]", f"{time!r} is not between the time before it and end_time"
            )
        before = time
    return [to_ns(time) for time in times]
