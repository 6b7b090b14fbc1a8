"""A real run's own state priced by the profile: what is off, when, and at which batch sizes."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from pytest_gpusim.compare import Comparison, compare_runs
from pytest_gpusim.providers import SimulationInputs
from pytest_gpusim.registry import builtin_registry
from pytest_gpusim.report.attribution import attribution_tables
from pytest_gpusim.runs import Run, read_run
from tests.factories import CPU, ENGINE, TINY, make_bundle, make_workload

MS = 1_000_000
SIMULATED = 5 * MS


def run_of(path: Path, engine_time: int, gap: int = 300 * MS) -> Run:
    """A run of requests that overlap, on steps of about the engine time."""
    draw, now, rows = random.Random(3), 0, []
    for _ in range(80):
        rows.append((draw.randint(20, 90), draw.randint(40, 60), now))
        now += round(draw.expovariate(1 / gap))
    bundle = make_bundle(path / "b", overhead=False).with_engine_time(engine_time)
    workload = make_workload(path / "w", rows)
    inputs = SimulationInputs(TINY, CPU, workload, bundle, ENGINE, path / "run")
    builtin_registry().simulators.get("reference")(inputs)
    return read_run(path / "run")


def slower_start(run: Run, until: float, factor: float) -> Run:
    """The run with the requests of its first part stretched out from their arrival on."""
    rows = run.requests
    early = rows["arrival_time_ns"] < until * rows["arrival_time_ns"].max()
    for name in ("first_token_time_ns", "completion_time_ns"):
        waited = rows[name] - rows["arrival_time_ns"]
        longer = (rows["arrival_time_ns"] + waited * factor).astype("int64")
        rows[name] = rows[name].where(~early, longer)
    rows["ttft_ns"] = rows["first_token_time_ns"] - rows["arrival_time_ns"]
    run.tokens = None
    return run


def compared(tmp_path: Path, real: Run) -> Comparison:
    return compare_runs([real], run_of(tmp_path / "sim", SIMULATED))


@pytest.mark.parametrize("slower", [1.0, 1.1, 1.3])
def test_a_slower_engine_is_the_profile(tmp_path: Path, slower: float) -> None:
    real = run_of(tmp_path / "real", round(slower * SIMULATED))
    real.tokens = None
    state = compared(tmp_path, real).attribution["state"]
    # A step of decodes is engine time and about 0.2 ms of operators.
    expected = (slower * 5 + 0.2) / 5.2
    for row in state["by_period"]:
        assert row["ratio"] == pytest.approx(expected, rel=0.04)
    assert all(row["late"] == pytest.approx(expected, rel=0.05) for row in state["by_batch"])
    assert state["profile"] == pytest.approx(1 - 1 / expected, abs=0.03)
    assert abs(state["first_use"]) < 0.02


def test_a_slow_start_is_a_first_use(tmp_path: Path) -> None:
    real = slower_start(run_of(tmp_path / "real", SIMULATED), 0.15, 1.5)
    comparison = compared(tmp_path, real)
    state = comparison.attribution["state"]
    assert state["first_use"] > 0.02
    assert abs(state["profile"]) < 0.02
    assert any("first uses" in text for text in comparison.attribution["findings"])


def test_the_first_requests_excess_is_named(tmp_path: Path) -> None:
    real = run_of(tmp_path / "real", SIMULATED)
    real.requests = real.requests.copy()  # what was read is read-only
    for name in ("first_token_time_ns", "ttft_ns", "completion_time_ns"):
        real.requests.loc[0, name] += 400 * MS
    real.tokens = None
    comparison = compared(tmp_path, real)
    first = comparison.attribution["state"]["first_request"]
    assert first == {"excess_ns": 400 * MS, "others_ns": 0}
    assert any("the first request waits 400" in text for text in comparison.attribution["findings"])
    titles = [table.title for table in attribution_tables(comparison.attribution)]
    assert "Real steps against the profile, by time" in titles


def test_without_the_profile_nothing_is_said(tmp_path: Path) -> None:
    comparison = compared(tmp_path, run_of(tmp_path / "real", SIMULATED))
    comparison.sides.sim.meta["profiling_digest"] = "another"
    assert comparison.attribution["state"] is None
