"""GuideLLM's ``benchmarks.json``: one or more benchmarks, each with its requests by outcome.

Read from files of GuideLLM 0.8 (``--output kind=json``). Times are wall-clock seconds of the load
generator, of which it keeps the first and the last token's, not those between.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytest_gpusim.documents import (
    JsonObject,
    first_document,
    read_document,
    to_ns,
)
from pytest_gpusim.errors import InputError
from pytest_gpusim.runs.importers.base import (
    ImportedRequest,
    describe_error,
    only_file,
    recognised_by,
    split_index,
    write_imported,
)

KIND = "guidellm"
_OUTCOMES = ("successful", "errored", "incomplete")
# Wall-clock seconds as floats have a grain of a quarter of a microsecond.
_SLACK_S = 1e-5


def recognises(path: Path) -> bool:
    """Whether this looks like GuideLLM's report."""
    document = first_document(split_index(path)[0])
    if not isinstance(document, dict) or not isinstance(document.get("benchmarks"), list):
        return False
    metadata = document.get("metadata")
    return isinstance(metadata, dict) and "guidellm_version" in metadata


@recognised_by(recognises)
def import_run(files: Sequence[Path], out: Path) -> None:
    """Write the run of one benchmark of a report; ``FILE#2`` names the third of several.

    Requests sent before GuideLLM began to measure (its warm-up) stay out.

    Raises:
        InputError: The file is not one, holds several benchmarks and none is named, or a request
            contradicts itself.
    """
    path, index = split_index(only_file(files, KIND))
    report = JsonObject(path, "", read_document(path))
    benchmark = _benchmark(report, index)
    measured_from = benchmark.seconds("start_time")
    warmed = "warmup_duration" in benchmark and benchmark.number("warmup_duration") > 0
    requests, warmups = [], 0
    for record, outcome in _records(benchmark):
        request = _request(record, outcome)
        if warmed and request.sent_ns is not None and request.sent_ns < to_ns(measured_from):
            warmups += 1
        else:
            requests.append(request)
    config = benchmark.record_or_empty("config")
    metadata = report.record_or_empty("metadata")
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
        notes=[
            f"{warmups} warm-up requests left out",
            "arrival = targeted_start, when the request was due; GuideLLM's own TTFT starts later, "
            "at request_start",
        ],
        meta={
            "model": config.record_or_empty("backend").text_or_none("model"),
            "warmup": {"requests": warmups} if warmups else None,
        },
        tool={
            "guidellm_version": metadata.fields.get("guidellm_version"),
            "strategy": config.fields.get("strategy"),
            "benchmark": index or 0,
        },
    )


def _benchmark(report: JsonObject, index: int | None) -> JsonObject:
    benchmarks = report.array("benchmarks")
    if not benchmarks:
        raise report.fail("benchmarks", "is empty")
    if index is None and len(benchmarks) > 1:
        raise report.fail(
            "benchmarks",
            f"has {len(benchmarks)}, each a run of its own",
            f"name one: {report.path}#0 to #{len(benchmarks) - 1}",
        )
    if (index or 0) >= len(benchmarks):
        raise report.fail("benchmarks", f"has {len(benchmarks)}, there is no #{index}")
    return JsonObject(report.path, f"benchmarks[{index or 0}]", benchmarks[index or 0])


def _records(benchmark: JsonObject) -> list[tuple[JsonObject, str]]:
    by_outcome = benchmark.record("requests")
    found = [
        (JsonObject(benchmark.path, f"{by_outcome.place(outcome)}[{i}]", entry), outcome)
        for outcome in _OUTCOMES
        if outcome in by_outcome
        for i, entry in enumerate(by_outcome.array(outcome))
    ]
    metrics = benchmark.record_or_empty("scheduler_metrics")
    made = metrics.record_or_empty("requests_made").fields.get("total")
    if isinstance(made, int) and made > len(found):
        raise by_outcome.fail(
            "successful",
            f"the report keeps {len(found)} of {made} requests",
            "run guidellm without sampling of requests",
        )
    return found


def _request(record: JsonObject, outcome: str) -> ImportedRequest:
    info = record.record("info")
    timings = info.record("timings")
    sent = _optional(timings, "request_start")
    due = _optional(timings, "targeted_start")
    if due is None:
        due = sent if sent is not None else timings.seconds("resolve_start")
    request = ImportedRequest(
        record.where,
        # Two clocks' readings: a request is not sent before it is due.
        to_ns(due if sent is None else min(due, sent)),
        record.integer("prompt_tokens") if "prompt_tokens" in record else 0,
        num_decode_tokens=_asked(record),
        sent_ns=None if sent is None else to_ns(sent),
    )
    if outcome != "successful":
        error = info.fields.get("error")
        text = error if isinstance(error, str) else outcome
        request.error_type, request.error_msg = describe_error(text.partition("(")[0] + ": " + text)
        return request
    if sent is None:
        raise timings.fail("request_start", "is missing")
    first, last = timings.seconds("first_token_iteration"), timings.seconds("last_token_iteration")
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


def _asked(record: JsonObject) -> int | None:
    """The output length that was asked for, from the request as it was sent."""
    try:
        body: Any = json.loads(record.fields["request_args"])["body"]
        asked = body.get("max_tokens", body.get("max_completion_tokens"))
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return None
    return asked if type(asked) is int and asked > 0 else None


def _check_unit(record: JsonObject, sent: float, first: float) -> None:
    """GuideLLM's own TTFT, in ms, is the distance of two of its time stamps, in s."""
    if "time_to_first_token_ms" not in record:
        return
    stated = record.number("time_to_first_token_ms") / 1000
    if abs(stated - (first - sent)) > _SLACK_S:
        raise InputError(
            record.path,
            record.place("time_to_first_token_ms"),
            f"is {stated * 1000:.6g}, the time stamps give {(first - sent) * 1000:.6g} ms: "
            "not the same unit",
        )
