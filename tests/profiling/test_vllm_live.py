"""Profiling a tiny model on a live engine: a valid bundle, also after a kill."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from pytest_gpusim.bundle import read_bundle
from pytest_gpusim.profiling.vllm.campaign import Campaign
from pytest_gpusim.profiling.vllm.grid import shapes_of
from pytest_gpusim.profiling.vllm.source import profile_vllm
from pytest_gpusim.serving.steptime import StepFeatures, StepTimeModel
from pytest_gpusim.vllm_runtime import (
    EngineStopped,
    LaunchSpec,
    pool,
    shared_engine,
)
from tests.factories import CPU
from tests.vllm_runtime.tiny import ENGINE, QWEN3, needs_vllm

pytestmark = needs_vllm


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_an_interrupted_profile_goes_on_to_a_valid_bundle(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def kill_in_the_middle() -> None:
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            states = list((tmp_path / "tmp" / "profiling_state").glob("*.jsonl"))
            if states and len(states[0].read_text().splitlines()) >= 5:
                os.kill(next(iter(pool._current.values())).pid, signal.SIGKILL)
                return
            time.sleep(0.01)

    out = tmp_path / "bundle"
    killer = threading.Thread(target=kill_in_the_middle)
    killer.start()
    with pytest.raises(EngineStopped, match="the same command goes on where it was"):
        profile_vllm(QWEN3, CPU, ENGINE, out, quick=True, threads=1)
    killer.join()
    assert not out.exists()

    profile_vllm(QWEN3, CPU, ENGINE, out, quick=True, threads=1)
    told = capsys.readouterr().err
    assert "going on after" in told
    assert not list((tmp_path / "tmp" / "profiling_state").iterdir())

    bundle = read_bundle(out)
    assert bundle.meta["engine_mode"] == "eager"
    assert bundle.meta["repeatability"]["passes"] == 2
    assert bundle.meta["coverage"]["mlp.csv"]["num_tokens"] == [1, 128]
    assert bundle.engine_settings.num_gpu_blocks == ENGINE.num_gpu_blocks
    columns = [c for c in bundle.mlp.columns if c.startswith("time_stats.") and ".add." not in c]
    assert (bundle.mlp[columns] > 0).all().all()
    assert bundle.overhead is not None
    # The rest of a step beside its operators: a busy machine makes some of them negative, not most.
    assert bundle.overhead["time_ns"].median() > 0
    model = StepTimeModel(bundle, QWEN3, bundle.engine_settings)
    time_of_step = model.time(StepFeatures([(40, 0)], 2, 120, 3))
    assert time_of_step.extrapolated is False
    assert 100_000 < time_of_step.time_ns < 1_000_000_000


def test_steps_are_timed_without_hooks_for_an_engine_that_has_none(tmp_path: Path) -> None:
    engine = shared_engine(LaunchSpec.resolve(QWEN3, ENGINE, "cpu", threads=1))
    shapes = shapes_of(engine.engine, quick=True)[:4]
    campaign = Campaign("walls", 1, tmp_path)
    campaign.plan(engine.engine["num_gpu_blocks"], lambda blocks: shapes)
    campaign.run(engine, hooks=False, say=lambda text: None)
    samples = campaign.samples()
    assert {sample.shape for sample in samples} == set(shapes)
    assert all(sample.operators == {} and sample.wall_ns > 0 for sample in samples)
