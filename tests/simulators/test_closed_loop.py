"""Closed loops and conversations in simulated time: who sends when, and what is found again."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pytest_gpusim.deployment import EngineSettings
from pytest_gpusim.providers import SimulationInputs
from pytest_gpusim.registry import builtin_registry
from pytest_gpusim.runs import Run, read_run
from pytest_gpusim.workload import Load, SessionTurn, Workload, read_workload
from pytest_gpusim.workload.generate import Lengths, Seconds, WorkloadSpec, generate_workload
from tests.factories import CPU, ENGINE, TINY, make_bundle, make_workload

MS = 1_000_000
REGISTRY = builtin_registry()
TIMES = ["arrival_time_ns", "scheduled_time_ns", "first_token_time_ns", "completion_time_ns"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return make_bundle(tmp_path_factory.mktemp("bundle") / "b")


def simulate(
    bundle: Any,
    workload: Workload,
    out: Path,
    simulator: str = "reference",
    engine: EngineSettings = ENGINE,
    **params: Any,
) -> Run:
    REGISTRY.simulators.get(simulator)(
        SimulationInputs(TINY, CPU, workload, bundle, engine, out, params)
    )
    return read_run(out)


def requests_of(run: Run) -> pd.DataFrame:
    return run.requests.set_index("request_id")


def most_under_way(run: Run) -> int:
    """The largest number of requests between arrival and completion at any instant."""
    rows = run.finished
    events = [(time, 1) for time in rows["arrival_time_ns"]]
    events += [(time, 0) for time in rows["completion_time_ns"]]
    now = most = 0
    for _, starts in sorted(events):  # at one instant, what ends goes first
        now += 1 if starts else -1
        most = max(most, now)
    return most


def test_one_client_sends_the_next_when_one_is_done(tmp_path: Path, bundle: Any) -> None:
    rows = [(20 + 9 * n, 3 + n % 4, 0) for n in range(12)]
    run = simulate(bundle, make_workload(tmp_path / "w", rows, load=Load(1)), tmp_path / "r")
    table = requests_of(run)
    assert table["arrival_time_ns"][0] == 0
    for before, after in pairwise(range(12)):
        assert table["arrival_time_ns"][after] == table["completion_time_ns"][before]
    # Alone in the engine, each takes as long as it does when the others are far away.
    alone = make_workload(
        tmp_path / "alone", [(p, d, n * 60_000 * MS) for n, (p, d, _) in enumerate(rows)]
    )
    expected = requests_of(simulate(bundle, alone, tmp_path / "ra"))
    took = table["completion_time_ns"] - table["arrival_time_ns"]
    assert took.tolist() == (expected["completion_time_ns"] - expected["arrival_time_ns"]).tolist()
    assert run.meta["load"] == {"kind": "closed", "max_concurrency": 1}
    assert table["due_time_ns"].tolist() == [0] * 12


@pytest.mark.parametrize("clients", [2, 4, 7])
def test_a_limit_is_kept_and_used(tmp_path: Path, bundle: Any, clients: int) -> None:
    stream = random.Random(clients)
    rows = [(stream.randint(1, 90), stream.randint(1, 30), 0) for _ in range(40)]
    run = simulate(bundle, make_workload(tmp_path / "w", rows, load=Load(clients)), tmp_path / "r")
    assert most_under_way(run) == clients
    table = requests_of(run)
    assert table["arrival_time_ns"].is_monotonic_increasing  # first come, in order of id
    ends = set(table["completion_time_ns"])
    assert set(table["arrival_time_ns"][clients:]) <= ends


def test_a_limit_that_never_binds_changes_nothing(tmp_path: Path, bundle: Any) -> None:
    rows = [(30, 5, n * MS) for n in range(20)]
    plain = simulate(bundle, make_workload(tmp_path / "a", rows), tmp_path / "ra")
    wide = simulate(bundle, make_workload(tmp_path / "b", rows, load=Load(20)), tmp_path / "rb")
    assert plain.requests[TIMES].equals(wide.requests[TIMES])
    assert "due_time_ns" not in plain.requests.columns
    assert "load" not in plain.meta


def test_a_turn_follows_its_answer_and_finds_its_context(tmp_path: Path, bundle: Any) -> None:
    spec = WorkloadSpec(
        "poisson", 30, 50.0, 3, Lengths(20, 60), Lengths(5, 40), turns=Lengths(1, 4),
        think_time=Seconds(0.0, 0.05),
    )  # fmt: skip
    generate_workload(spec, tmp_path / "w")
    workload = read_workload(tmp_path / "w")
    run = simulate(bundle, workload, tmp_path / "r")
    table = requests_of(run)
    assert workload.follows
    for request_id, before in workload.follows.items():
        think = workload.sessions[request_id].think_time_ns
        assert table["arrival_time_ns"][request_id] == table["completion_time_ns"][before] + think
        earlier = workload.requests[before]
        # All that the turn before computed, in whole blocks; its last token was never computed.
        computed = earlier.num_prefill_tokens + earlier.num_decode_tokens - 1
        expected = computed // 16 * 16
        assert table["num_cached_tokens"][request_id] == expected
    assert run.sessions == workload.sessions
    assert table["due_time_ns"].isna().sum() == len(workload.follows)


def test_prompts_that_do_not_take_the_answer_share_the_prompt_alone(
    tmp_path: Path, bundle: Any
) -> None:
    spec = WorkloadSpec("fixed", 2, 1.0, 1, Lengths(64, 64), Lengths(32, 32), turns=Lengths(2, 2))
    generate_workload(spec, tmp_path / "w")
    made = read_workload(tmp_path / "w")
    assert made.prompts is not None
    prompts = {**made.prompts, 1: replace(made.prompts[1], prefix_tokens=64)}
    rows = [(r.num_prefill_tokens, r.num_decode_tokens, 0) for r in made.requests]
    other = make_workload(tmp_path / "v", rows, prompts, sessions=made.sessions)
    hits = [
        requests_of(simulate(bundle, workload, tmp_path / name))["num_cached_tokens"][1]
        for name, workload in (("with", made), ("without", other))
    ]
    assert hits == [80, 64]  # 64 + 31 computed tokens, in blocks of 16


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_vidurs_event_queue_gives_the_same_run(
    tmp_path: Path, bundle: Any, seed: int, asynchronous: bool
) -> None:
    pytest.importorskip("vidur", reason="vidur is not installed (extra 'vidur')")
    stream = random.Random(seed)
    spec = WorkloadSpec(
        stream.choice(["closed", "poisson", "burst"]),  # type: ignore[arg-type]
        25, stream.choice([20.0, 300.0]), seed, Lengths(1, 120), Lengths(1, 40),
        concurrency=stream.choice([1, 3, 8]),
        turns=Lengths(1, stream.choice([1, 3])),
        think_time=Seconds(0.0, stream.choice([0.0, 0.02])),
    )  # fmt: skip
    generate_workload(spec, tmp_path / "w")
    workload = read_workload(tmp_path / "w")
    engine = replace(
        ENGINE,
        async_scheduling=asynchronous,
        num_gpu_blocks=stream.choice([40, 512]),
        max_num_seqs=6,
    )
    ours = simulate(bundle, workload, tmp_path / "ours", engine=engine)
    vidurs = simulate(bundle, workload, tmp_path / "vidur", "vidur", engine)
    for file in ("token_metrics.csv", "step_metrics.csv", "step_batches.jsonl"):
        assert (ours.path / file).read_bytes() == (vidurs.path / file).read_bytes()
    ours_rows, vidurs_rows = ours.requests, vidurs.requests
    assert ours_rows.drop(columns="backend").equals(vidurs_rows.drop(columns="backend"))


def test_vidurs_own_scheduler_is_sent_closed_loops_and_turns(tmp_path: Path, bundle: Any) -> None:
    pytest.importorskip("vidur", reason="vidur is not installed (extra 'vidur')")
    sessions = {0: SessionTurn(0, 0), 3: SessionTurn(0, 1, 5 * MS)}
    rows = [(30, 6, 0), (40, 9, 0), (50, 3, 0), (60, 4, 0), (20, 5, 0)]
    workload = make_workload(tmp_path / "w", rows, load=Load(2), sessions=sessions)
    run = simulate(bundle, workload, tmp_path / "r", "vidur", scheduler="sarathi")
    assert most_under_way(run) == 2
    table = requests_of(run)
    assert table["arrival_time_ns"][3] >= table["completion_time_ns"][0] + 5 * MS


def test_vidurs_own_main_refuses_such_a_workload_by_name(tmp_path: Path) -> None:
    pytest.importorskip("vidur", reason="vidur is not installed (extra 'vidur')")
    from pytest_gpusim.errors import UsageError
    from pytest_gpusim.simulators.vidur.configs import GpusimWorkloadConfig
    from pytest_gpusim.simulators.vidur.scheduler import WorkloadGenerator

    workload = make_workload(tmp_path / "w", [(5, 2, 0)], load=Load(1))
    generator = WorkloadGenerator(GpusimWorkloadConfig(directory=str(workload.path)))
    with pytest.raises(UsageError, match="has max_concurrency 1; Vidur's own main knows open-loop"):
        generator.generate_requests()


@pytest.mark.parametrize("simulator", ["reference", "vidur"])
@pytest.mark.parametrize("load", [Load(), Load(1)])
def test_what_the_server_refused_keeps_its_id_and_is_not_simulated(
    tmp_path: Path, bundle: Any, simulator: str, load: Load
) -> None:
    if simulator == "vidur":
        pytest.importorskip("vidur", reason="vidur is not installed (extra 'vidur')")
    rows = [(30, 6, 0), (900_000, 9, 1 * MS), (50, 3, 2 * MS)]
    workload = make_workload(tmp_path / "w", rows, load=load, refused=[1])
    workload.require_fits(100)
    run = simulate(bundle, workload, tmp_path / "r", simulator)
    assert run.requests["status"].tolist() == ["ok", "error", "ok"]
    assert run.requests["error_type"].tolist()[1] == "NotSimulated"
    without = make_workload(tmp_path / "v", [rows[0], rows[2]], load=load)
    expected = simulate(bundle, without, tmp_path / "rv", simulator)
    kept = run.finished[TIMES].reset_index(drop=True)
    assert kept.equals(expected.requests[TIMES])
