"""Imported runs on the schedule of the workload that they replayed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pytest_gpusim.registry import builtin_registry
from pytest_gpusim.runs import Run, read_run
from pytest_gpusim.runs.importers import load_real_run
from pytest_gpusim.runs.importers.scheduled import like_first
from pytest_gpusim.runs.importers.stated import Stated, import_stated
from tests.factories import make_workload
from tests.runs.importers.test_vllm_bench import result

MS = 1_000_000


def imported(tmp_path: Path, requests: list[tuple[int, int, int]], **changes: Any) -> Run:
    """The run of three requests, released 0, 0.5 and 2 s after the first, put on ``requests``."""
    path = tmp_path / "result.json"
    path.write_text(json.dumps(result(**changes)))
    workload = make_workload(tmp_path / "workload", requests)
    importer = builtin_registry().run_importers.get("vllm-bench")
    import_stated("vllm-bench", importer, [path], tmp_path / "run", Stated(workload=workload))
    return read_run(tmp_path / "run")


def test_arrival_is_what_was_due_and_all_other_times_keep_their_distances(tmp_path: Path) -> None:
    run = imported(tmp_path, [(10, 3, 0), (20, 1, 400 * MS), (30, 7, 1950 * MS)])
    rows = run.requests
    assert rows["arrival_time_ns"].tolist() == [0, 400 * MS, 1950 * MS]
    # The first was on time, the second sent 0.6 s late (half a second of it in the client).
    assert rows["sent_time_ns"].tolist() == [0, 1000 * MS, 2000 * MS]
    assert rows["ttft_ns"].tolist()[:2] == [500 * MS, 850 * MS]
    assert rows["completion_time_ns"].tolist()[:2] == [800 * MS, 1250 * MS]
    assert run.tokens is not None
    assert run.tokens["token_time_ns"].tolist() == [500 * MS, 600 * MS, 800 * MS, 1250 * MS]
    assert run.tokens["token_latency_ns"].tolist() == [500 * MS, 100 * MS, 200 * MS, 850 * MS]


def test_no_request_is_released_before_it_is_due(tmp_path: Path) -> None:
    run = imported(tmp_path, [(10, 3, 0), (20, 1, 600 * MS), (30, 7, 1950 * MS)])
    assert run.requests["arrival_time_ns"].tolist() == [0, 600 * MS, 1950 * MS]
    assert run.requests["sent_time_ns"].tolist() == [100 * MS, 1100 * MS, 2100 * MS]
    assert run.requests["ttft_ns"].tolist()[:2] == [600 * MS, 750 * MS]


def test_lengths_that_the_tool_does_not_tell_are_those_asked_for(tmp_path: Path) -> None:
    run = imported(tmp_path, [(10, 4, 0), (20, 1, 1), (31, 7, 2)])
    assert run.requests["num_decode_tokens"].tolist() == [4, 1, 7]
    assert run.requests["num_prefill_tokens"].tolist() == [10, 20, 31]
    assert run.requests["status"].tolist() == ["early_stop", "ok", "error"]
    lost = " ".join(run.meta["params"]["import"]["not_recovered"])
    assert "output lengths asked for" not in lost


@pytest.mark.parametrize("order", [[0, 1, 2], [1, 2, 0], [2, 1, 0]])
def test_requests_due_at_once_may_be_released_in_any_order(
    tmp_path: Path, order: list[int]
) -> None:
    due = [(10, 5, 0), (20, 1, 0), (30, 7, 0)]
    run = imported(tmp_path, [due[n] for n in order])
    assert run.requests["num_prefill_tokens"].tolist() == [due[n][0] for n in order]
    sent = [0, 1000 * MS, 2000 * MS]
    assert run.requests["sent_time_ns"].tolist() == [sent[n] for n in order]
    assert run.tokens is not None
    first = order.index(0)
    mine = run.tokens[run.tokens["request_id"] == first]
    assert mine["token_time_ns"].tolist() == [500 * MS, 600 * MS, 800 * MS]


def sent(tmp_path: Path, name: str, order: Sequence[int], stamps: Sequence[float]) -> Run:
    """A result of vllm bench: request ``k`` has 100 + k prompt tokens and a TTFT of k + 1 ms."""
    path = tmp_path / f"{name}.json"
    document = {
        "model_id": "m", "duration": 30.0, "completed": len(order), "request_rate": 1.0,
        "start_times": list(stamps), "queue_times": [0.0] * len(order),
        "input_lens": [100 + k for k in order], "output_lens": [2] * len(order),
        "ttfts": [(k + 1) / 1000 for k in order], "itls": [[0.01]] * len(order),
        "latencies": [(k + 11) / 1000 for k in order], "errors": [""] * len(order),
    }  # fmt: skip
    path.write_text(json.dumps(document))
    return load_real_run(path, builtin_registry(), store=tmp_path / "runs")


@pytest.mark.parametrize(
    ("order", "stamps", "expected"),
    [
        ((0, 1, 2, 3), (0, 2.0, 2.003, 9), [0, 1, 2, 3]),
        ((0, 2, 1, 3), (0, 2.001, 2.003, 9), [0, 1, 2, 3]),  # swapped within the jitter
        ((0, 3, 2, 1), (0, 2.0, 2.003, 9), [0, 3, 2, 1]),  # another load
    ],
)
def test_repeats_whose_client_swapped_neighbours(
    tmp_path: Path, order: tuple[int, ...], stamps: tuple[float, ...], expected: list[int]
) -> None:
    first = sent(tmp_path, "a", (0, 1, 2, 3), (0, 2.0, 2.002, 9))
    found = like_first([first, sent(tmp_path, "b", order, stamps)])[1]
    rows = found.requests
    assert rows["request_id"].tolist() == [0, 1, 2, 3]
    assert (rows["num_prefill_tokens"] - 100).tolist() == expected
    assert (rows["ttft_ns"] / 1_000_000 - 1).tolist() == pytest.approx(expected)
    assert found.tokens is not None
    firsts = found.tokens[found.tokens["token_index"] == 0]
    assert firsts["token_time_ns"].tolist() == rows["first_token_time_ns"].tolist()
