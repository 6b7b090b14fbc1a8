"""Tolerances: names, floors, noise; and the verdict that follows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_gpusim.checks import Check
from pytest_gpusim.compare import Comparison, compare_runs, document_of, parse_tolerances
from pytest_gpusim.compare.figures import Figure, Figures
from pytest_gpusim.compare.judging.tolerances import Judgement, judge, read_tolerances
from pytest_gpusim.compare.judging.verdict import verdict_of
from pytest_gpusim.errors import CheckFailed, UsageError
from pytest_gpusim.report.terminal import failure_lines
from tests.compare.runs import MS, real_run, sim_run, steady


def judged(given: dict[str, float], real_ms: list[float], sim_ms: float) -> Judgement:
    (limit,) = read_tolerances(given)
    real = tuple(value * MS for value in real_ms)
    figure = Figure(limit.metric, limit.statistic, real, sim_ms * MS)
    return judge(limit, Figures({limit.name: figure}, {}))


def test_parsing() -> None:
    assert parse_tolerances("ttft_p50=0.10, makespan=0.05,floor_ms=2") == {
        "ttft_p50": 0.10,
        "makespan": 0.05,
        "floor_ms": 2.0,
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ttft_p50", "expected <metric>_<stat>=N"),
        ("ttft=0.1", "unknown tolerance 'ttft'"),
        ("ttft_p42=0.1", "unknown tolerance 'ttft_p42'"),
        ("makespan_p50=0.1", "unknown tolerance 'makespan_p50'"),
        ("ttft_p50=ten", "expected a number"),
        ("ttft_p50=-0.1", "at least 0"),
        ("ttft_p50=nan", "at least 0"),
        ("ttft_p50=inf", "at least 0"),
        ("ttft_p50=0.1,ttft_p50=0.2", "given twice"),
        ("", "expected <metric>_<stat>=N"),
    ],
)
def test_what_is_no_tolerance(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_tolerances(text)


def test_the_name_of_a_metric_may_hold_an_underscore() -> None:
    (limit,) = read_tolerances({"normalized_e2e_p95": 0.2})
    assert (limit.metric.name, limit.statistic.name) == ("normalized_e2e", "p95")


def test_a_tolerance_holds_up_to_its_bound() -> None:
    assert judged({"ttft_p50": 0.10}, [100], 110).outcome == "pass"
    assert judged({"ttft_p50": 0.10}, [100], 90).outcome == "pass"
    assert judged({"ttft_p50": 0.10}, [100], 110.1).outcome == "fail"
    assert judged({"ttft_p50": 0.10}, [100], 89.9).outcome == "fail"


def test_the_floor_forgives_small_absolute_errors() -> None:
    # 40% of 1 ms is 0.4 ms: below the floor of 0.5 ms for TTFT, above that of 0.05 ms for TPOT.
    assert judged({"ttft_p50": 0.10}, [1.0], 1.4).outcome == "pass"
    assert "absolute floor" in judged({"ttft_p50": 0.10}, [1.0], 1.4).reason
    assert judged({"tpot_p50": 0.10}, [1.0], 1.4).outcome == "fail"
    assert judged({"ttft_p50": 0.10, "floor_ms": 0}, [1.0], 1.4).outcome == "fail"
    assert judged({"ttft_p50": 0.10, "floor_ms": 7}, [30], 23.4).outcome == "pass"


def test_a_floor_of_one_metric_goes_before_that_of_all() -> None:
    for given in (
        {"floor_ms": 9, "ttft_floor_ms": 1, "ttft_p50": 0, "e2e_p50": 0},
        {"ttft_floor_ms": 1, "floor_ms": 9, "ttft_p50": 0, "e2e_p50": 0},
    ):
        floors = {limit.metric.name: limit.floor_ns for limit in read_tolerances(given)}
        assert floors == {"ttft": 1 * MS, "e2e": 9 * MS}


def test_a_zero_in_reality_is_judged_by_the_floor() -> None:
    assert judged({"queue_delay_p50": 0.1}, [0], 0.3).outcome == "pass"
    assert judged({"queue_delay_p50": 0.1}, [0], 0.6).outcome == "fail"


def test_noise_above_the_tolerance_is_inconclusive() -> None:
    # Median 100, noise 20%: an error of 25% may be noise, one of 31% may not.
    assert judged({"ttft_p50": 0.10}, [80, 100, 120], 105).outcome == "inconclusive"
    assert judged({"ttft_p50": 0.10}, [80, 100, 120], 125).outcome == "inconclusive"
    assert judged({"ttft_p50": 0.10}, [80, 100, 120], 131).outcome == "fail"
    assert judged({"ttft_p50": 0.20}, [80, 100, 120], 105).outcome == "pass"
    assert judged({"ttft_p50": 0.20}, [80, 100, 120], 125).outcome == "fail"


def check(name: str, status: Any) -> Check:
    return Check(name, status, "")


def test_verdict_rules() -> None:
    def outcome(value: Any) -> Judgement:
        return Judgement("ttft_p50", value, 1, 1, 0.0, 0.1, 0.0, None)

    fine = [check("same_workload", "pass"), check("warmed_up", "skip")]
    assert verdict_of(fine, []) == "pass"
    assert verdict_of([*fine, check("below_saturation", "warn")], [outcome("pass")]) == "pass"
    assert verdict_of(fine, [outcome("inconclusive"), outcome("pass")]) == "inconclusive"
    assert verdict_of(fine, [outcome("inconclusive"), outcome("fail")]) == "fail"
    # Another case than the real one: no figure counts.
    assert verdict_of([check("kv_blocks_mirrored", "fail")], [outcome("pass")]) == "fail"
    assert verdict_of([check("kv_blocks_mirrored", "overridden")], [outcome("pass")]) == "pass"
    # A bad measurement: neither do they, but the simulator is not to blame.
    assert verdict_of([check("prefix_cache_cold", "fail")], [outcome("fail")]) == "inconclusive"
    both = [check("prefix_cache_cold", "fail"), check("same_workload", "fail")]
    assert verdict_of(both, []) == "fail"


def why(comparison: Comparison) -> str:
    return "\n".join(failure_lines(document_of(comparison)))


def test_what_does_not_hold_is_told(tmp_path: Path) -> None:
    real = [real_run(tmp_path / f"real{k}", steady(24, ttft=100 + k)) for k in range(3)]
    comparison = compare_runs(real, sim_run(tmp_path / "sim", steady(24, ttft=2)))
    comparison = comparison.judged({"ttft_p50": 0.10, "tpot_p50": 0.05})
    with pytest.raises(CheckFailed, match="ttft_p50 did not hold"):
        comparison.require_pass()
    for part in (
        "ttft_p50",
        "real 101.0 ms",
        "simulated 2.000 ms",
        "error -98.0%",
        "tolerance 10.0%",
        "noise 1.0%",
        "likely cause: most of the error lies in prefill",
    ):
        assert part in why(comparison)
    assert "tpot_p50" not in why(comparison)
    assert [item.outcome for item in comparison.judgements] == ["fail", "pass"]


def test_what_holds_is_judged_too(tmp_path: Path) -> None:
    real = real_run(tmp_path / "real", steady(24))
    comparison = compare_runs([real], sim_run(tmp_path / "sim", steady(24, ttft=105)))
    (found,) = comparison.judged({"ttft_p50": 0.10}).judgements
    assert (found.outcome, found.error) == ("pass", pytest.approx(0.05))
    assert why(comparison) == ""
    with pytest.raises(UsageError):
        comparison.judged({"ttft_median": 0.1})


def test_a_metric_that_is_not_available_cannot_be_judged(tmp_path: Path) -> None:
    real = real_run(tmp_path / "real", steady(24), token_times=False)
    comparison = compare_runs([real], sim_run(tmp_path / "sim", steady(24)))
    comparison = comparison.judged({"itl_p50": 0.1})
    assert comparison.verdict == "inconclusive"
    assert "the run has no token times" in why(comparison)


def test_a_failed_check_fails_although_all_tolerances_hold(tmp_path: Path) -> None:
    real = real_run(tmp_path / "real", steady(24))
    engine = {**real.meta["engine"], "num_gpu_blocks": 9}
    sim = sim_run(tmp_path / "sim", steady(24), meta={"engine": engine})
    comparison = compare_runs([real], sim).judged({"ttft_p50": 0.10})
    with pytest.raises(CheckFailed, match="kv_blocks_mirrored"):
        comparison.require_pass()
    assert "num_gpu_blocks is 512 in real, 9 in the simulation" in why(comparison)
    overridden = compare_runs([real], sim, overrides=["kv_blocks_mirrored"])
    assert overridden.judged({"ttft_p50": 0.10}).verdict == "pass"
    with pytest.raises(UsageError, match="unknown check 'kv_blocks'"):
        compare_runs([real], sim, overrides=["kv_blocks"])


def test_noise_factor_widens_a_tolerance_to_the_noise() -> None:
    # 10% off, 8% noise: beyond 5%, within 1.5 times the noise, and not within once the noise.
    outcomes = {}
    for factor in (0.0, 1.0, 1.5):
        judgement = judged({"ttft_p50": 0.05, "noise_factor": factor}, [9.2, 10, 10.8], 11)
        outcomes[factor] = (judgement.outcome, round(judgement.tolerance, 3))
    assert outcomes == {
        0.0: ("inconclusive", 0.05),
        1.0: ("fail", 0.08),
        1.5: ("pass", 0.12),
    }
