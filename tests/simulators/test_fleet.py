"""Fleets: several replicas behind a router, in both simulators."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from pytest_gpusim.bundle import Bundle
from pytest_gpusim.errors import UsageError
from pytest_gpusim.providers import SimulationInputs
from pytest_gpusim.registry import builtin_registry
from pytest_gpusim.runs import Run, read_run
from pytest_gpusim.simulators.parameters import ROUTERS
from pytest_gpusim.workload import Workload, read_workload
from pytest_gpusim.workload.generate import Lengths, WorkloadSpec, generate_workload
from tests.factories import CPU, ENGINE, TINY, make_bundle, make_workload, random_workload

needs_vidur = pytest.mark.skipif(find_spec("vidur") is None, reason="vidur is not installed")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("fleet") / "bundle")


def simulate(
    bundle: Bundle, workload: Workload, out: Path, simulator: str = "reference", **params: Any
) -> Run:
    known = builtin_registry().simulators.get(simulator)
    known(SimulationInputs(TINY, CPU, workload, bundle, ENGINE, out, params))
    return read_run(out)


def times(run: Run) -> list[list[int]]:
    columns = ["request_id", "scheduled_time_ns", "first_token_time_ns", "completion_time_ns"]
    return run.requests[columns].to_numpy(dtype="int64").tolist()


def test_taken_in_turn_each_replica_is_an_engine_of_its_own(tmp_path: Path, bundle: Bundle) -> None:
    together = random_workload(tmp_path / "w", 5, requests=30, mean_gap_ns=200_000)
    fleet = simulate(bundle, together, tmp_path / "fleet", replicas=3, router="round_robin")
    found = dict(zip(fleet.requests["request_id"], times(fleet), strict=True))
    for replica in range(3):
        mine = together.requests[replica::3]
        rows = [(r.num_prefill_tokens, r.num_decode_tokens, r.arrival_time_ns) for r in mine]
        part = make_workload(tmp_path / f"w{replica}", rows)
        alone = simulate(bundle, part, tmp_path / f"alone{replica}")
        for request, (_, *expected) in zip(mine, times(alone), strict=True):
            assert found[request.request_id][1:] == expected
    assert fleet.meta["fleet"] == {
        "replicas": 3, "router": "round_robin", "requests": [10, 10, 10],
    }  # fmt: skip
    assert fleet.steps is not None
    starts = fleet.steps["start_ns"].tolist()
    assert starts == sorted(starts)
    assert len(set(starts)) < len(starts) or len(starts) > len(read_run(alone.path).steps)


def test_the_fewest_unfinished_requests_and_the_first_of_several(
    tmp_path: Path, bundle: Bundle
) -> None:
    # A long request; then short ones that are done before the next: all to the other replica.
    rows = [(200, 400, 0)] + [(16, 1, 10_000_000 * k) for k in range(1, 8)]
    workload = make_workload(tmp_path / "w", rows)
    run = simulate(bundle, workload, tmp_path / "o", replicas=2, router="least_outstanding")
    assert run.meta["fleet"]["requests"] == [1, 7]
    turn = simulate(bundle, workload, tmp_path / "t", replicas=2, router="round_robin")
    assert turn.meta["fleet"]["requests"] == [4, 4]


def test_chance_is_the_same_in_every_run(tmp_path: Path, bundle: Bundle) -> None:
    workload = random_workload(tmp_path / "w", 5, requests=40, mean_gap_ns=200_000)
    one, other = (
        simulate(bundle, workload, tmp_path / name, replicas=4, router="random") for name in "ab"
    )
    assert times(one) == times(other)
    assert sum(one.meta["fleet"]["requests"]) == 40
    assert len(set(one.meta["fleet"]["requests"])) > 1


@needs_vidur
@pytest.mark.parametrize("router", ROUTERS)
def test_vidurs_event_loop_gives_the_same_times(
    tmp_path: Path, bundle: Bundle, router: str
) -> None:
    workload = random_workload(tmp_path / "w", 7, requests=60, mean_gap_ns=150_000)
    ours = simulate(bundle, workload, tmp_path / "r", replicas=3, router=router)
    theirs = simulate(bundle, workload, tmp_path / "v", "vidur", replicas=3, router=router)
    assert times(theirs) == times(ours)
    assert theirs.meta["fleet"] == ours.meta["fleet"]


@needs_vidur
@pytest.mark.parametrize("router", ROUTERS)
def test_clients_that_wait_for_answers(tmp_path: Path, bundle: Bundle, router: str) -> None:
    spec = WorkloadSpec("closed", 40, None, 3, Lengths(16, 200), Lengths(1, 30), concurrency=7)
    generate_workload(spec, tmp_path / "w")
    workload = read_workload(tmp_path / "w")
    ours = simulate(bundle, workload, tmp_path / "r", replicas=2, router=router)
    theirs = simulate(bundle, workload, tmp_path / "v", "vidur", replicas=2, router=router)
    assert times(theirs) == times(ours)
    assert (ours.requests["status"] == "ok").all()


@needs_vidur
def test_vidurs_own_scheduler_in_a_fleet(tmp_path: Path, bundle: Bundle) -> None:
    workload = random_workload(tmp_path / "w", 7, requests=30, mean_gap_ns=150_000)
    run = simulate(
        bundle, workload, tmp_path / "v", "vidur",
        replicas=2, router="least_outstanding", scheduler="sarathi",
    )  # fmt: skip
    alone = simulate(bundle, workload, tmp_path / "a", "vidur", scheduler="sarathi")
    assert (run.requests["status"] == "ok").all()
    assert run.requests["ttft_ns"].mean() < alone.requests["ttft_ns"].mean()


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"replicas": 0}, "replicas=0: expected a positive whole number"),
        ({"replicas": 3}, "the workload has 2 requests"),
        ({"replicas": 2, "router": "sticky"}, "router=sticky: known are round_robin"),
    ],
)
def test_fleets_that_make_no_sense_are_refused(
    tmp_path: Path, bundle: Bundle, params: dict[str, Any], says: str
) -> None:
    workload = make_workload(tmp_path / "w", [(16, 1, 0), (16, 1, 0)])
    with pytest.raises(UsageError, match=says):
        simulate(bundle, workload, tmp_path / "o", **params)
