"""inference-perf's ``per_request_lifecycle_metrics.json``: a list of requests.

Read from files of inference-perf 0.7.0 (``report.request_lifecycle.per_request: true``), its
``reportgen/base.py``, and in the form that 0.1 to 0.4 wrote, where ``info`` holds the token counts
itself. Times are seconds on the load generator's monotonic clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_gpusim.documents import (
    JsonObject,
    LeftOut,
    check_seconds,
    first_document,
    read_documents,
    to_ns,
)
from pytest_gpusim.errors import InputError
from pytest_gpusim.json_documents import parse_json
from pytest_gpusim.runs.importers.base import ImportedRequest, due_at_once, write_imported
from pytest_gpusim.runs.importers.failures import describe_error, is_refusal
from pytest_gpusim.runs.importers.files import (
    choose,
    only_file,
    recognised_by,
    require_counted,
    split_index,
)
from pytest_gpusim.runs.importers.options import RunOptions
from pytest_gpusim.runs.importers.shared_prompts import SentPrompt
from pytest_gpusim.runs.importers.wrapped import all_in, holds
from pytest_gpusim.workload.load import Load

KIND = "inference-perf"
FILE = "per_request_lifecycle_metrics.json"
_FIX = "set report.request_lifecycle.per_request_fields.info: true"


def recognises(path: Path) -> bool:
    """Whether this looks like inference-perf's list, or the directory that holds it."""
    path = split_index(path)[0]
    return holds(first_document(path / FILE if path.is_dir() else path), _is_record)


def _is_record(document: Any) -> bool:
    return isinstance(document, dict) and {"start_time", "end_time", "error"} <= document.keys()


def runs_in(path: Path) -> int:
    """How many stages of load the file tells apart."""
    return max(1, len(_stages(_entries(path / FILE if path.is_dir() else path))))


@recognised_by(recognises, runs_in=runs_in)
def import_run(files: Sequence[Path], out: Path, options: Mapping[str, Any] | None = None) -> None:
    """Write the run of a ``per_request_lifecycle_metrics.json`` (or of its directory).

    ``FILE#1`` takes the second stage of load alone, where requests say their stage.

    Raises:
        InputError: The file is not one, or a record contradicts itself.
    """
    chosen = RunOptions.of(options)
    given, index = split_index(only_file(files, KIND))
    path = given / FILE if given.is_dir() else given
    entries = _entries(path)
    stage = None
    if index is not None:
        stage = choose(path, "stages", _stages(entries), index)
        entries = [entry for entry in entries if entry.fields.get("stage_id") == stage]
    if not chosen.skip_bad:
        _require_whole(path, stage, entries)
    requests, bad = [], LeftOut(chosen.skip_bad)
    sessions: dict[str, list[ImportedRequest]] = {}
    for entry in entries:
        with bad.where_bad():
            request = _request(entry, _sent_body(entry))
            requests.append(request)
            if "session_id" in entry:
                sessions.setdefault(entry.text("session_id"), []).append(request)
    notes = ["tokens of one chunk share its time of arrival"]
    notes += _conversations(sessions)
    load, said = _load(path, index)
    notes += [said] if said else []
    if not load.is_open:
        due_at_once(requests)
        for request in requests:
            request.arrival_ns = request.sent_ns or request.arrival_ns
    due = (
        []
        if any("scheduled_time" in entry for entry in entries)
        else [
            "when a request was due (arrivals are the times of dispatch, so a late load generator "
            "does not show)"
        ]
    )
    adapters = any(entry.record_or_empty("info").fields.get("lora_adapter") for entry in entries)
    write_imported(
        out,
        KIND,
        path,
        requests,
        clock="client",
        meta={"engine": {"enable_lora": True}} if adapters else None,
        not_recovered=[
            *due,
            *(["tokens of pictures, video and sound"] if any(map(_uncounted, entries)) else []),
            "engine settings",
            "hardware",
            "scheduled times",
        ],
        notes=notes,
        tool={"stage": index} if index is not None else None,
        load=load,
        left_out=bad,
        options=chosen,
    )


def _load(path: Path, stage: int | None) -> tuple[Load, str | None]:
    """The concurrency of the stage, from the reports of stages beside the file, and a note."""
    found = []
    for report in sorted(path.parent.glob("stage_*_lifecycle_metrics.json")):
        document = first_document(report)
        summary = document.get("load_summary") if isinstance(document, dict) else None
        at_once = summary.get("concurrency") if isinstance(summary, dict) else None
        found.append(at_once if type(at_once) is int and at_once > 0 else None)
    if stage is not None and stage < len(found):
        found = found[stage : stage + 1]
    if len(set(found)) == 1 and found[0] is not None:
        return Load(found[0]), None
    if any(found):
        said = "the stages had so many requests at once: " + ", ".join(map(str, found))
        return Load(), f"{said}; which request was of which is not told, arrivals are those sent"
    return Load(), None


def _conversations(sessions: Mapping[str, Sequence[ImportedRequest]]) -> list[str]:
    """Mark the turns of sessions in which each request follows the one before."""
    for session in sessions.values():
        ended = 0
        for request in sorted(session, key=lambda request: request.arrival_ns):
            if request.arrival_ns < ended:
                return ["session_id is passed over: requests of a session were under way at once"]
            ended = request.completion_ns or request.arrival_ns
    for name, session in sessions.items():
        for request in session:
            request.conversation = name, None
    return []


def _uncounted(entry: JsonObject) -> bool:
    """Whether a prompt has more than its text, and the server did not count its tokens."""
    info = entry.record_or_empty("info")
    sent = info.record_or_empty("request_metrics")
    usage = info.record_or_empty("response_metrics").record_or_empty("server_usage")
    return any(key in sent for key in ("image", "video", "audio")) and not usage.fields


def _require_whole(path: Path, stage: int | None, entries: Sequence[JsonObject]) -> None:
    """Hold the requests against those that the summary beside them counts."""
    name = "summary" if stage is None else f"stage_{stage}"
    summary = first_document(path.with_name(f"{name}_lifecycle_metrics.json"))
    failed = sum("error" in entry for entry in entries)
    for key, held in (("successes", len(entries) - failed), ("failures", failed)):
        part = summary.get(key) if isinstance(summary, dict) else None
        require_counted(path, key, held, part.get("count") if isinstance(part, dict) else None)


def _entries(path: Path) -> list[JsonObject]:
    documents = read_documents(path)
    found = [one for document in documents for one in all_in(document, _is_record)]
    if not found and documents != [[]]:
        raise InputError(path, "", "expected a JSON list of requests")
    return [JsonObject(path, f"record {i}", entry) for i, entry in enumerate(found)]


def _stages(entries: Sequence[JsonObject]) -> list[int]:
    return sorted({entry.integer("stage_id") for entry in entries if "stage_id" in entry})


def _sent_body(entry: JsonObject) -> dict[str, Any]:
    """The request as it was sent, where the report kept it."""
    text = entry.fields.get("request")
    if not isinstance(text, str):
        return text if isinstance(text, dict) else {}
    try:
        body = parse_json(text, entry.path)
    except InputError:
        return {}
    return body if isinstance(body, dict) else {}


def _request(entry: JsonObject, body: dict[str, Any]) -> ImportedRequest:
    start, end = entry.seconds("start_time"), entry.seconds("end_time")
    if end < start:
        raise entry.fail("end_time", f"is {start - end:.6g} s before start_time")
    due = entry.seconds("scheduled_time") if "scheduled_time" in entry else start
    model = body.get("model")
    request = ImportedRequest(
        entry.where,
        to_ns(min(due, start)),
        0,
        sent_ns=to_ns(start),
        model=model if isinstance(model, str) else None,
        prompt=SentPrompt.of_body(body),
    )
    asked = body.get("max_tokens", body.get("max_completion_tokens"))
    if type(asked) is int and asked > 0:
        request.num_decode_tokens = asked
    info = entry.record("info") if "info" in entry else None
    if info is not None:
        request.num_prefill_tokens = _prompt_tokens(info)
    if "error" in entry:
        if isinstance(entry.fields["error"], str):
            request.error_type, request.error_msg = describe_error(entry.text("error"))
        else:
            error = entry.record("error")
            request.error_type = error.text("error_type")
            request.error_msg = str(error.fields.get("error_msg") or request.error_type)
        request.refused = is_refusal(request.error_type, request.error_msg)
        return request
    if info is None:
        raise entry.fail("info", "is missing", _FIX)

    # Up to 0.4 the counts and times are in info itself.
    response = info.record("response_metrics") if "response_metrics" in info else info
    usage = response.record("server_usage") if "server_usage" in response else None
    counted = _spelled(usage, "completion_tokens", "output_tokens")
    if usage is not None and counted is not None:
        produced = usage.integer(counted)
    elif "output_tokens" not in response:
        raise info.fail(
            "response_metrics",
            "is missing, and so is output_tokens, where inference-perf 0.1 to 0.4 had it: "
            "this release's form is not known",
        )
    else:
        produced = response.integer("output_tokens")
    if produced == 0:
        request.error_type, request.error_msg = "no_output", "no output tokens"
        return request
    request.num_decode_tokens_actual = produced
    if usage is not None:
        if (prompt := _spelled(usage, "prompt_tokens", "input_tokens")) is not None:
            request.num_prefill_tokens = usage.integer(prompt)
        if "prompt_tokens_details" in usage:
            details = usage.record("prompt_tokens_details")
            if "cached_tokens" in details:
                request.num_cached_tokens = details.integer("cached_tokens")
    times = _token_times(entry, response, start, end)
    # The record ends later than its last token: with the end of the connection.
    request.first_token_ns, request.completion_ns = times[0], times[-1]
    request.token_times_ns = times if len(times) == produced else None
    return request


def _spelled(usage: JsonObject | None, *keys: str) -> str | None:
    """The key of a count in a server's usage, as OpenAI's or as Anthropic's API has it."""
    return next((key for key in keys if usage is not None and key in usage), None)


def _prompt_tokens(info: JsonObject) -> int:
    if "request_metrics" in info or "input_tokens" not in info:
        return info.record("request_metrics").record("text").integer("input_tokens")
    return info.integer("input_tokens")


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
