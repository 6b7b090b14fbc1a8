"""Capacity: the highest load at which limits hold, against queues that can be solved by hand."""

from __future__ import annotations

import json
import math
import resource
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_gpusim.cli import main
from pytest_gpusim.deployment import EngineSettings
from pytest_gpusim.errors import EngineError, UsageError
from pytest_gpusim.planning.capacity import Capacity, Simulations, find_capacity
from pytest_gpusim.planning.loads import at_rate, from_clients, generated
from pytest_gpusim.planning.point import Point
from pytest_gpusim.planning.search import Axis, Clients, Rates
from pytest_gpusim.planning.slo import parse_limits
from pytest_gpusim.planning.workers import run_here
from pytest_gpusim.workload import read_workload
from pytest_gpusim.workload.generate import Lengths, WorkloadSpec
from tests.factories import CPU, ENGINE, TINY, hand_step_ns, make_bundle
from tests.planning.grids import registry

PROMPT, OUTPUT, REQUESTS = 32, 3, 100
FIXED = WorkloadSpec("fixed", REQUESTS, 1.0, 0, Lengths(PROMPT, PROMPT), Lengths(OUTPUT, OUTPUT))
ONE_AT_A_TIME = replace(ENGINE, max_num_seqs=1)
SERVICE_NS = hand_step_ns([(PROMPT, 0)], []) + sum(
    hand_step_ns([], [PROMPT + token]) for token in range(OUTPUT - 1)
)


def search(
    tmp_path: Path,
    slo: str,
    engine: EngineSettings = ONE_AT_A_TIME,
    spec: WorkloadSpec = FIXED,
    seeds: tuple[int, ...] = (0,),
    precision: float = 0.2,
    axis: Axis | None = None,
) -> Capacity:
    known, limits = registry(), parse_limits(slo)
    bundle = make_bundle(tmp_path / "bundle")

    def make(rate: float, seed: int) -> Point:
        workload = generated(spec, rate, seed, tmp_path / "workloads")
        return Point.of("reference", TINY, CPU, workload, bundle, engine, {})

    simulations = Simulations(
        make,
        limits,
        axis or Rates(precision),
        seeds,
        lambda points, out: run_here(points, known, out),
        tmp_path / "points",
    )
    return find_capacity(simulations)


CLOSED = replace(FIXED, arrivals="closed", rate=None, concurrency=1, requests=60)


def test_clients_before_one_seat_wait_for_one_another(tmp_path: Path) -> None:
    # N clients before one seat: each waits for the N - 1 before it, and N service times in all.
    limit = f"e2e_p99={5.5 * SERVICE_NS / 1e6}ms"
    found = search(tmp_path, limit, spec=CLOSED, axis=Clients(60.0, 0.02))
    assert found.value == 5
    assert found.binding is not None
    assert found.binding.binds == "sequences"
    assert [load.at for load in found.curve] == [1, 2, 4, 5, 6, 8]
    assert [load.goodput for load in found.curve] == [1, 1, 1, 1, pytest.approx(5 / 60), 5 / 60]
    assert found.knee == 1  # nothing is gained by a second one
    assert found.to_json()["curve"][0]["clients"] == 1
    assert "capacity: 5 clients" in "\n".join(found.lines())


@pytest.mark.parametrize(
    ("limit_ms", "most", "value", "says"),
    [
        (0.5 * SERVICE_NS / 1e6, 60.0, 0.0, "does not hold at any load"),
        (9.5 * SERVICE_NS / 1e6, 8.0, math.inf, "hold at all 8 clients; take more (--max-clients)"),
    ],
)
def test_clients_that_are_too_many_or_too_few(
    tmp_path: Path, limit_ms: float, most: float, value: float, says: str
) -> None:
    found = search(tmp_path, f"e2e_p99={limit_ms}ms", spec=CLOSED, axis=Clients(most, 0.02))
    assert found.value == value
    assert says in "\n".join(found.lines())


def test_a_server_of_one_seat_takes_what_it_can_serve(tmp_path: Path) -> None:
    found = search(tmp_path, f"e2e_p99={1.5 * SERVICE_NS / 1e6}ms", precision=0.01)
    # D/D/1: no queue up to one request a service time, and a growing one beyond.
    assert found.value == pytest.approx(1e9 / SERVICE_NS, rel=0.02)
    assert found.first_broken == ("e2e_p99",)
    assert found.binding is not None
    assert found.binding.binds == "sequences"
    assert found.knee == pytest.approx(found.value, rel=0.15)
    loads = {load.at / found.value: load for load in found.curve}
    assert min(loads) == pytest.approx(0.25, rel=0.01)
    assert [load.goodput for ratio, load in loads.items() if ratio < 0.99] == [1.0] * 5
    assert loads[max(loads)].goodput < 0.2
    assert "what binds there: sequences" in "\n".join(found.lines())


def test_a_share_of_requests_within_limits(tmp_path: Path) -> None:
    found = search(tmp_path, f"e2e={1.5 * SERVICE_NS / 1e6}ms,ttft=1s")
    assert found.value > 0.95e9 / SERVICE_NS
    assert found.first_broken == ("e2e",)


@pytest.mark.parametrize(
    ("slo", "value", "says"),
    [
        ("ttft_p50=1us", 0.0, "ttft_p50 does not hold at any load"),
        ("ttft_p50=100s", math.inf, "hold with all requests at once"),
    ],
)
def test_limits_that_no_load_or_every_load_holds(
    tmp_path: Path, slo: str, value: float, says: str
) -> None:
    found = search(tmp_path, slo)
    assert found.value == value
    assert found.interval is None
    assert says in "\n".join(found.lines())
    json.dumps(found.to_json(), allow_nan=False)


@pytest.mark.parametrize(
    ("by_seed", "says"),
    [
        ({0: 0.0, 1: 4.0}, "capacity: none with 1 of 2 seeds, ttft_p90 does not hold at any load"),
        ({0: math.inf, 1: math.inf}, "capacity: unbounded, the limits hold with all requests"),
        ({0: math.inf, 1: 4.0}, "capacity: unbounded with 1 of 2 seeds, the limits hold"),
    ],
)
def test_seeds_without_a_capacity_are_counted(by_seed: dict[int, float], says: str) -> None:
    value = 0.0 if 0.0 in by_seed.values() else math.inf
    limits, rates = parse_limits("ttft_p90=1s"), Rates(0.02)
    found = Capacity(limits, rates, by_seed, value, None, (), None, ("ttft_p90",), None)
    assert says in "\n".join(found.lines())


def test_a_knee_at_an_end_of_the_curve_is_a_bound(tmp_path: Path) -> None:
    # Sixteen seats, and a limit that a queue breaks long before they are taken.
    found = search(tmp_path, f"e2e_p99={1.02 * SERVICE_NS / 1e6}ms", engine=ENGINE)
    assert (found.knee, found.knee_bound) == (found.curve[-1].at, "at least")
    assert f"knee: at least {found.knee:.4g} requests/s" in "\n".join(found.lines())


def test_a_metric_that_no_request_has_holds_no_limit(tmp_path: Path) -> None:
    spec = replace(FIXED, decode=Lengths(1, 1))
    with pytest.raises(
        UsageError, match=r"tpot is not known of .*every request has a single token"
    ):
        search(tmp_path, "tpot_p90=1ms", spec=spec)


def test_seeds_give_an_interval_that_holds_each_capacity_apart(tmp_path: Path) -> None:
    spec = replace(FIXED, arrivals="poisson", requests=30, decode=Lengths(1, 6))
    limit = f"ttft_p90={3 * SERVICE_NS / 1e6}ms"
    found = search(tmp_path, limit, spec=spec, seeds=(0, 1, 2), precision=0.05)
    assert len(set(found.by_seed.values())) == 3
    assert found.interval is not None
    assert found.interval[0] < found.value < found.interval[1]
    assert min(found.by_seed.values()) < found.value < max(found.by_seed.values())


def test_want_of_kv_blocks_is_named(tmp_path: Path) -> None:
    engine = replace(ENGINE, num_gpu_blocks=8)
    found = search(tmp_path, f"ttft_p90={2 * SERVICE_NS / 1e6}ms", engine=engine)
    assert found.binding is not None
    assert found.binding.binds == "kv_blocks"
    # Two requests leave a block of seven, which is too few for a third: hardly a step is without.
    assert found.binding.shares["kv_blocks"] > 0.8


def test_a_simulation_that_fails_ends_the_search(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="of the search failed"):
        search(tmp_path, "ttft_p90=1s", engine=replace(ENGINE, num_gpu_blocks=2))


def test_a_seed_has_the_same_requests_at_every_rate(tmp_path: Path) -> None:
    spec = replace(FIXED, arrivals="poisson", decode=Lengths(1, 9))
    slow, fast = (generated(spec, rate, 7, tmp_path) for rate in (1.0, 2.0))
    assert [r[2:4] for r in slow.requests] == [r[2:4] for r in fast.requests]
    for one, other in zip(slow.requests, fast.requests, strict=True):
        assert one.arrival_time_ns == pytest.approx(
            2 * other.arrival_time_ns, abs=len(slow.requests)
        )
    moved = at_rate(slow, 4.0, tmp_path)
    span = moved.requests[-1].arrival_time_ns - moved.requests[0].arrival_time_ns
    assert span == pytest.approx((len(moved.requests) - 1) / 4.0 * 1e9, rel=1e-6)
    assert read_workload(moved.path).digest == moved.digest
    two, three = (from_clients(moved, clients, tmp_path) for clients in (2, 3))
    assert (two.load.max_concurrency, three.load.max_concurrency) == (2, 3)
    assert [r[:4] for r in two.requests] == [r[:4] for r in slow.requests]
    assert {r.arrival_time_ns for r in two.requests} == {0}


@pytest.mark.parametrize(
    ("slo", "share", "says"),
    [
        ("", None, "is empty"),
        ("ttft_p90", None, "expected METRIC"),
        ("ttft_p80=1s", None, "expected METRIC"),
        ("makespan=1s", None, "expected METRIC"),
        ("ttft_p90=fast", None, "expected a time"),
        ("ttft_p90=-1ms", None, "expected a time"),
        ("ttft_p90=1s,tpot=1ms", None, "to each limit, or to none"),
        ("ttft_p90=1s", 0.9, "of limits without statistics"),
        ("ttft=1s", 1.5, "expected a fraction"),
    ],
)
def test_limits_that_make_no_sense_are_refused(slo: str, share: float | None, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        parse_limits(slo, share)


@pytest.fixture
def command(tmp_path: Path) -> Callable[..., list[str]]:
    make_bundle(tmp_path / "bundle")
    config = {**TINY.to_hf_config(), "_name_or_path": TINY.name}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "engine.json").write_text(json.dumps(ONE_AT_A_TIME.to_json()))

    def words(*more: str) -> list[str]:
        return [
            "capacity", "--model", str(tmp_path / "config.json"), "--hardware", "cpu",
            "--profile", str(tmp_path / "bundle"), "--engine", str(tmp_path / "engine.json"),
            "--simulator", "reference", "--workers", "1", "--out", str(tmp_path / "out"),
            "--slo", f"e2e_p99={1.5 * SERVICE_NS / 1e6}ms", *more,
        ]  # fmt: skip

    return words


def test_a_full_disk_leaves_nothing_of_a_search(
    command: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = command("--requests", "40", "--prefill", "32", "--decode", "3")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        assert main(words) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "cannot be written: File too large" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_command_leaves_document_chart_and_runs(
    command: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    load = ["--requests", "40", "--prefill", "32", "--decode", "3", "--arrivals", "fixed"]
    assert main(command(*load, "--seeds", "1", "--precision", "0.1", "--json")) == 0
    document = json.loads(capsys.readouterr().out)
    assert document == json.loads((tmp_path / "out" / "capacity.json").read_text())
    assert document["capacity"] == pytest.approx(1e9 / SERVICE_NS, rel=0.1)
    assert "<svg" in (tmp_path / "out" / "capacity.svg").read_text()
    assert list((tmp_path / "out" / "points").iterdir())
    page = (tmp_path / "out" / "capacity.html").read_text()
    assert f"capacity: {document['capacity']:.4g} requests/s" in page
    assert page.count('role="img" aria-label=') == 4
    assert "steps that hold prefills" in page
    assert "https://" not in page.replace("http://www.w3.org", "")


def test_runs_that_were_swapped_are_no_capacity(
    command: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    load = ["--requests", "40", "--prefill", "32", "--decode", "3", "--seeds", "1"]
    words = command(*load, "--precision", "0.3")
    assert main(words) == 0
    one, other = sorted((tmp_path / "out" / "points").iterdir())[:2]
    one.rename(tmp_path / "kept")
    other.rename(one)
    (tmp_path / "kept").rename(other)
    capsys.readouterr()
    assert main(words) == 2
    err = capsys.readouterr().err
    assert "run_meta.json: workload_digest: is '" in err
    assert "but this point's is '" in err


def test_a_load_must_be_given(
    command: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command()) == 2
    assert "give --requests" in capsys.readouterr().err
    assert main(command("--workload", "w", "--requests", "9")) == 2
    assert "--requests: is of a load that is generated" in capsys.readouterr().err


def test_the_command_searches_clients(
    command: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    load = ["--requests", "20", "--prefill", "32", "--decode", "3", "--seeds", "1"]
    assert main(command(*load, "--arrivals", "closed", "--json")) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["capacity"], document["unit"]) == (1, "clients")
    assert main(command(*load, "--max-clients", "4")) == 2
    assert "is of --arrivals closed" in capsys.readouterr().err
    assert main(command(*load, "--arrivals", "closed", "--max-clients", "21")) == 2
    assert "expected 1 to 20" in capsys.readouterr().err
