"""``vllm bench serve --save-result --save-detailed``: one JSON object with parallel arrays.

Field meanings are those of ``vllm/benchmarks/serve.py`` (0.6 to 0.32). All times are seconds on the
client: ``start_times`` on its monotonic clock, ``ttfts``, ``itls`` and ``latencies`` from there.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from statistics import fmean, median
from typing import Any

from pytest_gpusim.documents import (
    JsonObject,
    check_integer,
    check_seconds,
    first_document,
    read_document,
    shown,
    to_ns,
)
from pytest_gpusim.errors import InputError
from pytest_gpusim.runs.importers.base import (
    ImportedRequest,
    describe_error,
    only_file,
    recognised_by,
    write_imported,
)

KIND = "vllm-bench"
_FIX = "run vllm bench serve with --save-result --save-detailed"
_TOOL_KEYS = (
    "date",
    "backend",
    "endpoint_type",
    "label",
    "tokenizer_id",
    "num_prompts",
    "request_rate",
    "burstiness",
    "max_concurrency",
    "duration",
    "completed",
)
# A sum of hundreds of floats against one subtraction of two clock readings.
_SLACK_S = 1e-6


def recognises(path: Path) -> bool:
    """Whether this looks like a result of ``vllm bench serve``, detailed or not."""
    document = first_document(path)
    return isinstance(document, dict) and {"model_id", "duration", "completed"} <= document.keys()


@recognised_by(recognises)
def import_run(files: Sequence[Path], out: Path) -> None:
    """Write the run of a detailed result file.

    Raises:
        InputError: The file is not one, or its arrays contradict each other.
    """
    path = only_file(files, KIND)
    result = JsonObject(path, "", read_document(path))
    for key in ("model_id", "ttfts", "itls", "input_lens", "output_lens"):
        if key not in result:
            raise result.fail(key, "is missing", _FIX)
    notes: list[str] = []
    lost = ["engine settings", "hardware", "scheduled times", "cached tokens"]
    requests = _requests(result, notes, lost)
    meta: dict[str, Any] = {"model": result.text("model_id")}
    write_imported(
        out,
        KIND,
        path,
        requests,
        clock="client",
        not_recovered=lost,
        notes=notes,
        meta=meta,
        tool={key: result.fields[key] for key in _TOOL_KEYS if key in result},
    )


def _requests(result: JsonObject, notes: list[str], lost: list[str]) -> list[ImportedRequest]:
    path = result.path
    ttfts = result.array("ttfts")
    count = len(ttfts)

    def column(key: str) -> list[Any]:
        return result.array(key, count, "ttfts")

    inputs, outputs, all_itls = column("input_lens"), column("output_lens"), column("itls")
    errors = column("errors") if "errors" in result else [""] * count
    starts = _starts(result, count, notes)
    waits = column("queue_times") if "queue_times" in result else None
    if waits is None:
        lost.append("how long a request waited in the client before it was sent")
        notes.append("arrivals are the times of sending: the file has no queue_times")
    else:
        notes.append("arrival = start_times - queue_times, so waiting in the client counts")
    latencies = column("latencies") if "latencies" in result else None
    if latencies is None:
        notes.append("no latencies: E2E is the TTFT plus the sum of the itls")

    requests: list[ImportedRequest] = []
    ends: list[tuple[float, int]] = []
    served: list[float] = []
    for i in range(count):
        start = check_seconds(path, f"start_times[{i}]", starts[i], signed=True)
        wait = 0.0
        if waits is not None:
            # A clock read in two places: a negative zero is not an error.
            wait = max(0.0, check_seconds(path, f"queue_times[{i}]", waits[i], signed=True))
        request = ImportedRequest(
            where=f"request {i}",
            arrival_ns=to_ns(start - wait),
            sent_ns=to_ns(start),
            num_prefill_tokens=check_integer(path, f"input_lens[{i}]", inputs[i]),
        )
        requests.append(request)
        produced = check_integer(path, f"output_lens[{i}]", outputs[i])
        if errors[i] or produced == 0:
            _fail(path, i, request, errors[i])
            continue
        ttft = check_seconds(path, f"ttfts[{i}]", ttfts[i])
        if not isinstance(all_itls[i], list):
            raise InputError(path, f"itls[{i}]", "expected an array")
        itls = [check_seconds(path, f"itls[{i}][{k}]", gap) for k, gap in enumerate(all_itls[i])]
        latency = ttft + sum(itls)
        if latencies is not None:
            stated = check_seconds(path, f"latencies[{i}]", latencies[i])
            if abs(stated - latency) > _SLACK_S + 1e-6 * latency:
                raise InputError(
                    path,
                    f"latencies[{i}]",
                    f"is {stated:.6g}, ttfts + sum of itls gives {latency:.6g}: not the same unit",
                )
        times = [to_ns(start + ttft + gap) for gap in accumulate(itls, initial=0.0)]
        request.first_token_ns, request.completion_ns = times[0], times[-1]
        request.num_decode_tokens_actual = produced
        request.token_times_ns = times if len(times) == produced else None
        ends.append((start + latency, i))
        served.append(ttft)
    _check_unit(result, starts, ends, served)
    return requests


def _starts(result: JsonObject, count: int, notes: list[str]) -> list[Any]:
    """When each request was sent; old files tell that only where all were sent at once."""
    if "start_times" in result:
        return result.array("start_times", count, "ttfts")
    unlimited = result.fields.get("max_concurrency") is None
    if result.fields.get("request_rate") == "inf" and unlimited:
        notes.append("no start_times: all requests were sent at once (request_rate inf)")
        return [0.0] * count
    raise result.fail(
        "start_times",
        "is missing, so arrivals are unknown",
        "use a vllm whose bench serve writes start_times",
    )


def _fail(path: Path, i: int, request: ImportedRequest, error: Any) -> None:
    if not isinstance(error, str):
        raise InputError(path, f"errors[{i}]", f"expected a string, found {shown(error)}")
    if error:
        request.error_type, request.error_msg = describe_error(error)
    else:
        request.error_type, request.error_msg = "no_output", "output_lens is 0"


def _check_unit(
    result: JsonObject, starts: list[Any], ends: list[tuple[float, int]], ttfts: list[float]
) -> None:
    """Hold the times against a figure whose unit is known; without one they may be in any.

    All requests lie within the ``duration`` that the tool measured, in seconds, around them; old
    files may only have its own statistics, whose names say milliseconds.
    """
    if not ends:
        return
    if "duration" not in result:
        _check_statistics(result, ttfts)
        return
    last, i = max(ends)
    span, duration = last - min(starts), result.seconds("duration")
    if span > duration * 1.01 + 0.01:
        raise result.fail(
            f"ttfts[{i}]",
            f"ends {span:.6g} after the first start, the duration is {duration:.6g}: "
            "times are not all in seconds",
        )


def _check_statistics(result: JsonObject, ttfts: list[float]) -> None:
    """The tool's own TTFT, in ms by its name, is of the size of the array's."""
    for key, ours in (("median_ttft_ms", median(ttfts)), ("mean_ttft_ms", fmean(ttfts))):
        if key in result:
            stated = result.number(key)
            # Which requests it counts differs between releases; a unit is off by a thousand.
            if not stated / 10 <= ours * 1000 <= stated * 10:
                raise result.fail(
                    key, f"is {stated:.6g}, ttfts give {ours * 1000:.6g}: times are not in seconds"
                )
            return
    raise result.fail(
        "duration", "is missing, so nothing tells that the times are in seconds", _FIX
    )
