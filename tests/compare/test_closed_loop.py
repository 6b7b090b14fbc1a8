"""Comparing closed loops and conversations: arrivals belong to each side, the load to both."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from benchmarks.verdicts.engine import serve, truth, work
from benchmarks.verdicts.synthetic import REAL, SIMULATED
from pytest_gpusim.compare import Comparison, compare_runs
from pytest_gpusim.compare.measure import measure_run
from pytest_gpusim.compare.sensitivity import sensitivity
from pytest_gpusim.providers import SimulationInputs
from pytest_gpusim.runs import Run, read_run
from pytest_gpusim.runs.writer import rewrite_run
from pytest_gpusim.serving import Step
from pytest_gpusim.simulators.reference import simulate
from pytest_gpusim.workload import Load, SessionTurn, Workload
from pytest_gpusim.workload.prompts import Prompt
from tests.factories import CPU, ENGINE, TINY, make_bundle, make_workload

ROWS = [(30 + 5 * n, 4 + n % 7, 0) for n in range(24)]
TURNS = {n: SessionTurn(n // 2, n % 2, 1_000_000) for n in range(24)}
OTHER_TURNS = {n: SessionTurn(n // 3, n % 3, 1_000_000) for n in range(24)}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return make_bundle(tmp_path_factory.mktemp("bundle") / "b")


def sides(bundle: Any, tmp_path: Path, real: Workload, sim: Workload) -> tuple[Run, Run]:
    """A real run on an asynchronous engine, so that every time is another one, and a simulation."""
    engine = replace(ENGINE, async_scheduling=True)
    simulate(SimulationInputs(TINY, CPU, real, bundle, engine, tmp_path / "made", {}))
    made = read_run(tmp_path / "made")
    rewrite_run(made, tmp_path / "real", {**made.meta, "run_type": "real"})
    simulate(SimulationInputs(TINY, CPU, sim, bundle, ENGINE, tmp_path / "sim", {}))
    return read_run(tmp_path / "real"), read_run(tmp_path / "sim")


def finding(comparison: Comparison, name: str) -> tuple[str, str]:
    (check,) = (check for check in comparison.checks if check.name == name)
    return check.status, check.detail


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"load": Load(4)}, "same load (at most 4 requests at once)"),
        ({"sessions": TURNS}, "same load (no limit of requests at once, turns that follow"),
        ({"sessions": TURNS, "load": Load(3)}, "same load (at most 3 requests at once, turns"),
    ],
)
def test_each_side_has_arrivals_of_its_own(
    tmp_path: Path, bundle: Any, how: dict[str, Any], words: str
) -> None:
    workload = make_workload(tmp_path / "w", ROWS, **how)
    real, sim = sides(bundle, tmp_path, workload, workload)
    assert not real.requests["arrival_time_ns"].equals(sim.requests["arrival_time_ns"])
    status, detail = finding(compare_runs([real], sim, workload=workload), "same_workload")
    assert status == "pass"
    assert words in detail


@pytest.mark.parametrize(
    ("real", "sim", "words"),
    [
        ({"load": Load(4)}, {"load": Load(5)}, "the other at most 4 requests|at most 5 requests"),
        ({"load": Load(4)}, {}, "at most 4 requests at once, the other no limit"),
        ({"sessions": TURNS}, {}, "other requests follow one another in conversations"),
        ({"sessions": TURNS}, {"sessions": OTHER_TURNS}, "other requests follow one another"),
    ],
)
def test_another_load_is_another_workload(
    tmp_path: Path, bundle: Any, real: dict[str, Any], sim: dict[str, Any], words: str
) -> None:
    one = make_workload(tmp_path / "a", ROWS, **real)
    other = make_workload(tmp_path / "b", ROWS, **sim)
    comparison = compare_runs(
        [*sides(bundle, tmp_path, one, other)][:1], read_run(tmp_path / "sim")
    )
    status, detail = finding(comparison, "same_workload")
    assert status == "fail"
    assert any(word in detail for word in words.split("|"))


def test_other_due_times_under_a_limit_are_another_workload(tmp_path: Path, bundle: Any) -> None:
    one = make_workload(tmp_path / "a", ROWS, load=Load(4))
    later = [(p, d, 1000 * n) for n, (p, d, _) in enumerate(ROWS)]
    other = make_workload(tmp_path / "b", later, load=Load(4))
    real, sim = sides(bundle, tmp_path, one, other)
    status, detail = finding(compare_runs([real], sim), "same_workload")
    assert (status, "arrival_time_ns of request 1 is 0 and 1000" in detail) == ("fail", True)


def test_hits_of_later_turns_are_what_the_workload_shares(tmp_path: Path, bundle: Any) -> None:
    prompts = {0: Prompt(0, seed=0, num_tokens=64)}
    rows = [(64, 20, 0)]
    for n in range(1, 24):
        context = rows[-1][0] + rows[-1][1] if n % 2 else 0
        rows.append((context + 40, 20, 0))
        prompts[n] = Prompt(n, seed=n, num_tokens=context + 40)
        if n % 2:
            prompts[n] = replace(prompts[n], prefix_of=n - 1, prefix_tokens=context)
    workload = make_workload(tmp_path / "w", rows, prompts, sessions=TURNS)
    real, sim = sides(bundle, tmp_path, workload, workload)
    assert (real.requests["num_cached_tokens"] > 0).sum() == 12
    status, detail = finding(compare_runs([real], sim, workload=workload), "prefix_cache_cold")
    assert status == "pass"
    assert "as the prompts share" in detail


def test_a_refused_request_is_left_out_and_counted(tmp_path: Path, bundle: Any) -> None:
    workload = make_workload(tmp_path / "w", ROWS, load=Load(4), refused=[5])
    real, sim = sides(bundle, tmp_path, workload, workload)
    comparison = compare_runs([real], sim, workload=workload)
    assert finding(comparison, "same_workload")[0] == "pass"
    assert "1 of 24 left out because they failed" in finding(comparison, "enough_samples")[1]


def test_clients_that_wait_for_answers_do_not_magnify_errors(tmp_path: Path, bundle: Any) -> None:
    """A hundredth more a step makes all of a closed loop a hundredth longer, and later sent."""
    closed = make_workload(tmp_path / "w", ROWS, load=Load(4))
    real, _ = sides(bundle, tmp_path, closed, closed)
    metrics = measure_run(real)
    assert len(metrics.after_answers) == 20
    assert sensitivity(metrics)["ttft_p50"] == pytest.approx(1.0)
    burst = make_workload(tmp_path / "b", [(p, d, n * 20_000) for n, (p, d, _) in enumerate(ROWS)])
    (tmp_path / "open").mkdir()
    open_loop, _ = sides(bundle, tmp_path / "open", burst, burst)
    assert sensitivity(measure_run(open_loop))["ttft_p50"] > 1.01


def waiting_clients(slower: float) -> Run:
    """A real run of eight clients that wait for their answers, on an engine that is that slow."""

    def price(step: Step, now: float) -> float:
        return slower * truth(step, now)

    return serve(work("closed", 40), price, REAL, "real")


@pytest.mark.parametrize("slower", [0.97, 1.001, 1.03])
@pytest.mark.parametrize("sent", [True, False])
def test_arrivals_that_follow_slower_answers_are_no_drift(slower: float, sent: bool) -> None:
    """All of them come later in proportion, as by a clock that drifts."""
    real = waiting_clients(slower)
    if not sent:
        real.requests["sent_time_ns"] = pd.array([pd.NA] * 40, dtype="Int64")
    sim = serve(work("closed", 40), truth, SIMULATED, "sim")
    assert finding(compare_runs([real], sim), "units")[0] == "pass"


def test_a_clock_that_drifts_in_a_closed_loop_is_named() -> None:
    """By the sender's clock, and by the wall clock; a slower engine explains neither."""
    sim = serve(work("closed", 40), truth, SIMULATED, "sim")
    real = waiting_clients(1.0)
    sent = real.requests["sent_time_ns"].astype("float64") * 1.004
    late = replace(real, requests=real.requests.assign(sent_time_ns=sent.round().astype("Int64")))
    status, detail = finding(compare_runs([late], sim), "units")
    assert (status, "falls behind its schedule by +0.40%" in detail) == ("fail", True)
    lasts = float(real.requests["completion_time_ns"].max()) / 1e9
    for rate, expected in ((1.0, "pass"), (1.004, "fail")):
        start, end = (datetime.fromtimestamp(at, UTC) for at in (0.0, lasts / rate + 0.005))
        meta = {**real.meta, "started_at": start.isoformat(), "ended_at": end.isoformat()}
        assert finding(compare_runs([replace(real, meta=meta)], sim), "units")[0] == expected
