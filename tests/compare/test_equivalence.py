"""The rule: equivalence on the log ratio, against numbers that were computed by other means."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from pytest_gpusim.compare.judging.equivalence import Estimate, RunSpread, estimate

BOUNDS = (math.log(0.9), math.log(1.1))


def test_the_interval_is_that_of_two_one_sided_t_tests() -> None:
    real, sim = [100.0, 104.0, 97.0, 101.0], 106.0
    found = estimate(real, [sim])
    # scipy's own interval of a mean, at 90%: both ends at 95%.
    logs = np.log(real)
    low, high = stats.t.interval(0.90, 3, loc=logs.mean(), scale=stats.sem(logs))
    assert found.low == pytest.approx(math.log(sim) - high)
    assert found.high == pytest.approx(math.log(sim) - low)
    assert found.real == pytest.approx(stats.gmean(real))
    assert found.error == pytest.approx(sim / stats.gmean(real) - 1)
    # And the verdict is that of two t-tests at 5% each.
    shifted = logs - math.log(sim)
    too_low = stats.ttest_1samp(shifted, -BOUNDS[0], alternative="less").pvalue
    too_high = stats.ttest_1samp(shifted, -BOUNDS[1], alternative="greater").pvalue
    assert (max(too_low, too_high) < 0.05) == (found.outcome(*BOUNDS) == "pass")


def test_seeds_of_a_stochastic_simulation_are_a_sample_by_welch() -> None:
    real, sim = [100.0, 104.0, 97.0], [103.0, 99.0, 108.0, 101.0]
    found = estimate(real, sim)
    welch = stats.ttest_ind(np.log(sim), np.log(real), equal_var=False).confidence_interval(0.90)
    assert (found.low, found.high) == pytest.approx(tuple(welch))
    assert estimate(real, sim[:1]).num_seeds == 1


def test_a_history_is_pooled_by_degrees_of_freedom() -> None:
    real = [100.0, 104.0]
    own = float(np.var(np.log(real), ddof=1))
    found = estimate(real, [101.0], history=RunSpread(0.0004, 9))
    assert found.pooled
    assert found.run_dof == 10
    assert found.run_sd == pytest.approx(math.sqrt((own + 9 * 0.0004) / 10))
    half = stats.t.ppf(0.95, 10) * found.run_sd / math.sqrt(2)
    assert found.high == pytest.approx(found.offset + half)
    # One run alone has no spread; a history gives it one.
    assert estimate([100.0], [101.0]).interval is None
    assert estimate([100.0], [101.0], history=RunSpread(0.0001, 9)).outcome(*BOUNDS) == "pass"


@pytest.mark.parametrize(
    ("sim", "outcome"), [(100, "pass"), (109, "inconclusive"), (150, "fail"), (60, "fail")]
)
def test_three_outcomes(sim: float, outcome: str) -> None:
    assert estimate([97.0, 100.0, 103.0], [sim]).outcome(*BOUNDS) == outcome


def test_noise_never_widens_a_tolerance() -> None:
    quiet, noisy = [99.0, 100.0, 101.0], [60.0, 100.0, 165.0]
    assert estimate(quiet, [110.5]).outcome(*BOUNDS) == "inconclusive"
    assert estimate(quiet, [115.0]).outcome(*BOUNDS) == "fail"
    for sim in (100.0, 115.0, 200.0):
        assert estimate(noisy, [sim]).outcome(*BOUNDS) != "pass"


@pytest.mark.parametrize(("sim", "outcome"), [(100, "inconclusive"), (126, "inconclusive"),
                                              (130, "fail"), (75, "fail")])  # fmt: skip
def test_one_run_never_passes(sim: float, outcome: str) -> None:
    # ln(1.1) + 0.15 is a ratio of 1.278, and its inverse 0.782.
    assert estimate([100.0], [sim]).outcome(*BOUNDS) == outcome


def test_a_bound_that_is_met_exactly_is_met() -> None:
    assert estimate([100.0, 100.0], [110.0]).outcome(*BOUNDS) == "pass"
    assert estimate([100.0, 100.0], [110.001]).outcome(*BOUNDS) == "fail"


def test_a_zero_is_judged_on_differences() -> None:
    found = estimate([0.0, 0.0, 3.0], [1.5])
    assert found.absolute
    assert (found.real, found.offset) == (1.0, 0.5)
    half = stats.t.ppf(0.95, 2) * math.sqrt(3.0 / 3)
    assert found.high == pytest.approx(0.5 + half)
    assert estimate([0.0, 0.0], [0.0]).error == 0.0
    assert estimate([0.0, 0.0], [2.0]).error is None
    assert estimate([0.0, 0.0], [2.0]).interval is None
    assert estimate([0.0, 0.0], [2.0]).outcome(-5.0, 5.0) == "pass"
    assert estimate([0.0, 0.0], [9.0]).outcome(-5.0, 5.0) == "fail"


def test_so_many_runs_would_decide() -> None:
    def decides(found: Estimate, runs: int) -> bool:
        half = stats.t.ppf(0.95, runs - 1) * found.run_sd / math.sqrt(runs)
        ends = found.offset - half, found.offset + half
        return (ends[0] >= BOUNDS[0] and ends[1] <= BOUNDS[1]) or ends[0] > BOUNDS[1]

    found = estimate([95.0, 100.0, 105.0], [104.0])
    needed = found.runs_needed(*BOUNDS)
    assert needed is not None
    assert decides(found, needed)
    assert not decides(found, needed - 1)
    assert estimate([95.0, 100.0, 105.0], [109.9]).runs_needed(*BOUNDS) is None
    assert estimate([100.0], [104.0]).runs_needed(*BOUNDS) is None


def test_error_rates_at_the_tolerance_are_those_promised() -> None:
    """At an error equal to the tolerance: 5% passes and 5% failures, whatever n."""
    rng = np.random.default_rng(5)
    for runs in (2, 3, 5):
        outcomes = [
            estimate(np.exp(rng.normal(0, 0.02, runs)).tolist(), [1.1]).outcome(*BOUNDS)
            for _ in range(1500)
        ]
        shares = [outcomes.count(kind) / len(outcomes) for kind in ("pass", "fail")]
        # A standard error of 0.6%.
        assert shares == pytest.approx([0.05, 0.05], abs=0.02)


def test_the_tables_of_the_benchmark_are_of_the_rule() -> None:
    from benchmarks.verdicts.tables import outcomes

    real = np.exp(np.random.default_rng(6).normal(0, 0.03, (200, 2, 3)))
    sim = np.array([1.14, 0.97])
    found = outcomes(real, sim, 0.1)
    words = ["pass", "inconclusive", "fail"]
    for trial, kinds in zip(real, found, strict=True):
        for ours, theirs, kind in zip(trial.tolist(), sim.tolist(), kinds.tolist(), strict=True):
            assert estimate(ours, [theirs]).outcome(*BOUNDS) == words[kind]
    assert set(np.unique(found)) == {0, 1, 2}
