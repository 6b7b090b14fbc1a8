"""How single requests agree: against sums by hand and other implementations."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from benchmarks.verdicts.synthetic import REAL, SIMULATED, Times, load, make_run, noisy, serve
from pytest_gpusim.compare import Comparison, compare_runs
from pytest_gpusim.compare.agreement import AgreementValue

WORK = load(60, seed=3, utilisation=0.4)
RIGHT = serve(WORK)


def compared(sim: Times, *, runs: int = 3) -> Comparison:
    rng = np.random.default_rng(4)
    real = [
        make_run(WORK, noisy(WORK, rng, sigma_run=0.01, sigma_request=0.05), REAL, name=f"r{k}")
        for k in range(runs)
    ]
    return compare_runs(real, make_run(WORK, sim, SIMULATED, name="sim"))


def columns(comparison: Comparison) -> tuple[np.ndarray, np.ndarray]:
    runs = [run.requests["ttft"].to_numpy() for run in comparison.sides.real_metrics]
    return comparison.sides.sim_metrics.requests["ttft"].to_numpy(), np.stack(runs, axis=1)


def test_the_simulation_is_held_against_the_median_of_the_real_runs() -> None:
    comparison = compared(RIGHT)
    sim, runs = columns(comparison)
    middle = np.median(runs, axis=1)
    found = comparison.agreements
    assert found["ttft_mape"].sim == pytest.approx(np.mean(abs(sim - middle) / middle))
    distance = stats.wasserstein_distance(sim, middle) / middle.mean()
    assert found["ttft_wasserstein"].sim == pytest.approx(distance)
    assert found["ttft_rank_correlation"].sim == pytest.approx(
        stats.spearmanr(sim, middle).statistic
    )


def test_each_real_run_is_held_against_the_median_of_the_others() -> None:
    comparison = compared(RIGHT)
    _, runs = columns(comparison)
    errors = []
    for place in range(3):
        rest = np.median(np.delete(runs, place, axis=1), axis=1)
        errors.append(np.mean(abs(runs[:, place] - rest) / rest))
    assert comparison.agreements["ttft_mape"].real == pytest.approx(np.mean(errors))
    # A simulation that is right does not beat reality: it has no noise of its own.
    assert comparison.agreements["ttft_mape"].sim < comparison.agreements["ttft_mape"].real
    assert compared(RIGHT, runs=2).agreements["ttft_mape"].real is None


def test_a_constant_mean_has_the_right_mean_and_no_rank() -> None:
    ttft = RIGHT.first - WORK.arrival
    constant = Times(WORK.arrival, WORK.arrival + ttft.mean(), RIGHT.per_token)
    found = compared(constant)
    assert found.metrics["ttft"]["mean"]["error"] == pytest.approx(0, abs=0.03)
    assert abs(found.agreements["ttft_rank_correlation"].sim) < 0.1  # by roundings to whole ns
    assert found.agreements["ttft_rank_correlation"].real > 0.9
    assert found.agreements["ttft_mape"].sim > 5 * found.agreements["ttft_mape"].real
    limits = {"ttft_mape": 0.2, "ttft_rank_correlation": 0.8, "ttft_wasserstein": 0.2}
    assert {item.outcome for item in found.judged(limits).judgements} == {"fail"}
    right = compared(RIGHT).judged(limits)
    assert {item.outcome for item in right.judgements} == {"pass"}
    assert right.judgements[0].decided_by == "limit"


@pytest.mark.parametrize(
    ("interval", "upper", "outcome"),
    [
        ((0.10, 0.14), True, "pass"),
        ((0.10, 0.16), True, "inconclusive"),
        ((0.16, 0.20), True, "fail"),
        ((0.16, 0.20), False, "pass"),
        ((0.10, 0.14), False, "fail"),
        (None, True, "inconclusive"),
    ],
)
def test_limits(interval: tuple[float, float] | None, upper: bool, outcome: str) -> None:
    value = AgreementValue(0.15, 0.1, interval, 3 if interval else 1)
    assert value.outcome(0.15, upper=upper) == outcome


def test_so_many_runs_would_decide() -> None:
    value = AgreementValue(0.12, 0.1, (0.08, 0.16), 3)
    needed = value.runs_needed(0.15)
    assert needed is not None
    one_run = 0.04 / stats.t.ppf(0.95, 2) * 3**0.5
    assert stats.t.ppf(0.95, needed - 1) * one_run / needed**0.5 <= 0.03
    assert stats.t.ppf(0.95, needed - 2) * one_run / (needed - 1) ** 0.5 > 0.03
    assert value.runs_needed(0.12) is None
