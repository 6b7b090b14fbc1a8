"""AIPerf's ``profile_export.jsonl``: one record per request, each metric with its unit.

Read from files of AIPerf 0.13 (``--export-level records``, its default); a prefix of its files that
the user chose is followed. Times are wall-clock nanoseconds of the load generator; metrics carry
units and are converted by them. ``inputs.json`` beside the records has the requests as sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from pytest_gpusim.documents import (
    NS,
    JsonObject,
    LeftOut,
    check_integer,
    check_number,
    first_document,
    read_document,
    read_lines,
)
from pytest_gpusim.errors import InputError
from pytest_gpusim.runs.importers.aiperf_summary import Summary
from pytest_gpusim.runs.importers.base import ImportedRequest, due_at_once, write_imported
from pytest_gpusim.runs.importers.failures import is_refusal
from pytest_gpusim.runs.importers.files import (
    choose,
    only_file,
    recognised_by,
    require_counted,
    split_index,
)
from pytest_gpusim.runs.importers.options import RunOptions
from pytest_gpusim.runs.importers.shared_prompts import SentPrompt

KIND = "aiperf"
FILE, INPUTS = "profile_export.jsonl", "inputs.json"
_UNITS_NS = {"ns": 1, "us": 1_000, "µs": 1_000, "ms": 1_000_000, "s": NS, "sec": NS}
_SLACK_NS = 10_000
# What AIPerf itself writes as time units of a metric is exact; chunks after the last token are not.
_UNIT_FACTOR = 10
_OUTPUT = "output_sequence_length"


def recognises(path: Path) -> bool:
    """Whether this looks like AIPerf's records, or the directory that it leaves behind."""
    path = split_index(path)[0]
    return bool(_record_files(path)) if path.is_dir() else _has_records(path)


def _has_records(path: Path) -> bool:
    first = first_document(path)
    if isinstance(first, list):  # what was put together to an array
        first = first[0] if first else None
    return (
        isinstance(first, dict)
        and "metrics" in first
        and isinstance(first.get("metadata"), dict)
        and "benchmark_phase" in first["metadata"]
    )


def _record_files(directory: Path) -> list[Path]:
    """The records in a directory; the default name goes before a prefix's."""
    if _has_records(directory / FILE):
        return [directory / FILE]
    files = (*directory.glob("*.jsonl"), *directory.glob("*.jsonl.gz"))
    return [path for path in sorted(files) if _has_records(path)]


def runs_in(path: Path) -> int:
    """How many phases were measured one after another."""
    measured = (
        record.record("metadata")
        for record in read_lines(_records(path), or_array=True)
        if record.record("metadata").fields.get("benchmark_phase") == "profiling"
    )
    return max(1, len({_phase(metadata) for metadata in measured}))


@recognised_by(recognises, runs_in=runs_in)
def import_run(files: Sequence[Path], out: Path, options: Mapping[str, Any] | None = None) -> None:
    """Write the run of a ``profile_export.jsonl`` (or of the directory that holds it).

    Records of the warm-up phase stay out; ``FILE#1`` names the second of several measured phases.

    Raises:
        InputError: The file is not one, or a record contradicts itself.
    """
    chosen = RunOptions.of(options)
    given, index = split_index(only_file(files, KIND))
    path = _records(given)
    prompts = _sent_prompts(_beside(path, INPUTS))
    by_phase: dict[int | None, list[ImportedRequest]] = {}
    warmups, uncounted = 0, False
    bad = LeftOut(chosen.skip_bad)
    for record in read_lines(path, or_array=True, bad=bad):
        with bad.where_bad():
            metadata = record.record("metadata")
            kind = metadata.text("benchmark_phase")
            if kind not in ("warmup", "profiling"):
                raise metadata.fail(
                    "benchmark_phase", f"expected warmup or profiling, found {kind!r}"
                )
            if kind == "warmup":
                warmups += 1
                continue
            request = _request(record, metadata)
            metrics = record.record_or_empty("metrics")
            uncounted |= "usage_prompt_tokens" not in metrics and any(
                key in metrics for key in ("num_images", "num_videos", "num_audios")
            )
            conversation = metadata.fields.get("conversation_id")
            if isinstance(conversation, list | dict):
                raise metadata.fail("conversation_id", "expected a string")
            sent = prompts.get((conversation, _turn(metadata)))
            if sent is not None:
                request.prompt, request.model = sent
            by_phase.setdefault(_phase(metadata), []).append(request)
    phases = sorted(by_phase, key=lambda number: number or 0)
    requests = by_phase[choose(path, "measured phases", phases, index)] if phases else []
    if not requests and warmups:
        raise InputError(path, "", f"has no measured requests, only {warmups} of the warm-up")
    summary = Summary(_beside(path, "{}_aiperf.json"))
    _require_one_model(path, summary, requests)
    every = [request for each in by_phase.values() for request in each]
    failed = sum(request.error_type not in (None, "no_output") for request in every)
    held = {"answered": len(every) - failed, "failed": failed}
    for what, counted in summary.counts.items():
        if not chosen.skip_bad:
            require_counted(path, what, held[what], counted)
    load = summary.load(index or 0)
    if not load.is_open:
        due_at_once(requests)
    notes = [
        f"{warmups} warm-up records left out",
        "arrival = credit_issued_ns, when the load generator released the request; "
        "AIPerf's own TTFT starts later, at request_start_ns",
        "lengths are the server's where it told them (usage), else AIPerf's count of the texts",
    ]
    write_imported(
        out,
        KIND,
        path,
        requests,
        clock="client",
        not_recovered=[
            *([] if summary.models else ["model"]),
            "engine settings",
            "hardware",
            "scheduled times",
            "prompt lengths of failed requests that the record does not tell (0)",
            *(["tokens of pictures, video and sound"] if uncounted else []),
        ],
        notes=notes,
        meta={
            "model": summary.models[0] if len(summary.models) == 1 else None,
            "warmup": {"requests": warmups} if warmups else None,
        },
        tool={
            "aiperf_version": summary.version,
            **({"phase": index} if index is not None else {}),
        },
        load=load,
        left_out=bad,
        options=chosen,
    )


def _records(given: Path) -> Path:
    if not given.is_dir():
        return given
    found = _record_files(given)
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise InputError(given, "", f"holds the records of {len(found)} runs: {names}", "name one")
    return found[0] if found else given / FILE


def _beside(records: Path, name: str) -> Path:
    """A file beside the records, by the name that they begin with, packed or not."""
    stem = records.name.removesuffix(".gz").rpartition(".")[0]
    plain = records.with_name(name.format(stem))
    packed = plain.with_name(f"{plain.name}.gz")
    return packed if packed.is_file() and not plain.exists() else plain


def _phase(metadata: JsonObject) -> int | None:
    """Which of the measured phases; None where the record does not say."""
    number = metadata.fields.get("profiling_index")
    return number if type(number) is int else None


def _require_one_model(path: Path, summary: Summary, requests: Sequence[ImportedRequest]) -> None:
    """Refuse a run of several models whose records do not tell which served them."""
    if len(summary.models) > 1 and any(request.model is None for request in requests):
        names = ", ".join(summary.models)
        raise InputError(
            path,
            "",
            f"the run asked {len(summary.models)} models ({names}), its records do not say which",
            f"leave {INPUTS} beside it, or measure one model at a time",
        )


def _sent_prompts(path: Path) -> dict[tuple[Any, int], tuple[SentPrompt | None, str | None]]:
    """Prompts and models by conversation and turn, from ``inputs.json`` beside the records."""
    if not path.is_file():
        return {}
    found: dict[tuple[Any, int], tuple[SentPrompt | None, str | None]] = {}
    inputs = JsonObject(path, "", read_document(path))
    for number, entry in enumerate(inputs.array("data") if "data" in inputs else []):
        session = JsonObject(path, f"data[{number}]", entry)
        for turn, payload in enumerate(session.array("payloads")):
            model = payload.get("model") if isinstance(payload, dict) else None
            found[session.text("session_id"), turn] = (
                SentPrompt.of_body(payload),
                model if isinstance(model, str) else None,
            )
    return found


def _request(record: JsonObject, metadata: JsonObject) -> ImportedRequest:
    start = metadata.integer("request_start_ns")
    issued = metadata.integer("credit_issued_ns") if "credit_issued_ns" in metadata else start
    # A record of a failed request may have no metrics at all.
    failed = bool(record.fields.get("error"))
    metrics = record.record_or_empty("metrics") if failed else record.record("metrics")
    request = ImportedRequest(record.where, min(issued, start), 0, sent_ns=start)
    identity = metadata.fields.get("x_request_id")
    request.identity = identity if isinstance(identity, str) else None
    # A conversation of the data set may be held several times, each time with an id of its own.
    conversation = metadata.fields.get("x_correlation_id") or metadata.fields.get("conversation_id")
    if isinstance(conversation, str):
        request.conversation = conversation, _turn(metadata)
    # What the server counted has the chat's template, too.
    for key in ("usage_prompt_tokens", "input_sequence_length", "error_isl"):
        if key in metrics:
            request.num_prefill_tokens = _count(metrics, key)
            break
    if failed:
        error = record.record("error")
        code, kind = error.fields.get("code"), error.fields.get("type")
        request.error_type = str(kind or code or "error")
        request.error_msg = str(error.fields.get("message") or request.error_type)
        request.refused = is_refusal(code, request.error_msg)
        return request
    if metadata.fields.get("was_cancelled"):
        request.error_type, request.error_msg = "cancelled", "cancelled by the load generator"
        return request

    if "time_to_first_token" not in metrics:
        raise metrics.fail("time_to_first_token", "is missing", "run aiperf with --streaming")
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
    told = "usage_completion_tokens" if "usage_completion_tokens" in metrics else _OUTPUT
    if told not in metrics:
        raise metrics.fail(told, "is missing")
    produced = _count(metrics, told)
    if produced == 0:
        request.error_type, request.error_msg = "no_output", f"{told} is 0"
        return request
    request.num_decode_tokens_actual = produced
    if "usage_prompt_cache_read_tokens" in metrics:
        request.num_cached_tokens = _count(metrics, "usage_prompt_cache_read_tokens")
    request.token_times_ns = _token_times(metrics, start + ttft, start + latency, produced)
    if request.token_times_ns is not None:
        request.completion_ns = request.token_times_ns[-1]
    return request


def _turn(metadata: JsonObject) -> int:
    return metadata.integer("turn_index") if "turn_index" in metadata else 0


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
    span, stated = times[-1] - first, last - first
    if abs(span - stated) > _SLACK_NS and not (
        stated <= span * _UNIT_FACTOR and span <= stated * _UNIT_FACTOR
    ):
        raise metrics.fail(
            "inter_chunk_latency",
            f"ends {(times[-1] - last) / NS:.6g} s from request_latency: not in the same unit",
        )
    # The latency may end with a chunk of usage alone; the same instant may be rounded twice.
    if abs(times[-1] - last) <= _SLACK_NS:
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
