"""AIPerf's ``profile_export.jsonl``: one record per request, each metric with its unit.

Read from files of AIPerf 0.13 (``--export-level records``, its default). Times are wall-clock
nanoseconds of the load generator; metrics carry units of their own and are converted by them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from pytest_gpusim.documents import (
    NS,
    JsonObject,
    check_integer,
    check_number,
    first_document,
    read_lines,
)
from pytest_gpusim.errors import InputError
from pytest_gpusim.runs.importers.base import (
    ImportedRequest,
    only_file,
    recognised_by,
    write_imported,
)

KIND = "aiperf"
FILE, SUMMARY = "profile_export.jsonl", "profile_export_aiperf.json"
_UNITS_NS = {"ns": 1, "us": 1_000, "µs": 1_000, "ms": 1_000_000, "s": NS, "sec": NS}
_SLACK_NS = 10_000


def recognises(path: Path) -> bool:
    """Whether this looks like AIPerf's records, or the directory that it leaves behind."""
    first = first_document(path / FILE if path.is_dir() else path)
    return (
        isinstance(first, dict)
        and isinstance(first.get("metrics"), dict)
        and isinstance(first.get("metadata"), dict)
        and "benchmark_phase" in first["metadata"]
    )


@recognised_by(recognises)
def import_run(files: Sequence[Path], out: Path) -> None:
    """Write the run of a ``profile_export.jsonl`` (or of the directory that holds it).

    Records of the warm-up phase stay out.

    Raises:
        InputError: The file is not one, or a record contradicts itself.
    """
    given = only_file(files, KIND)
    path = given / FILE if given.is_dir() else given
    requests: list[ImportedRequest] = []
    warmups = 0
    for record in read_lines(path):
        metadata = record.record("metadata")
        phase = metadata.text("benchmark_phase")
        if phase == "warmup":
            warmups += 1
        elif phase == "profiling":
            requests.append(_request(record, metadata))
        else:
            raise metadata.fail("benchmark_phase", f"expected warmup or profiling, found {phase!r}")
    if not requests and warmups:
        raise InputError(path, "", f"has no measured requests, only {warmups} of the warm-up")
    model, version = _summary(path.with_name(SUMMARY))
    write_imported(
        out,
        KIND,
        path,
        requests,
        clock="client",
        not_recovered=[
            *([] if model else ["model"]),
            "engine settings",
            "hardware",
            "scheduled times",
            "prompt lengths of failed requests (0)",
        ],
        notes=[
            f"{warmups} warm-up records left out",
            "arrival = credit_issued_ns, when the load generator released the request; "
            "AIPerf's own TTFT starts later, at request_start_ns",
        ],
        meta={"model": model, "warmup": {"requests": warmups} if warmups else None},
        tool={"aiperf_version": version},
    )


def _summary(path: Path) -> tuple[str | None, str | None]:
    """(model, version of AIPerf), from its summary where that lies beside the records."""
    document = first_document(path)
    if not isinstance(document, dict):
        return None, None
    try:
        (item,) = document["input_config"]["models"]["items"]
        model = str(item["name"])
    except (LookupError, TypeError, ValueError):
        model = None
    version = document.get("aiperf_version")
    return model, version if isinstance(version, str) else None


def _request(record: JsonObject, metadata: JsonObject) -> ImportedRequest:
    start = metadata.integer("request_start_ns")
    issued = metadata.integer("credit_issued_ns") if "credit_issued_ns" in metadata else start
    metrics = record.record("metrics")
    request = ImportedRequest(record.where, min(issued, start), 0, sent_ns=start)
    if "input_sequence_length" in metrics:
        request.num_prefill_tokens = _count(metrics, "input_sequence_length")
    if "error" in record:
        error = record.record("error")
        request.error_type = str(error.fields.get("type") or error.fields.get("code") or "error")
        request.error_msg = str(error.fields.get("message") or request.error_type)
        return request
    if metadata.fields.get("was_cancelled"):
        request.error_type, request.error_msg = "cancelled", "cancelled by the load generator"
        return request

    ttft = _time_ns(metrics, "time_to_first_token")
    latency = _time_ns(metrics, "request_latency")
    end = metadata.integer("request_end_ns")
    if start + latency > end + _SLACK_NS:
        raise metrics.fail(
            "request_latency",
            f"is {latency} ns, the record lasts {end - start} ns: not in the unit that it states",
        )
    request.first_token_ns = start + ttft
    request.completion_ns = start + latency
    if "output_sequence_length" not in metrics:
        raise metrics.fail("output_sequence_length", "is missing")
    produced = _count(metrics, "output_sequence_length")
    if produced == 0:
        request.error_type, request.error_msg = "no_output", "output_sequence_length is 0"
        return request
    request.num_decode_tokens_actual = produced
    if "usage_prompt_cache_read_tokens" in metrics:
        request.num_cached_tokens = _count(metrics, "usage_prompt_cache_read_tokens")
    request.token_times_ns = _token_times(metrics, start + ttft, start + latency, produced)
    return request


def _token_times(metrics: JsonObject, first: int, last: int, produced: int) -> list[int] | None:
    """One time per token, where every chunk held one; else None."""
    gaps: list[int] = []
    if "inter_chunk_latency" in metrics:
        metric = metrics.record("inter_chunk_latency")
        scale = _unit(metric)
        gaps = [
            _scaled(metric, f"value[{k}]", gap, scale)
            for k, gap in enumerate(metric.array("value"))
        ]
    if len(gaps) + 1 != produced:
        return None
    times = [first + gap for gap in accumulate(gaps, initial=0)]
    if abs(times[-1] - last) > _SLACK_NS:
        raise metrics.fail(
            "inter_chunk_latency",
            f"ends {(times[-1] - last) / NS:.6g} s from request_latency: not in the same unit",
        )
    times[-1] = max(last, times[-2]) if len(times) > 1 else last
    return times


def _time_ns(metrics: JsonObject, key: str) -> int:
    metric = metrics.record(key)
    return _scaled(metric, "value", metric.value("value"), _unit(metric))


def _scaled(metric: JsonObject, key: str, value: Any, scale: int) -> int:
    """``value`` in units of ``scale`` ns, held to what 64 bits of nanoseconds hold."""
    number = check_number(metric.path, metric.place(key), value)
    return round(check_number(metric.path, metric.place(key), number * scale))


def _count(metrics: JsonObject, key: str) -> int:
    metric = metrics.record(key)
    return check_integer(metric.path, metric.place("value"), metric.value("value"))


def _unit(metric: JsonObject) -> int:
    unit = metric.text("unit")
    if unit not in _UNITS_NS:
        raise metric.fail("unit", f"expected one of {', '.join(_UNITS_NS)}, found {unit!r}")
    return _UNITS_NS[unit]
