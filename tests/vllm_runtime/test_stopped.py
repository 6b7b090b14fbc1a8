"""What a death of the engine, or its silence, leaves of a measurement."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pytest_gpusim.runs import read_run
from pytest_gpusim.vllm_runtime import EngineStopped, LaunchSpec, shared_engine
from tests.vllm_runtime.tiny import ENGINE, QWEN3, measure_tiny, needs_vllm, tiny_workload


@contextmanager
def _signal_engine(number: int, after_s: float) -> Iterator[None]:
    spec = LaunchSpec.resolve(QWEN3, ENGINE, "cpu", threads=1)
    pid = shared_engine(spec).pid

    def send() -> None:
        time.sleep(after_s)
        os.kill(pid, number)

    thread = threading.Thread(target=send)
    thread.start()
    yield
    thread.join()


@needs_vllm
def test_a_killed_engine_costs_one_run_and_nothing_that_was_measured(tmp_path: Path) -> None:
    workload = tiny_workload(tmp_path / "w", requests=8, gap_ns=500_000_000)
    outs = [tmp_path / "1", tmp_path / "2"]
    with (
        _signal_engine(signal.SIGKILL, after_s=2.2),
        pytest.raises(EngineStopped, match=r"run 1 of 2 .*SIGKILL.*engine\.log") as caught,
    ):
        measure_tiny(workload, outs, warmup="no")
    assert "\n" not in str(caught.value)

    broken, whole = read_run(outs[0]), read_run(outs[1])
    status = broken.requests["status"].tolist()
    assert len(status) == 8
    assert "ok" in status
    assert status[-1] == "error"
    lost = broken.requests[broken.requests["status"] == "error"]
    assert (lost["error_type"] == "EngineStopped").all()
    assert broken.tokens is not None
    assert len(broken.tokens) > 0
    assert broken.meta["complete"] is False
    assert (whole.requests["status"] == "ok").all()


@needs_vllm
def test_a_hung_engine_is_found_out_and_killed(tmp_path: Path) -> None:
    workload = tiny_workload(tmp_path / "w", requests=6, gap_ns=400_000_000)
    begun = time.monotonic()
    with (
        _signal_engine(signal.SIGSTOP, after_s=1.0),
        pytest.raises(EngineStopped, match="hung: nothing heard for 4 s"),
    ):
        measure_tiny(workload, [tmp_path / "run"], hang_timeout=4, warmup="no")
    assert time.monotonic() - begun < 60
    statuses = set(read_run(tmp_path / "run").requests["status"])
    assert statuses == {"ok", "error"}
