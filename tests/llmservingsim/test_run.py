"""Runs of LLMServingSim's bench, told by their files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pytest_gpusim.errors import InputError
from pytest_gpusim.llmservingsim.run import import_run
from pytest_gpusim.registry import builtin_registry
from pytest_gpusim.runs import read_run
from pytest_gpusim.runs.importers import load_real_run
from tests.llmservingsim import folder as made

REQUESTS = [
    {
        "input_toks": 10,
        "output_toks": 3,
        "arrival_time": 1.7e9 + 50,
        "queued_ts": 100.5,
        "scheduled_ts": 100.6,
        "first_token_ts": 101.0,
        "last_token_ts": 102.0,
    },
    {
        "input_toks": 20,
        "output_toks": 1,
        "arrival_time": 1.7e9 + 49.5,
        "queued_ts": 100.0,
        "scheduled_ts": 100.0,
        "first_token_ts": 100.4,
        "last_token_ts": 100.4,
    },
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made.write_run(tmp_path / "vllm_run", REQUESTS, asynchronous=True)
    return tmp_path / "vllm_run"


def test_requests_arrive_when_the_engine_queued_them(folder: Path, tmp_path: Path) -> None:
    import_run([folder], tmp_path / "run")
    run = read_run(tmp_path / "run")
    assert run.requests["num_prefill_tokens"].tolist() == [20, 10]
    assert run.requests["arrival_time_ns"].tolist() == [0, 500_000_000]
    assert run.requests["ttft_ns"].tolist() == [400_000_000, 500_000_000]
    assert run.requests["completion_time_ns"].tolist() == [400_000_000, 2_000_000_000]
    assert run.tokens is None
    assert run.meta["token_times"] is False
    assert run.meta["device_name"] == "NVIDIA Test GPU"
    engine = run.meta["engine"]
    assert engine["num_gpu_blocks"] == 4096
    assert engine["async_scheduling"] is True
    assert engine["dtype"] == "bfloat16"
    assert engine["engine_version"] == "0.19.0"


def test_it_is_recognised_by_its_files(folder: Path, tmp_path: Path) -> None:
    run = load_real_run(folder, builtin_registry(), store=tmp_path / "store")
    assert run.meta["backend"] == "llmservingsim"
    assert load_real_run(folder.parent, builtin_registry(), store=tmp_path / "other")


def test_its_two_files_may_be_named_too(folder: Path, tmp_path: Path) -> None:
    requests, meta = folder / "requests.jsonl", folder / "meta.json"
    elsewhere = meta.rename(tmp_path / "other.json")
    import_run([requests, elsewhere], tmp_path / "a")
    import_run([elsewhere, requests], tmp_path / "b")
    elsewhere.rename(meta)
    import_run([requests], tmp_path / "c")
    found = load_real_run(requests, builtin_registry(), store=tmp_path / "store").path
    tables = [
        (place / "request_metrics.csv").read_bytes()
        for place in (tmp_path / "a", tmp_path / "b", tmp_path / "c", found)
    ]
    assert len(set(tables)) == 1


@pytest.mark.parametrize("unset", [{}, {"queued_ts": 0.0, "first_token_ts": 0.0}])
def test_a_request_that_never_got_a_token_is_an_error_row(
    tmp_path: Path, unset: dict[str, float]
) -> None:
    times = {**unset, "last_token_ts": 0, "scheduled_ts": 0} if unset else {}
    lost = {"input_toks": 5, "output_toks": 5, "arrival_time": 1.7e9 + 50.25, **times}
    made.write_run(tmp_path / "vllm_run", [*REQUESTS, lost])
    import_run([tmp_path / "vllm_run"], tmp_path / "run")
    row = read_run(tmp_path / "run").requests.iloc[2]
    assert (row["status"], row["error_type"]) == ("error", "incomplete")
    # Its wall-clock time on the engine's clock, by the constant between the two.
    assert row["arrival_time_ns"] == pytest.approx(750_000_000, abs=1000)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", r"requests\.jsonl: line 1: not JSON"),
        (json.dumps({"input_toks": 3, "output_toks": 2}), r"line 1, arrival_time: is missing"),
        (json.dumps({**REQUESTS[0], "input_toks": "x"}), r"line 1, input_toks: expected a finite"),
    ],
)
def test_what_cannot_be_read_is_named(folder: Path, tmp_path: Path, line: str, words: str) -> None:
    (folder / "requests.jsonl").write_text(line + "\n")
    with pytest.raises(InputError, match=words):
        import_run([folder], tmp_path / "run")
    assert not (tmp_path / "run").exists()
