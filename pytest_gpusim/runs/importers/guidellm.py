"""GuideLLM's ``benchmarks.json``: one or more benchmarks, each with its requests by outcome.

Read from files of GuideLLM 0.8 (``--output kind=json``), and by the sources of those before: 0.2
and 0.3, whose requests hold their times themselves; 0.4, whose strategy lies in ``scheduler`` and
whose tokens' times are those of iterations. Times are wall-clock seconds of the load generator, of
which it keeps the first and the last token's, not those between.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_gpusim.documents import (
    JsonObject,
    LeftOut,
    first_document,
    read_document,
    to_ns,
)
from pytest_gpusim.errors import InputError
from pytest_gpusim.json_documents import parse_json
from pytest_gpusim.runs.importers.base import ImportedRequest, most_at_once, write_imported
from pytest_gpusim.runs.importers.failures import describe_error, is_refusal
from pytest_gpusim.runs.importers.files import choose, only_file, recognised_by, split_index
from pytest_gpusim.runs.importers.options import RunOptions
from pytest_gpusim.runs.importers.shared_prompts import SentPrompt
from pytest_gpusim.workload.load import Load

KIND = "guidellm"
_OUTCOMES = ("successful", "errored", "incomplete")
_SCHEDULED = ("constant", "poisson", "trace")
_LIMITED = ("throughput", *_SCHEDULED)
# Wall-clock seconds as floats have a grain of a quarter of a microsecond.
_SLACK_S = 1e-5


def recognises(path: Path) -> bool:
    """Whether this looks like GuideLLM's report."""
    document = first_document(split_index(path)[0])
    if not isinstance(document, dict) or not isinstance(document.get("benchmarks"), list):
        return False
    metadata = document.get("metadata")
    if isinstance(metadata, dict) and "guidellm_version" in metadata:
        return True
    first = document["benchmarks"][0] if document["benchmarks"] else None
    return isinstance(first, dict) and (
        str(first.get("type_", "")).startswith("generative") or _is_of_0_1(first)
    )


def _is_of_0_1(benchmark: dict[str, Any]) -> bool:
    return {"mode", "results", "errors", "concurrencies"} <= benchmark.keys()


def runs_in(path: Path) -> int:
    """How many benchmarks a report holds."""
    return len(JsonObject(path, "", read_document(path)).array("benchmarks"))


@recognised_by(recognises, runs_in=runs_in)
def import_run(files: Sequence[Path], out: Path, options: Mapping[str, Any] | None = None) -> None:
    """Write the run of one benchmark of a report; ``FILE#2`` names the third of several.

    Requests sent before GuideLLM began to measure (its warm-up) stay out.

    Raises:
        InputError: The file is not one, holds several benchmarks and none is named, or a request
            contradicts itself.
    """
    chosen = RunOptions.of(options)
    path, index = split_index(only_file(files, KIND))
    report = JsonObject(path, "", read_document(path))
    benchmark = _benchmark(report, index)
    if _is_of_0_1(benchmark.fields):
        raise benchmark.fail(
            "requests", "is missing: this is a report of GuideLLM 0.1", "use GuideLLM 0.2 or newer"
        )
    measured_from = benchmark.number("start_time", signed=True)  # -1 in 0.4
    warmed = "warmup_duration" in benchmark and benchmark.number("warmup_duration") > 0
    requests, warmups, bad = [], 0, LeftOut(chosen.skip_bad)
    for record, outcome in _records(benchmark):
        with bad.where_bad():
            request = _request(record, outcome)
            if warmed and request.sent_ns is not None and request.sent_ns < to_ns(measured_from):
                warmups += 1
            else:
                requests.append(request)
    config = benchmark.record_or_empty("config")
    strategy = _strategy(benchmark, config)
    load = _load(strategy, requests)
    scheduled = strategy.fields.get("type_") in _SCHEDULED
    if not load.is_open and requests:
        begin = min(request.arrival_ns for request in requests)
        for request in requests:
            request.due_ns = request.arrival_ns if scheduled else begin
            if strategy.fields.get("type_") in _LIMITED:
                # All were due when it began, or on a schedule: they arrive when a place is free.
                request.arrival_ns = request.sent_ns or request.arrival_ns
    metadata = report.record_or_empty("metadata")
    notes = [
        f"{warmups} warm-up requests left out",
        "arrival = targeted_start, when the request was due; GuideLLM's own TTFT starts later, "
        "at request_start",
    ]
    write_imported(
        out,
        KIND,
        path,
        requests,
        clock="client",
        not_recovered=[
            "engine settings",
            "hardware",
            "scheduled times",
            "prompt lengths of failed requests (0)",
        ],
        notes=notes,
        meta={
            "model": _model(benchmark, config),
            "warmup": {"requests": warmups} if warmups else None,
        },
        tool={
            "guidellm_version": metadata.fields.get("guidellm_version"),
            "strategy": strategy.fields or None,
            "benchmark": index or 0,
        },
        load=load,
        left_out=bad,
        options=chosen,
    )


def _strategy(benchmark: JsonObject, config: JsonObject) -> JsonObject:
    """In the configuration, in 0.4 in the scheduler's, before in the arguments."""
    places = (config, *map(benchmark.record_or_empty, ("scheduler", "args")))
    for place in places:
        if isinstance(place.fields.get("strategy"), dict):
            return place.record("strategy")
    return JsonObject(benchmark.path, "strategy", {})


def _model(benchmark: JsonObject, config: JsonObject) -> str | None:
    """Whom it asked: in the configuration, in 0.4 in the benchmarker's, before in the worker's."""
    for place in (config, benchmark.record_or_empty("benchmarker")):
        if "backend" in place:
            return place.record("backend").text_or_none("model")
    return benchmark.record_or_empty("worker").text_or_none("backend_model")


def _load(strategy: JsonObject, requests: Sequence[ImportedRequest]) -> Load:
    """One request after another, or so many streams of them, is a closed loop.

    Of the others each report of newer releases states a limit, whether it held requests back or
    not: it is one where so many were under way at once.
    """
    kind = strategy.fields.get("type_")
    if kind == "synchronous":
        return Load(1)
    if kind == "concurrent" and "streams" in strategy:
        return Load(strategy.integer("streams", least=1))
    if kind in _LIMITED and "max_concurrency" in strategy:
        limit = strategy.integer("max_concurrency", least=1)
        if most_at_once(requests) >= limit:
            return Load(limit)
    return Load()


def _benchmark(report: JsonObject, index: int | None) -> JsonObject:
    entry = choose(report.path, "benchmarks", report.array("benchmarks"), index)
    return JsonObject(report.path, f"benchmarks[{index or 0}]", entry)


def _records(benchmark: JsonObject) -> list[tuple[JsonObject, str]]:
    by_outcome = benchmark.record("requests")
    found = [
        (JsonObject(benchmark.path, f"{by_outcome.place(outcome)}[{i}]", entry), outcome)
        for outcome in _OUTCOMES
        if outcome in by_outcome
        for i, entry in enumerate(by_outcome.array(outcome))
    ]
    statistics = "scheduler_metrics" if "scheduler_metrics" in benchmark else "run_stats"
    metrics = benchmark.record_or_empty(statistics)
    counts = metrics.record_or_empty("requests_made").fields
    parts = [counts[outcome] for outcome in _OUTCOMES if type(counts.get(outcome)) is int]
    made = counts["total"] if type(counts.get("total")) is int else sum(parts)
    if made > len(found):
        raise by_outcome.fail(
            "successful",
            f"the report keeps {len(found)} of {made} requests",
            "run guidellm without sampling of requests",
        )
    return found


def _request(record: JsonObject, outcome: str) -> ImportedRequest:
    if "scheduler_info" in record and "scheduler_timings" not in record.record("scheduler_info"):
        return _request_of_0_2(record, outcome)
    info = record.record("info" if "info" in record else "scheduler_info")
    timings = _timings(info)
    sent = _optional(timings, "request_start")
    due = _optional(timings, "targeted_start")
    if due is None:
        due = sent if sent is not None else timings.seconds("resolve_start")
    request = ImportedRequest(
        record.where,
        # Two clocks' readings: a request is not sent before it is due.
        to_ns(due if sent is None else min(due, sent)),
        _prompt_tokens(record),
        num_decode_tokens=_asked(record),
        sent_ns=None if sent is None else to_ns(sent),
        prompt=SentPrompt.of_body(_sent_body(record) or record.fields, record.fields.get("output")),
    )
    conversation = info.fields.get("conversation_id")
    if isinstance(conversation, str):
        turn = info.integer("turn_index") if "turn_index" in info else None
        request.conversation = conversation, turn
    if outcome != "successful":
        return _failed(request, info.fields.get("error"), outcome)
    if sent is None:
        raise timings.fail("request_start", "is missing")
    # Before 0.5 iterations were those of tokens alone.
    of = "token_iteration" if "first_token_iteration" in timings else "iteration"
    if f"first_{of}" not in timings:
        raise timings.fail(
            "first_token_iteration", "is missing, so TTFT is unknown", "measure with streaming"
        )
    first, last = timings.seconds(f"first_{of}"), timings.seconds(f"last_{of}")
    return _served(record, request, sent, first, last)


def _prompt_tokens(record: JsonObject) -> int:
    """Tokens of the prompt, pictures and sounds among them, of which 0.4's own count has none."""
    usage = record.record_or_empty("input_metrics")
    if "total_tokens" in usage:
        return usage.integer("total_tokens")
    return record.integer("prompt_tokens") if "prompt_tokens" in record else 0


def _timings(info: JsonObject) -> JsonObject:
    """A request's times; early in 0.4 the scheduler's and the client's lay apart."""
    if "timings" in info or "scheduler_timings" not in info:
        return info.record("timings")
    apart = map(info.record_or_empty, ("scheduler_timings", "request_timings"))
    merged = {key: value for part in apart for key, value in part.fields.items()}
    return JsonObject(info.path, info.place("timings"), merged)


def _request_of_0_2(record: JsonObject, outcome: str) -> ImportedRequest:
    """A request as GuideLLM 0.2 and 0.3 wrote it."""
    scheduled = record.record("scheduler_info")
    sent = record.seconds("start_time")
    due = sent
    if "targeted_start_time" in scheduled:
        due = min(sent, scheduled.seconds("targeted_start_time"))
    text = record.fields.get("prompt")
    request = ImportedRequest(
        record.where,
        to_ns(due),
        record.integer("prompt_tokens") if "prompt_tokens" in record else 0,
        sent_ns=to_ns(sent),
        prompt=SentPrompt(text=text) if isinstance(text, str) and text else None,
    )
    if outcome != "successful":
        return _failed(request, record.fields.get("error"), outcome)
    first, last = record.seconds("first_token_time"), record.seconds("last_token_time")
    return _served(record, request, sent, first, last)


def _failed(request: ImportedRequest, error: Any, outcome: str) -> ImportedRequest:
    text = error if isinstance(error, str) else outcome
    request.error_type, request.error_msg = describe_error(text.partition("(")[0] + ": " + text)
    request.refused = is_refusal(text)
    return request


def _served(
    record: JsonObject, request: ImportedRequest, sent: float, first: float, last: float
) -> ImportedRequest:
    _check_unit(record, sent, first)
    request.first_token_ns, request.completion_ns = to_ns(first), to_ns(last)
    produced = record.integer("output_tokens")
    if produced == 0:
        request.error_type, request.error_msg = "no_output", "output_tokens is 0"
        return request
    request.num_decode_tokens_actual = produced
    if produced == 1:
        request.token_times_ns = [to_ns(first)]
        request.completion_ns = to_ns(first)
    if "cached_tokens" in record:
        request.num_cached_tokens = record.integer("cached_tokens")
    return request


def _optional(timings: JsonObject, key: str) -> float | None:
    return timings.seconds(key) if key in timings else None


def _sent_body(record: JsonObject) -> Any:
    """The request as it was sent, where the report keeps it."""
    text = record.fields.get("request_args")
    if not isinstance(text, str):
        return None
    try:
        document = parse_json(text, record.path)
    except InputError:
        return None
    return document.get("body") if isinstance(document, dict) else None


def _asked(record: JsonObject) -> int | None:
    """The output length that was asked for, from the request as it was sent."""
    body = _sent_body(record)
    if not isinstance(body, dict):
        return None
    asked = body.get("max_tokens", body.get("max_completion_tokens"))
    return asked if type(asked) is int and asked > 0 else None


def _check_unit(record: JsonObject, sent: float, first: float) -> None:
    """GuideLLM's own TTFT, in ms, is the distance of two of its time stamps, in s."""
    if "time_to_first_token_ms" not in record:
        return
    stated = record.number("time_to_first_token_ms") / 1000
    # The two may be taken some microseconds apart; a unit mistake is a factor of a thousand.
    if abs(stated - (first - sent)) > max(_SLACK_S, 0.5 * stated):
        raise InputError(
            record.path,
            record.place("time_to_first_token_ms"),
            f"is {stated * 1000:.6g}, the time stamps give {(first - sent) * 1000:.6g} ms: "
            "not the same unit",
        )
