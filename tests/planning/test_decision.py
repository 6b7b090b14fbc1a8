"""Decisions: the setting that each side chooses, and what the simulator's choice costs."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from pytest_gpusim.compare.measure import RunMetrics
from pytest_gpusim.errors import CheckFailed, UsageError
from pytest_gpusim.planning.bearing import Bearing
from pytest_gpusim.planning.decision import Decision, Setting
from pytest_gpusim.planning.question import Measured, Question, Sides
from pytest_gpusim.planning.slo import parse_limits


def decision(*settings: tuple[str, tuple[float, ...], float], higher: bool = True) -> Decision:
    made = tuple(Setting(name, real, (simulated,)) for name, real, simulated in settings)
    return Decision("capacity", made, higher)


def test_a_wrong_choice_costs_what_reality_says() -> None:
    found = decision(("a", (10.0, 11.0), 12.0), ("b", (20.0, 21.0), 11.0))
    assert (found.real_choice.name, found.simulated_choice.name) == ("b", "a")
    assert found.regret == pytest.approx(10 / 20.5)
    # Welch by hand: both variances 1/2, so SE = sqrt(1/4 + 1/4) and 2 degrees; t(0.95; 2) = 2.92.
    half = 2.91999 * math.sqrt(0.5)
    assert found.regret_interval == pytest.approx(
        ((10 - half) / 20.5, (10 + half) / 20.5), rel=1e-4
    )
    assert found.verdict == "different"
    assert found.rank_correlation == -1
    assert found.pairs == (1, 0)
    with pytest.raises(CheckFailed, match=r"chooses a, reality b \(different\); regret 48\.8%"):
        found.check(regret=0.1)
    assert found.regret_text == "48.8% (38.7% to 58.9%)"


def test_the_same_choice_costs_nothing() -> None:
    a, b, c = ("a", (30.0, 31.0), 50.0), ("b", (20.0, 21.0), 20.0), ("c", (10.0, 10.5), 19.0)
    found = decision(a, b, c)
    assert found.verdict == "same"
    assert found.regret == 0
    assert found.regret_interval == (0.0, 0.0)
    assert found.rank_correlation == 1
    assert found.pairs == (3, 3)
    found.check()


def test_the_same_name_within_the_noise_proves_nothing() -> None:
    # Welch for b against a: half = 2.92 sqrt((0.02 + 0.5) / 2) at about 1.1 degrees of freedom.
    found = decision(("a", (10.0, 10.2), 12.0), ("b", (9.0, 10.0), 11.0))
    assert found.real_choice is found.simulated_choice
    assert found.verdict == "not to be told apart"
    assert found.regret_interval is not None
    low, high = found.regret_interval
    assert (low, found.regret) == (0.0, 0.0)
    with pytest.raises(CheckFailed, match=r"regret 0\.0%"):
        found.check(regret=high - 0.01)
    found.check(regret=high)


def test_one_repeat_says_nothing_of_noise() -> None:
    found = decision(("a", (10.0,), 12.0), ("b", (5.0,), 11.0))
    assert found.verdict == "not to be told apart"
    assert found.regret_text == "0.0%, of unknown noise"
    with pytest.raises(CheckFailed):
        found.check(regret=0.5)


def test_of_settings_that_the_simulator_holds_for_equal_the_worst_is_taken() -> None:
    a, b = ("a", (1.0, 1.0), 1.0), ("b", (0.5, 0.5), 1.0)
    for settings in ((a, b), (b, a)):
        found = decision(*settings)
        assert found.simulated_choice.name == "b"
        assert found.verdict == "different"


@pytest.mark.parametrize(
    ("a", "b", "verdict"),
    [
        # The rival may be any better: it was not measured at a load that breaks it.
        (Setting("a", (6.0, 6.0), (6.0,)), Setting("b", (4.0, 4.0), (4.0,), "at least"), ""),
        (Setting("a", (8.0,) * 2, (9.0,), "at least"), Setting("b", (8.0,) * 2, (8.0,), "at least"),
         ""),
        (Setting("a", (2.0,) * 2, (3.0,), "at most"), Setting("b", (2.0,) * 2, (2.0,), "at most"),
         ""),
        # The choice is at least so good, and the rival no better.
        (Setting("a", (8.0,) * 2, (8.0,), "at least"), Setting("b", (5.0,) * 2, (5.0,)), "same"),
        (Setting("a", (4.0,) * 2, (9.0,), "at least"), Setting("b", (6.0,) * 2, (5.0,)), ""),
        # Whatever it is, it is better than the choice.
        (Setting("a", (5.0,) * 2, (9.0,)), Setting("b", (8.0,) * 2, (8.0,), "at least"),
         "different"),
        # The rival breaks at the lowest load that it was measured at, which is a high one.
        (Setting("a", (5.0,) * 2, (9.0,)), Setting("b", (8.0,) * 2, (8.0,), "at most"), ""),
        (Setting("a", (2.0,) * 2, (3.0,), "at most"), Setting("b", (1.5,) * 2, (1.0,)), ""),
        # The simulator says nothing against the worse one: it was not simulated at more.
        (Setting("a", (6.0,) * 2, (8.0,), "", "at least"), Setting("b", (10.0,) * 2, (10.0,)),
         "different"),
    ],
)  # fmt: skip
def test_what_is_but_a_bound_decides_only_what_it_bounds(
    a: Setting, b: Setting, verdict: str
) -> None:
    found = Decision("capacity", (a, b), True)
    assert found.verdict == (verdict or "not to be told apart")
    json.dumps(found.to_json(), allow_nan=False)
    if verdict != "same":
        with pytest.raises(CheckFailed):
            found.check(regret=0.3)


def test_of_many_alike_one_looks_better() -> None:
    """Independent of ours: Welch's interval of scipy, at 95% for each of two rivals' lower ends."""
    from scipy.stats import ttest_ind

    a, b, c = (10.0, 10.4, 10.1), (10.8, 10.3, 10.7), (10.2, 9.7, 10.9)
    found = decision(("a", a, 3.0), ("b", b, 2.0), ("c", c, 1.0))
    assert found.regret_interval is not None
    low, high = found.regret_interval
    by_rival = [ttest_ind(rival, a, equal_var=False) for rival in (b, c)]
    scale = sum(b) / 3
    assert high == pytest.approx(max(t.confidence_interval(0.9).high for t in by_rival) / scale)
    assert low == 0 > by_rival[0].confidence_interval(0.95).low
    assert by_rival[0].confidence_interval(0.9).low > 0  # which would have been called different
    assert found.verdict == "not to be told apart"


@pytest.mark.parametrize(
    ("rival", "verdict"),
    [(0.975, "not to be told apart"), (1.0, "not to be told apart"), (0.9, "same")],
)
def test_a_single_request_decides_nothing(rival: float, verdict: str) -> None:
    # Shares of 40 requests, to the last one the same in both repeats.
    a = Setting("a", (0.975,) * 2, (0.99,), resolution=1 / 40)
    found = Decision("goodput", (a, Setting("b", (rival,) * 2, (0.5,), resolution=1 / 40)), True)
    assert found.verdict == verdict
    bearing = Bearing("a", 4.0, 0.1, (1 - rival,) * 2, (0.05,), resolution=1 / 40)
    assert bearing.real_holds is (None if rival == 0.9 else True)


def measured(ttft_ms: list[float]) -> Measured:
    nothing = dict.fromkeys(("arrival_time_ns", "tpot", "e2e"), 1.0)
    table = pd.DataFrame({"ttft": [value * 1e6 for value in ttft_ms]}).assign(**nothing)
    return Measured(RunMetrics("run", table, None), {}, {})


def capacity_of(slo: str, curve: dict[float, list[float]]) -> Setting:
    sides = Sides({load: [measured(v)] * 2 for load, v in curve.items()})
    sides.simulated = {load: [measured(v)] for load, v in curve.items()}
    question = Question(
        Path("d.toml"), parse_limits(slo, None if "_" in slo else 0.8), (), {"a": sides}, ()
    )
    (found,) = question.capacities
    return found


def test_limits_that_hold_again_above_a_load_that_breaks_them() -> None:
    found = capacity_of("ttft_p50=4ms", {1.0: [1.0], 2.0: [16.0], 4.0: [3.0], 8.0: [9.0]})
    assert found.real_mean == pytest.approx(2**0.5)  # ln(4/1) below, ln(16/4) above: half way
    words = "the limits break at load 2 and hold at 4; taken is the lower one"
    assert found.notes == (f"a, real: {words}", f"a, simulated: {words}")
    assert capacity_of("ttft_p50=4ms", {1.0: [1.0], 2.0: [16.0]}).notes == ()


def test_a_capacity_by_shares_is_known_to_a_request() -> None:
    within = {1.0: 10, 4.0: 6}  # of ten requests; 80% must be
    found = capacity_of(
        "ttft=4ms", {load: [1.0] * n + [9.0] * (10 - n) for load, n in within.items()}
    )
    assert found.real_mean == pytest.approx(2)  # half way from 1.0 to 0.6
    assert found.resolution == pytest.approx((4**0.75 - 4**0.25) / 2)  # one request more, one less


def test_doubtful_runs_decide_nothing() -> None:
    found = decision(("a", (30.0, 31.0), 50.0), ("b", (20.0, 21.0), 20.0))
    found = replace(found, doubts=("a at load 4: settings_mirrored failed: …",))
    assert found.verdict == "inconclusive"
    with pytest.raises(CheckFailed, match="settings_mirrored failed"):
        found.check(regret=9.0)


@pytest.mark.parametrize(
    ("real", "simulated", "verdict"),
    [
        ((0.80, 0.82), 0.9, "same"),
        ((1.20, 1.22), 1.1, "same"),
        ((0.80, 0.82), 1.1, "different"),
        ((0.95, 1.04), 0.9, "not to be told apart"),
        ((0.50,), 0.5, "not to be told apart"),
    ],
)
def test_whether_limits_hold_on_both_sides(
    real: tuple[float, ...], simulated: float, verdict: str
) -> None:
    assert Bearing("a", 4.0, 1.0, real, (simulated,)).verdict == verdict


def test_lower_is_better_for_latencies() -> None:
    found = decision(("a", (100.0, 102.0), 90.0), ("b", (50.0, 51.0), 95.0), higher=False)
    assert found.regret == pytest.approx(50.5 / 50.5)
    assert decision(("a", (1.0, 1.0), 1.0), ("b", (2.0, 2.0), 2.0), higher=False).regret_text == (
        "0.0% (0.0% to 0.0%)"
    )
    assert found.verdict == "different"


@pytest.mark.parametrize("runs", [(9.9,), (8.0, 11.5)])
def test_what_repeats_cannot_tell_apart_is_said_so(runs: tuple[float, ...]) -> None:
    found = decision(("a", runs, 12.0), ("b", (10.0, 10.2), 11.0))
    assert found.verdict == "not to be told apart"
    with pytest.raises(CheckFailed, match="not to be told apart"):
        found.check(regret=0.05)


def test_a_choice_needs_two_settings() -> None:
    with pytest.raises(UsageError, match="at least two"):
        decision(("a", (1.0,), 1.0))
