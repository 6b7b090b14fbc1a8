"""``vllm bench serve --save-result --save-detailed``: one JSON object with parallel arrays.

Field meanings are those of ``vllm/benchmarks/serve.py`` (0.6 to 0.32); its Rust client and SGLang's
``bench_serving --output-details`` (``python/sglang/bench_serving.py``) write the same arrays. All
times are seconds on the client: ``start_times`` on its monotonic clock, ``ttfts``, ``itls`` and
``latencies`` from there. ``--append-result`` puts one object after another into a file, ``vllm
bench sweep serve`` a list of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from statistics import median
from typing import Any

from pytest_gpusim.documents import (
    JsonObject,
    LeftOut,
    check_integer,
    check_seconds,
    first_document,
    read_documents,
    shown,
    to_ns,
)
from pytest_gpusim.errors import InputError
from pytest_gpusim.progress import counted
from pytest_gpusim.runs.importers.base import ImportedRequest, due_at_once, write_imported
from pytest_gpusim.runs.importers.failures import describe_error, is_refusal
from pytest_gpusim.runs.importers.files import choose, only_file, recognised_by, split_index
from pytest_gpusim.runs.importers.options import RunOptions
from pytest_gpusim.runs.importers.wrapped import IsOne, all_in, holds
from pytest_gpusim.workload.load import Load

KIND, SGLANG = "vllm-bench", "sglang"
_FIX = "run vllm bench serve with --save-result --save-detailed"
_SGLANG_FIX = "run sglang.bench_serving with --output-details"
_TOOL_KEYS = (
    "date",
    "backend",
    "endpoint_type",
    "label",
    "tokenizer_id",
    "dataset_name",
    "num_prompts",
    "request_rate",
    "burstiness",
    "ramp_up_strategy",
    "ramp_up_start_rps",
    "ramp_up_end_rps",
    "max_concurrency",
    "duration",
    "completed",
)
_IS_ONE: dict[str, IsOne] = {
    KIND: lambda document: (
        isinstance(document, dict) and {"model_id", "duration", "completed"} <= document.keys()
    ),
    SGLANG: lambda document: (
        isinstance(document, dict)
        and "model_id" not in document
        and {"backend", "request_rate", "duration", "completed"} <= document.keys()
    ),
}
_WITHOUT_TOKENS = ("embedding", "pooling", "rerank", "classify")
_SPECULATIVE = "spec_decode_"
# A unit mistake is a factor of a thousand; chunks after the last token are some percent.
_UNIT_FACTOR = 10.0


def recognises(path: Path) -> bool:
    """Whether this looks like a result of ``vllm bench serve``, detailed or not."""
    return holds(first_document(split_index(path)[0]), _IS_ONE[KIND])


def recognises_sglang(path: Path) -> bool:
    """Whether this looks like a result of SGLang's ``bench_serving``, detailed or not."""
    return holds(first_document(split_index(path)[0]), _IS_ONE[SGLANG])


def runs_in(path: Path) -> int:
    """How many results a file holds, appended one after another or in a list."""
    kind = KIND if recognises(path) else SGLANG
    return len(_results(path, kind))


def _results(path: Path, kind: str) -> list[Any]:
    is_one = _IS_ONE[kind]
    documents = read_documents(path)
    return [one for document in documents for one in all_in(document, is_one) or [document]]


@recognised_by(recognises, runs_in=runs_in)
def import_run(files: Sequence[Path], out: Path, options: Mapping[str, Any] | None = None) -> None:
    """Write the run of a detailed result file; ``FILE#1`` names the second of appended results.

    Raises:
        InputError: The file is not one, or its arrays contradict each other.
    """
    _import(files, out, RunOptions.of(options), KIND, _FIX)


@recognised_by(recognises_sglang, runs_in=runs_in)
def import_sglang(
    files: Sequence[Path], out: Path, options: Mapping[str, Any] | None = None
) -> None:
    """Write the run of SGLang's ``bench_serving --output-details``.

    Raises:
        InputError: The file is not one, or does not tell when requests were sent.
    """
    _import(files, out, RunOptions.of(options), SGLANG, _SGLANG_FIX)


@dataclass(frozen=True)
class _Result:
    """Requests, and what is said of them: notes, and what the file does not tell."""

    requests: list[ImportedRequest]
    notes: list[str]
    lost: list[str]
    left_out: LeftOut


def _import(files: Sequence[Path], out: Path, options: RunOptions, kind: str, fix: str) -> None:
    path, index = split_index(only_file(files, kind))
    document = choose(path, "results", _results(path, kind), index)
    result = JsonObject(path, "", document)
    needed = ["ttfts", "itls", "input_lens", "output_lens"]
    for key in ["model_id", *needed] if kind == KIND else needed:
        if key not in result:
            backend = str(result.fields.get("backend"))
            if any(kind in backend for kind in _WITHOUT_TOKENS):
                raise result.fail(key, f"is missing: {backend} answers without tokens")
            raise result.fail(key, "is missing", fix)
    load = _load(result)
    read = _read(result, load, options, kind)
    speculative = {
        key: value
        for key, value in result.fields.items()
        if _SPECULATIVE in key or (kind == SGLANG and key == "accept_length")
    }
    meta: dict[str, Any] = {"model": result.text_or_none("model_id")}
    if any(value is not None for value in speculative.values()):
        meta["engine"] = {"speculative_config": _speculation(result)}
    write_imported(
        out,
        kind,
        path,
        read.requests,
        clock="client",
        not_recovered=read.lost,
        notes=read.notes,
        meta=meta,
        tool={
            **{key: result.fields[key] for key in _TOOL_KEYS if key in result},
            **speculative,
            "result": index or 0,
        },
        load=load,
        left_out=read.left_out,
        options=options,
    )


def _load(result: JsonObject) -> Load:
    if "max_concurrency" not in result:
        return Load()
    return Load(result.integer("max_concurrency", least=1))


def _speculation(result: JsonObject) -> dict[str, Any]:
    """What the client's figures tell of the engine's speculative decoding."""
    positions = result.fields.get("spec_decode_per_position_acceptance_rates")
    return {"num_speculative_tokens": len(positions)} if isinstance(positions, list) else {"on": 1}


def _read(result: JsonObject, load: Load, options: RunOptions, kind: str) -> _Result:
    path = result.path
    count = len(result.array("ttfts"))
    made = sum(result.integer(key) for key in ("completed", "failed") if key in result)
    if count < made:
        raise result.fail("ttfts", f"has {count} of the {made} requests that the result counts")

    def column(key: str) -> list[Any]:
        return result.array(key, count, "ttfts")

    columns = {key: column(key) for key in ("ttfts", "input_lens", "output_lens", "itls")}
    for key in ("errors", "queue_times", "latencies"):
        if key in result:
            columns[key] = column(key)
    notes: list[str] = []
    lost = ["engine settings", "hardware", "scheduled times", "cached tokens"]
    if kind == SGLANG:
        lost.insert(0, "model")
    if "start_times" in result:
        columns["start_times"] = column("start_times")
    else:
        _require_one_start(result, load, kind)
        columns["start_times"] = [0.0] * count
        notes.append("no start_times: all requests were sent at once (request_rate inf)")
    if "queue_times" not in columns:
        lost.append("how long a request waited in the client before it was sent")
        notes.append("arrivals are the times of sending: the file has no queue_times")
    elif load.is_open:
        notes.append("arrival = start_times - queue_times, so waiting in the client counts")
    if "latencies" not in columns:
        notes.append("no latencies: E2E is the TTFT plus the sum of the itls")

    unlimited = result.fields.get("request_rate") in ("inf", float("inf"))
    requests: list[ImportedRequest] = []
    bad = LeftOut(options.skip_bad)
    for i in counted(range(count), f"read {path.name}", count, "requests"):
        with bad.where_bad():
            request = _request(path, columns, i)
            if not load.is_open:
                # Under a limit a request arrives when the client may send it.
                request.due_ns = request.arrival_ns
                request.arrival_ns = request.sent_ns or request.arrival_ns
            requests.append(request)
    if unlimited and not load.is_open:
        due_at_once(requests)
    _check_unit(result, requests)
    return _Result(requests, notes, lost, bad)


def _require_one_start(result: JsonObject, load: Load, kind: str) -> None:
    """Without start_times arrivals are known only where all were sent at once."""
    if result.fields.get("request_rate") in ("inf", float("inf")) and load.is_open:
        return
    if kind == SGLANG:
        raise result.fail(
            "start_times",
            "is missing: SGLang's bench_serving does not keep when requests were sent, so arrivals "
            "are known only with --request-rate inf and no --max-concurrency",
            "measure with vllm bench serve --backend openai, or with AIPerf or GuideLLM",
        )
    raise result.fail(
        "start_times",
        "is missing, so arrivals are unknown",
        "use a vllm whose bench serve writes start_times",
    )


def _request(path: Path, columns: Mapping[str, list[Any]], i: int) -> ImportedRequest:
    start = check_seconds(path, f"start_times[{i}]", columns["start_times"][i], signed=True)
    wait = 0.0
    if "queue_times" in columns:
        # A clock read in two places: a negative zero is not an error.
        found = check_seconds(path, f"queue_times[{i}]", columns["queue_times"][i], signed=True)
        wait = max(0.0, found)
    request = ImportedRequest(
        where=f"request {i}",
        arrival_ns=to_ns(start - wait),
        sent_ns=to_ns(start),
        num_prefill_tokens=check_integer(path, f"input_lens[{i}]", columns["input_lens"][i]),
    )
    produced = check_integer(path, f"output_lens[{i}]", columns["output_lens"][i])
    error = columns["errors"][i] if "errors" in columns else ""
    if error or produced == 0:
        _fail(path, i, request, error)
        return request
    ttft = check_seconds(path, f"ttfts[{i}]", columns["ttfts"][i])
    gaps = columns["itls"][i]
    if not isinstance(gaps, list):
        raise InputError(path, f"itls[{i}]", "expected an array")
    itls = [check_seconds(path, f"itls[{i}][{k}]", gap) for k, gap in enumerate(gaps)]
    if len(itls) == produced and itls[0] == 0:
        itls = itls[1:]  # a chunk without a token, such as a chat's first
    latency = ttft + sum(itls)
    if "latencies" in columns:
        stated = check_seconds(path, f"latencies[{i}]", columns["latencies"][i])
        if not latency / _UNIT_FACTOR <= stated <= latency * _UNIT_FACTOR:
            raise InputError(
                path,
                f"latencies[{i}]",
                f"is {stated:.6g}, ttfts + sum of itls gives {latency:.6g}: not the same unit",
            )
    times = [to_ns(start + ttft + gap) for gap in accumulate(itls, initial=0.0)]
    request.first_token_ns, request.completion_ns = times[0], times[-1]
    request.num_decode_tokens_actual = produced
    request.token_times_ns = times if len(times) == produced else None
    return request


def _fail(path: Path, i: int, request: ImportedRequest, error: Any) -> None:
    if error is None:
        error = ""
    if not isinstance(error, str):
        raise InputError(path, f"errors[{i}]", f"expected a string, found {shown(error)}")
    if error:
        request.error_type, request.error_msg = describe_error(error)
        request.refused = is_refusal(error)
    else:
        request.error_type, request.error_msg = "no_output", "output_lens is 0"


def _check_unit(result: JsonObject, requests: Sequence[ImportedRequest]) -> None:
    """Hold the times against figures whose unit is known; without one they may be in any.

    All requests lie within the ``duration`` that the tool measured, in seconds, around them; its
    own statistics say milliseconds by their names.
    """
    served = [request for request in requests if request.completion_ns is not None]
    if not served:
        return
    if "duration" in result:
        ends = [request.completion_ns or 0 for request in served]
        last = max(range(len(served)), key=ends.__getitem__)
        span = (ends[last] - min(request.sent_ns or 0 for request in requests)) / 1e9
        duration = result.seconds("duration")
        if span > duration * 1.01 + 0.5:
            raise result.fail(
                f"ttfts[{served[last].where.rpartition(' ')[2]}]",
                f"ends {span:.6g} after the first start, the duration is {duration:.6g}: "
                "times are not all in seconds",
            )
    if not _check_statistics(result, served) and "duration" not in result:
        raise result.fail(
            "duration", "is missing, so nothing tells that the times are in seconds", _FIX
        )


def _check_statistics(result: JsonObject, served: Sequence[ImportedRequest]) -> bool:
    """The tool's own TTFT, in ms by its name, is of the size of the array's."""
    ours = median(((r.first_token_ns or 0) - (r.sent_ns or 0)) / 1e9 for r in served)
    for key in ("median_ttft_ms", "mean_ttft_ms"):
        if key in result and (key.startswith("median") or "duration" not in result):
            stated = result.number(key)
            # Which requests it counts differs between releases; a unit is off by a thousand.
            if not stated / 10 <= ours * 1000 <= stated * 10:
                raise result.fail(
                    key, f"is {stated:.6g}, ttfts give {ours * 1000:.6g}: times are not in seconds"
                )
            return True
    return False
