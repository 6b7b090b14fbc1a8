"""From events to rows, without an engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pytest_gpusim.backends.vllm_events import ReplayRecord
from pytest_gpusim.runs import read_run, write_run
from pytest_gpusim.runs.records import token_rows
from tests.vllm_runtime.tiny import tiny_workload


def _step(at: list[int], batch: list[Any], tokens: list[Any], **more: Any) -> dict[str, Any]:
    step = {"planned": at[0] + 1, "batch": batch, "admitted": [], "state": [1, 0, 2, 0]}
    step.update({key: more[key] for key in ("admitted", "state") if key in more})
    return {
        "event": "step",
        "at": at,
        "cpu_ns": (at[1] - at[0]) // 2,
        "steps": [step],
        "tokens": tokens,
        "finished": more.get("finished", []),
    }


def test_a_broken_replay_keeps_what_was_heard(tmp_path: Path) -> None:
    workload = tiny_workload(tmp_path / "w", lengths=[(40, 2), (40, 3), (40, 3)], gap_ns=100)
    record = ReplayRecord(workload)
    record.take({"event": "started"})
    record.take({"event": "sent", "requests": [[0, 5, 0]]})
    record.take(
        _step([10, 50], [(0, 40, 0, False)], [(0, [7])], admitted=[[0, 32]], state=[1, 0, 2, 0])
    )
    record.take({"event": "sent", "requests": [[1, 120, 100]]})
    record.take(
        _step(
            [130, 190],
            [(0, 1, 40, True), (1, 40, 0, False)],
            [(0, [8]), (1, [9])],
            admitted=[[1, 0]],
            finished=[(0, "length")],
        )
    )
    refusal = {"type": "ValueError", "message": "too long"}
    record.take({"event": "refused", "request": 2, "sent": 210, "arrival": 200, **refusal})
    record.fail_unfinished("EngineStopped", "it was killed by SIGKILL")

    out = tmp_path / "run"
    write_run(
        out,
        requests=[request.row("vllm") for request in record.records()],
        tokens=token_rows(record.records()),
        steps=record.step_rows(),
        step_batches=record.step_batches(),
        meta={"run_type": "real"},
    )
    run = read_run(out)
    assert run.requests["status"].tolist() == ["ok", "error", "error"]
    assert run.requests["error_type"].tolist()[1:] == ["EngineStopped", "ValueError"]
    assert run.requests.loc[0, ["scheduled_time_ns", "num_cached_tokens"]].tolist() == [11, 32]
    assert run.requests["completion_time_ns"].tolist()[0] == 190
    assert run.tokens is not None
    assert run.tokens["token_latency_ns"].tolist() == [50, 140, 90]
    assert run.batches() == [{0: 40}, {0: 1, 1: 40}]
    assert run.steps is not None
    assert run.steps["num_prefill_tokens"].tolist() == [40, 40]
    assert run.steps["num_decode_tokens"].tolist() == [0, 1]
    assert record.finished_count() == 1
    assert record.ended is False
    assert record.interference() == {"not_computing": 0.5}


def test_lateness_does_not_count_the_step_that_was_running(tmp_path: Path) -> None:
    workload = tiny_workload(tmp_path / "w", lengths=[(40, 2), (40, 2)], gap_ns=100)
    record = ReplayRecord(workload)
    record.take({"event": "sent", "requests": [[0, 4, 0]]})
    record.take(_step([10, 300], [(0, 40, 0, False)], [(0, [7])]))
    record.take({"event": "sent", "requests": [[1, 310, 100]]})
    lateness = record.lateness()
    assert lateness["max_ns"] == 10
    assert lateness["max_since_arrival_ns"] == 210


def test_fewer_tokens_than_asked_are_an_early_stop(tmp_path: Path) -> None:
    workload = tiny_workload(tmp_path / "w", lengths=[(40, 5)])
    record = ReplayRecord(workload)
    record.take(_step([0, 9], [(0, 40, 0, False)], [(0, [7])], finished=[(0, "stop")]))
    (request,) = record.records()
    assert (request.status, request.num_came) == ("early_stop", 1)
