"""Metrics against figures that were computed by hand from the definitions of the contract."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_gpusim.compare import compare_runs
from pytest_gpusim.compare.figures import Figure, summarize
from pytest_gpusim.compare.measure import measure_run
from pytest_gpusim.compare.metrics import METRICS, STATISTICS
from tests.compare.runs import MS, real_run, request, sim_run, steady


def test_definitions(tmp_path: Path) -> None:
    run = real_run(
        tmp_path / "real",
        [
            # Arrives at 10, waits 5, first token at 40, then gaps of 10, 30, 20.
            request(0, 10, [40, 50, 80, 100], scheduled=15),
            # Arrives at 20, does not wait, one token.
            request(1, 20, [70]),
        ],
    )
    metrics = measure_run(run)
    rows = metrics.requests
    assert rows["ttft"].tolist() == [30 * MS, 50 * MS]
    assert rows["tpot"][0] == 20 * MS  # (100 - 40) / (4 - 1)
    assert np.isnan(rows["tpot"][1])
    assert rows["e2e"].tolist() == [90 * MS, 50 * MS]
    assert rows["normalized_e2e"].tolist() == [22.5 * MS, 50 * MS]
    assert rows["queue_delay"].tolist() == [5 * MS, 0]
    assert metrics.itl is not None
    assert metrics.itl.tolist() == [10 * MS, 30 * MS, 20 * MS]
    assert metrics.makespan == 90 * MS  # last completion 100 - first arrival 10
    tpot = metrics.values("tpot")
    assert tpot is not None
    assert tpot.tolist() == [20 * MS]


def test_gaps_do_not_cross_from_one_request_to_the_next(tmp_path: Path) -> None:
    run = real_run(tmp_path / "real", [request(0, 0, [5, 6]), request(1, 0, [7, 9])])
    metrics = measure_run(run)
    assert metrics.itl is not None
    assert metrics.itl.tolist() == [1 * MS, 2 * MS]


def test_percentiles_interpolate_linearly() -> None:
    # By hand, (n - 1) p = 3 x 0.5, 0.9, 0.95, 0.99 -> positions 1.5, 2.7, 2.85, 2.97.
    found = summarize(np.array([10.0, 20.0, 30.0, 40.0]))
    assert found["p50"] == 25
    assert found["p90"] == pytest.approx(37)
    assert found["p95"] == pytest.approx(38.5)
    assert found["p99"] == pytest.approx(39.7)
    assert found["mean"] == 25


def test_error_rows_are_left_out_on_both_sides(tmp_path: Path) -> None:
    real = real_run(
        tmp_path / "real",
        [request(0, 0, [10, 20]), request(1, 0, [], asked=2, error="Refused")],
    )
    sim = sim_run(tmp_path / "sim", [request(0, 0, [11, 22]), request(1, 0, [500, 900])])
    comparison = compare_runs([real], sim)
    assert comparison.metrics["ttft"]["mean"] == {
        "real_ns": 10 * MS,
        "sim_ns": 11 * MS,
        "error": pytest.approx(0.1),
        "run_sd": None,
        "interval": None,
    }
    (found,) = [check for check in comparison.checks if check.name == "enough_samples"]
    assert "1 of 2 left out because they failed" in found.detail


def ttft_p50(*real: float, sim: float) -> Figure:
    return Figure(METRICS["ttft"], STATISTICS[0], real, (sim,))


def test_the_real_figure_is_the_geometric_mean_and_its_spread_that_of_the_logs() -> None:
    found = ttft_p50(90.0, 100.0, 130.0, sim=110.0).to_json()
    logs = np.log([90.0, 100.0, 130.0])
    assert found["real_ns"] == round(float(np.exp(logs.mean())))
    assert found["sim_ns"] == 110
    assert found["error"] == pytest.approx(110 / float(np.exp(logs.mean())) - 1)
    assert found["run_sd"] == pytest.approx(float(logs.std(ddof=1)))
    low, high = found["interval"]
    assert low < found["error"] < high


def test_a_zero_in_reality_has_no_relative_error() -> None:
    found = ttft_p50(0.0, 0.0, sim=5.0).to_json()
    assert (found["real_ns"], found["sim_ns"]) == (0, 5)
    assert (found["error"], found["run_sd"], found["interval"]) == (None, None, None)
    assert ttft_p50(0.0, sim=0.0).error == 0.0


def test_percentiles_are_taken_per_run_not_of_pooled_requests(tmp_path: Path) -> None:
    fast = real_run(tmp_path / "a", steady(4, ttft=100))
    slow = real_run(tmp_path / "b", steady(4, ttft=120))
    sim = sim_run(tmp_path / "sim", steady(4, ttft=110))
    entry = compare_runs([fast, slow], sim).metrics["ttft"]["p99"]
    assert entry["real_ns"] == pytest.approx((100 * 120) ** 0.5 * MS, abs=1)
    assert entry["run_sd"] == pytest.approx(np.log(1.2) / 2**0.5)


def test_without_token_times_only_itl_is_missing(tmp_path: Path) -> None:
    real = real_run(tmp_path / "real", steady(4), token_times=False)
    comparison = compare_runs([real], sim_run(tmp_path / "sim", steady(4)))
    assert comparison.metrics["itl"] is None
    assert comparison.metrics["tpot"]["p50"]["real_ns"] == 20 * MS
    assert comparison.figures.unavailable == {"itl": "real: the run has no token times"}
    (found,) = [check for check in comparison.checks if check.name == "enough_samples"]
    assert "itl: real: the run has no token times" in found.detail


def test_unknown_schedule_times_leave_the_queue_delay_out(tmp_path: Path) -> None:
    rows = steady(4)
    rows[2]["scheduled_time_ns"] = None
    comparison = compare_runs(
        [real_run(tmp_path / "real", rows)], sim_run(tmp_path / "sim", steady(4))
    )
    assert comparison.metrics["queue_delay"] is None
    assert (
        "scheduled_time_ns is unknown for 1 requests"
        in comparison.figures.unavailable["queue_delay"]
    )


def test_one_token_each_leaves_tpot_and_itl_out(tmp_path: Path) -> None:
    rows = steady(4, tokens=1)
    comparison = compare_runs([real_run(tmp_path / "real", rows)], sim_run(tmp_path / "sim", rows))
    assert comparison.metrics["tpot"] is None
    assert comparison.metrics["itl"] is None
    assert comparison.metrics["e2e"]["p50"]["error"] == pytest.approx(0, abs=1e-9)
    assert "single token" in comparison.figures.unavailable["tpot"]


def test_no_request_finished(tmp_path: Path) -> None:
    rows = [request(0, 0, [], asked=2, error="Crash")]
    comparison = compare_runs(
        [real_run(tmp_path / "real", rows)], sim_run(tmp_path / "sim", [request(0, 0, [1, 2])])
    )
    assert set(comparison.metrics.values()) == {None}
    assert comparison.judged().verdict == "inconclusive"


def test_a_simulation_made_before_is_cut_to_what_was_produced(tmp_path: Path) -> None:
    real = real_run(tmp_path / "real", [request(0, 0, [10, 20, 30], asked=5)])
    sim = sim_run(tmp_path / "sim", [request(0, 0, [10, 22, 34, 46, 58])])
    comparison = compare_runs([real], sim)
    assert comparison.metrics["e2e"]["p50"]["sim_ns"] == 34 * MS
    assert comparison.metrics["tpot"]["p50"]["sim_ns"] == 12 * MS
    assert comparison.metrics["itl"]["mean"]["sim_ns"] == 12 * MS
    assert comparison.metrics["makespan"]["sim_ns"] == 34 * MS
    (found,) = [check for check in comparison.checks if check.name == "lengths_as_produced"]
    assert found.status == "warn"


def test_what_cannot_be_cut_is_not_guessed(tmp_path: Path) -> None:
    real = real_run(tmp_path / "real", [request(0, 0, [10, 20, 30], asked=5)])
    sim = sim_run(tmp_path / "sim", [request(0, 0, [10, 22, 34, 46, 58])], token_times=False)
    comparison = compare_runs([real], sim)
    assert comparison.metrics["ttft"]["p50"]["error"] == pytest.approx(0, abs=1e-9)
    for metric in ("tpot", "e2e", "normalized_e2e", "makespan"):
        assert comparison.metrics[metric] is None
        assert "no token times to cut" in comparison.figures.unavailable[metric]


def test_figures_have_no_empty_values(tmp_path: Path) -> None:
    real = real_run(tmp_path / "real", steady(4), token_times=False)
    figures = compare_runs([real], sim_run(tmp_path / "sim", steady(4))).flat_figures()
    assert figures["ttft_p50_real_ns"] == 100 * MS
    assert figures["makespan_error"] == pytest.approx(0, abs=1e-9)
    assert "ttft_p50_run_sd" not in figures
    assert not any(name.startswith("itl") for name in figures)


gaps_ms = st.lists(st.integers(0, 500), min_size=1, max_size=6)


@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(st.tuples(st.integers(0, 900), gaps_ms), min_size=1, max_size=6))
def test_invariants(tmp_path_factory: pytest.TempPathFactory, rows: list) -> None:
    requests = []
    for number, (arrival, gaps) in enumerate(rows):
        times = (arrival + np.cumsum(gaps)).tolist()
        requests.append(request(number, arrival, times))
    run = real_run(tmp_path_factory.mktemp("runs") / "run", requests)
    metrics = measure_run(run)
    table = metrics.requests
    tokens = table["num_tokens"]
    # E2E is TTFT plus the gaps, and the gaps of a request sum to TPOT x (tokens - 1).
    decode = (table["tpot"] * (tokens - 1)).fillna(0)
    assert np.allclose(table["ttft"] + decode, table["e2e"])
    assert metrics.itl is not None
    assert metrics.itl.sum() == pytest.approx(decode.sum())
    assert len(metrics.itl) == (tokens - 1).sum()
    assert metrics.makespan is not None
    assert metrics.makespan >= table["e2e"].max()
    # A run compared with itself has no error.
    sim = sim_run(tmp_path_factory.mktemp("runs") / "sim", requests)
    comparison = compare_runs([run, run], sim)
    figures = comparison.flat_figures()
    errors = [value for name, value in figures.items() if name.endswith(("_error", "_sd"))]
    assert errors
    assert errors == pytest.approx([0.0] * len(errors), abs=1e-12)
