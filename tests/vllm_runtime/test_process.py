"""The life of the engine's process: start, reuse, failure, and no orphan."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_gpusim.vllm_runtime import (
    EngineProcess,
    EngineStopped,
    LaunchSpec,
    shared_engine,
)
from tests.vllm_runtime.tiny import ENGINE, QWEN3, needs_vllm

SPEC = LaunchSpec.resolve(QWEN3, ENGINE, "cpu", threads=1)


def test_the_child_ends_when_its_parent_is_gone(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    child = subprocess.Popen(
        [sys.executable, "-m", "pytest_gpusim.vllm_runtime.child", str(writing), str(tmp_path)],
        stdin=subprocess.PIPE,
        pass_fds=(writing,),
        cwd=Path(__file__).parents[2],
    )
    os.close(writing)
    assert child.stdin is not None
    child.stdin.close()  # as the kernel does for a parent that was killed
    assert child.wait(timeout=20) == 0
    os.close(reading)


@needs_vllm
def test_one_engine_serves_the_session_and_says_what_it_resolved() -> None:
    engine = shared_engine(SPEC)
    assert shared_engine(SPEC) is engine
    stated = engine.engine
    assert stated["engine"] == "vllm"
    assert {key: stated[key] for key in ENGINE.to_json()} == ENGINE.to_json()
    assert stated["async_scheduling"] is False
    assert stated["engine_mode"] == "eager"
    assert stated["threads"] == 1
    assert stated["dtype"] == "float32"
    assert json.dumps(stated)


@needs_vllm
def test_an_engine_that_cannot_start_says_why_in_one_line() -> None:
    # One block of 32 tokens cannot hold a context of 256.
    spec = LaunchSpec.resolve(QWEN3, replace(ENGINE, num_gpu_blocks=1), "cpu")
    with pytest.raises(EngineStopped, match=r"did not start: .*engine\.log") as caught:
        EngineProcess(spec)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 3
