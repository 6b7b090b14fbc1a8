"""Other tools' files that were cut, doubled or put into another unit: refused, and why is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_gpusim.errors import InputError
from pytest_gpusim.registry import builtin_registry
from pytest_gpusim.runs.importers import load_real_run, load_simulated_run
from tests.runs.importers.samples import AIPERF, VLLM_BENCH

CASES = Path(__file__).parents[2] / "data" / "cases"
Make = Callable[[Path], Path]


def vllm(**changes: Any) -> Make:
    def make(place: Path) -> Path:
        document = json.loads(VLLM_BENCH.read_text())
        for key, change in changes.items():
            document[key] = change(document[key]) if callable(change) else change
        path = place / "result.json"
        path.write_text(json.dumps(document))
        return path

    return make


def without_the_last(**changes: Any) -> Make:
    def make(place: Path) -> Path:
        path = vllm(**changes)(place)
        document = json.loads(path.read_text())
        count = len(document["ttfts"])
        cut = {
            key: value[:-1] if isinstance(value, list) and len(value) == count else value
            for key, value in document.items()
        }
        path.write_text(json.dumps(cut))
        return path

    return make


def in_ms(place: Path) -> Path:
    """The whole file times a thousand, but for what says ms by its name."""
    document = json.loads(VLLM_BENCH.read_text())
    for key in ("ttfts", "latencies", "start_times", "queue_times"):
        document[key] = [value * 1000 for value in document[key]]
    document["itls"] = [[gap * 1000 for gap in gaps] for gaps in document["itls"]]
    document["duration"] *= 1000
    path = place / "result.json"
    path.write_text(json.dumps(document))
    return path


def in_one_piece(place: Path) -> Path:
    """One long answer of twenty-four did not stream in three."""
    document = json.loads((CASES / "59-three-repeats" / "r0.json").read_text())
    for i in range(0, len(document["ttfts"]), 8):
        document["ttfts"][i] += sum(document["itls"][i])
        document["itls"][i] = []
    path = place / "result.json"
    path.write_text(json.dumps(document))
    return path


def aiperf(summary: dict[str, Any] | None = None, *, twice: bool = False) -> Make:
    def make(place: Path) -> Path:
        lines = AIPERF.read_text().splitlines(keepends=True)
        path = place / "profile_export.jsonl"
        path.write_text("".join([*lines, lines[-1]] if twice else lines))
        if summary is not None:
            (place / "profile_export_aiperf.json").write_text(json.dumps(summary))
        return path

    return make


def vidur_twice(place: Path) -> Path:
    path = place / "request_metrics.csv"
    path.write_text(
        "Request Id,request_e2e_time,request_scheduling_delay,prefill_e2e_time,"
        "request_inter_arrival_delay,request_num_prefill_tokens,request_num_decode_tokens\n"
        "0,1,0,0.1,,8,4\n0,1,0,0.1,1,8,4\n"
    )
    return path


def servingsim_twice(place: Path) -> Path:
    path = place / "sim.csv"
    head = "instance id,request id,model,input,output,arrival,end_time,latency,queuing_delay,TTFT"
    path.write_text(f"{head}\n0,7,m,8,4,0,10,10,0,5\n1,7,m,8,4,5,15,10,0,5\n")
    return path


def blis_twice(place: Path) -> Path:
    request = {
        "requestID": "request_7", "arrived_at": 0.0, "num_prefill_tokens": 8,
        "num_decode_tokens": 4, "ttft_ms": 5.0, "e2e_ms": 9.0,
    }  # fmt: skip
    path = place / "blis.json"
    document = {"vllm_estimated_duration_s": 1.0, "completed_requests": 2}
    path.write_text(json.dumps({**document, "requests": [request, request]}))
    return path


@pytest.mark.parametrize(
    ("make", "words"),
    [
        pytest.param(without_the_last(), "has 6 of the 7 requests", id="vllm, a row is gone"),
        pytest.param(vllm(failed=3), "has 7 of the 9 requests", id="vllm, failed ones are gone"),
        pytest.param(in_ms, "times are not in seconds", id="vllm, all in ms"),
        pytest.param(in_one_piece, "answers, of up to", id="vllm, some did not stream"),
        pytest.param(
            aiperf({"request_count": {"avg": 40.0}}), "holds 2 of the 40 requests", id="aiperf, cut"
        ),
        pytest.param(aiperf(twice=True), r"line 5: is request \S+, as line 4", id="aiperf, twice"),
        pytest.param(vidur_twice, "line 3: is request 0, as line 2", id="vidur, twice"),
        pytest.param(servingsim_twice, "line 3: is request 7", id="llmservingsim, twice"),
        pytest.param(blis_twice, "is request request_7", id="blis, twice"),
    ],
)
def test_what_is_no_whole_run_is_refused(tmp_path: Path, make: Make, words: str) -> None:
    path = make(tmp_path)
    simulated = path.name in ("request_metrics.csv", "sim.csv", "blis.json")
    load = load_simulated_run if simulated else load_real_run
    with pytest.raises(InputError, match=words):
        load(path, builtin_registry(), store=tmp_path / "runs")
    assert not list((tmp_path / "runs").rglob("run_meta.json"))
