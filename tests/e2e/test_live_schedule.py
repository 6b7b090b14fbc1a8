"""The live engine and the re-enacted scheduler form the same batches, step by step.

All requests are there from the start, or follow an answer at once, so that the schedule does not
depend on how long steps take.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from pytest_gpusim.deployment import EngineSettings
from pytest_gpusim.providers import SimulationInputs
from pytest_gpusim.runs import Run, read_run
from pytest_gpusim.simulators.reference import simulate
from pytest_gpusim.workload import Workload, read_workload
from pytest_gpusim.workload.generate import Lengths, WorkloadSpec, generate_workload
from tests.factories import CPU, make_bundle
from tests.vllm_runtime.tiny import QWEN3, measure_tiny, needs_vllm, tiny_workload

pytestmark = needs_vllm

REQUESTS = 24


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("shared_tokens", [0, 64])
def test_batches_are_the_live_engines(tmp_path: Path, seed: int, shared_tokens: int) -> None:
    stream = random.Random(seed)
    workload = tiny_workload(
        tmp_path / "workload",
        gap_ns=0,
        shared_tokens=shared_tokens,
        lengths=[(stream.randint(150, 195), stream.randint(20, 60)) for _ in range(REQUESTS)],
    )
    real = _same_batches(workload, tmp_path)
    assert real.steps is not None
    assert real.steps["preempted"].sum() > 0
    assert bool(real.requests["num_cached_tokens"].sum()) == bool(shared_tokens)


@pytest.mark.parametrize("clients", [1, 4, 8])
def test_batches_of_a_closed_loop_are_the_live_engines(tmp_path: Path, clients: int) -> None:
    spec = WorkloadSpec(
        "closed", REQUESTS, None, clients, Lengths(20, 150), Lengths(1, 40), concurrency=clients
    )
    generate_workload(spec, tmp_path / "workload")
    real = _same_batches(read_workload(tmp_path / "workload"), tmp_path)
    assert real.meta["load"] == {"kind": "closed", "max_concurrency": clients}
    rows = real.requests
    # A client is free at a step's end, where another one's last token is out.
    assert set(rows["arrival_time_ns"][clients:]) <= set(rows["completion_time_ns"])
    assert (rows["sent_time_ns"] >= rows["arrival_time_ns"]).all()


@pytest.mark.parametrize("limit", [None, 2])
def test_batches_of_conversations_are_the_live_engines(tmp_path: Path, limit: int | None) -> None:
    """Later turns begin with what the engine answered, and find it in the cache."""
    spec = WorkloadSpec(
        "burst", 15, 1000.0, 1, Lengths(10, 40), Lengths(10, 40), burst_size=5,
        concurrency=limit, turns=Lengths(3, 3),
    )  # fmt: skip
    generate_workload(spec, tmp_path / "workload")
    workload = read_workload(tmp_path / "workload")
    real = _same_batches(workload, tmp_path)
    assert real.sessions == workload.sessions
    rows = real.requests.set_index("request_id")
    later = list(workload.follows)
    assert (rows["arrival_time_ns"][later] >= [
        rows["completion_time_ns"][before] for before in workload.follows.values()
    ]).all()  # fmt: skip
    assert (rows["num_cached_tokens"][later] > 0).any()


def _same_batches(workload: Workload, tmp_path: Path) -> Run:
    """Measure, simulate, and hold the two schedules against each other; returns the real run."""
    (real,) = measure_tiny(workload, [tmp_path / "real"])
    bundle = make_bundle(tmp_path / "bundle", model=QWEN3)
    engine = EngineSettings.load(real.path)
    simulate(SimulationInputs(QWEN3, CPU, workload, bundle, engine, tmp_path / "simulated", {}))
    simulated = read_run(tmp_path / "simulated")
    assert real.batches() == simulated.batches()
    assert _counts(real) == _counts(simulated)
    cached = real.requests["num_cached_tokens"]
    assert cached.tolist() == simulated.requests["num_cached_tokens"].tolist()
    return real


def _counts(run: Run) -> list[list[int]]:
    assert run.steps is not None
    columns = ["running", "waiting", "kv_blocks_used", "preempted"]
    rows: list[list[int]] = run.steps[columns].to_numpy().tolist()
    return rows
