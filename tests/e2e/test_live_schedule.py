"""The live engine and the re-enacted scheduler form the same batches, step by step.

All requests are there from the start, so that the schedule does not depend on how long steps take.
"""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_gpusim.backends.vllm import measure
from pytest_gpusim.deployment import EngineSettings
from pytest_gpusim.registry import MeasureInputs, SimulationInputs
from pytest_gpusim.runs import Run, read_run
from pytest_gpusim.simulators.reference import simulate
from tests.factories import CPU, make_bundle
from tests.vllm_runtime.tiny import ENGINE, QWEN3, needs_vllm, tiny_workload

pytestmark = needs_vllm

REQUESTS = 24
# Thirteen blocks are too few for eight seats: requests are preempted and find blocks again.
SMALL = replace(ENGINE, num_gpu_blocks=14, max_num_batched_tokens=64)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("shared_tokens", [0, 64])
def test_batches_are_the_live_engines(tmp_path: Path, seed: int, shared_tokens: int) -> None:
    stream = random.Random(seed)
    workload = tiny_workload(
        tmp_path / "workload",
        gap_ns=0,
        shared_tokens=shared_tokens,
        lengths=[(stream.randint(66, 150), stream.randint(5, 60)) for _ in range(REQUESTS)],
    )
    measure(MeasureInputs(QWEN3, CPU, workload, SMALL, [tmp_path / "real"], {"threads": 1}))
    real = read_run(tmp_path / "real")
    bundle = make_bundle(tmp_path / "bundle", model=QWEN3)
    engine = EngineSettings.load(real.path)
    simulate(SimulationInputs(QWEN3, CPU, workload, bundle, engine, tmp_path / "simulated", {}))
    simulated = read_run(tmp_path / "simulated")

    assert real.batches() == simulated.batches()
    assert _counts(real) == _counts(simulated)
    assert real.steps is not None
    assert real.steps["preempted"].sum() > 0
    cached = real.requests["num_cached_tokens"]
    assert cached.tolist() == simulated.requests["num_cached_tokens"].tolist()
    assert bool(cached.sum()) == bool(shared_tokens)


def _counts(run: Run) -> list[list[int]]:
    assert run.steps is not None
    columns = ["running", "waiting", "kv_blocks_used", "preempted"]
    rows: list[list[int]] = run.steps[columns].to_numpy().tolist()
    return rows
