"""Reasons for which a simulation looked right and was not: each planted, named, and no pass.

Every case is a simulation that is right, or looks right, and runs that would let it pass if one
looked at figures alone. The system is that of `benchmarks.verdicts.synthetic`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from benchmarks.verdicts.synthetic import (
    ENGINE,
    REAL,
    SIMULATED,
    Times,
    load,
    make_run,
    noisy,
    serve,
)
from pytest_gpusim.compare import compare_runs
from pytest_gpusim.compare.measure import measure_run
from pytest_gpusim.compare.sensitivity import sensitivity
from tests.compare.planted import WORK, Planted, changed, engine_without, slowed, status, without


def test_nothing_planted_passes() -> None:
    comparison = Planted().comparison()
    assert comparison.verdict == "pass", [
        check for check in comparison.checks if check.status not in ("pass", "skip")
    ]
    assert not [check for check in comparison.checks if check.status in ("fail", "unknown")]


RIGHT = serve(WORK)
NOISY = Planted().real
FIRST_TEN = np.where(np.arange(60) < 10, 1.8, 1.0)
SLOWEST = np.where(
    RIGHT.first - WORK.arrival >= np.quantile(RIGHT.first - WORK.arrival, 0.8), 0.5, 1.0
)
LONG_OUTPUTS = np.where(WORK.output > np.median(WORK.output), 1.25, 0.8)
MEAN = Times(
    WORK.arrival,
    WORK.arrival + (RIGHT.first - WORK.arrival).mean(),
    np.full(60, RIGHT.per_token.mean()),
)
MEANS = {"ttft_mean": 0.1, "e2e_mean": 0.1}

# Reason -> (what is planted, the check that names it, its status, the verdict).
REASONS: dict[str, tuple[Planted, str, str, str]] = {
    "nobody states the profile": (
        Planted(sim_meta=without(SIMULATED, "profile")),
        "profile_matches", "unknown", "inconclusive",
    ),
    "nobody states a calibration": (
        Planted(sim_meta=changed(SIMULATED,
                                 profile=without(SIMULATED["profile"], "calibrated_on"))),
        "not_calibrated_on", "unknown", "inconclusive",
    ),
    "calibrated on another run of the same workload": (
        Planted(sim_meta=changed(SIMULATED, profile={**SIMULATED["profile"],
                                                     "calibrated_on": ["synthetic"]})),
        "not_calibrated_on", "fail", "fail",
    ),
    "nobody states the scheduler's limits": (
        Planted(real_meta=engine_without("max_num_seqs", "max_num_batched_tokens")),
        "settings_mirrored", "unknown", "inconclusive",
    ),
    "settings are stated on one side only": (
        Planted(real_meta=engine_without("enable_prefix_caching", "dtype")),
        "settings_mirrored", "unknown", "inconclusive",
    ),
    "KV blocks are unstated": (
        Planted(real_meta=engine_without("num_gpu_blocks")),
        "kv_blocks_mirrored", "unknown", "inconclusive",
    ),
    "nobody recorded extrapolation": (
        Planted(sim_meta=without(SIMULATED, "extrapolated_share")),
        "profile_covers", "unknown", "inconclusive",
    ),
    "nobody recorded engine time": (
        Planted(sim_meta=without(SIMULATED, "operator_shares")),
        "overhead_counted", "unknown", "inconclusive",
    ),
    "nobody recorded the cache": (
        Planted(real_rows={"cached": None}),
        "prefix_cache_cold", "unknown", "inconclusive",
    ),
    "the cache was warm": (
        Planted(real_rows={"cached": 48}),
        "prefix_cache_cold", "fail", "fail",
    ),
    "nobody recorded a warm-up": (
        Planted(real_meta=without(REAL, "warmup")),
        "warmed_up", "unknown", "inconclusive",
    ),
    "the sender was late": (
        Planted(real_rows={"sent": WORK.arrival + 0.02}),
        "generator_on_time", "fail", "fail",
    ),
    "a digest differs": (
        Planted(sim_meta=changed(SIMULATED, workload_digest="another")),
        "same_workload", "fail", "fail",
    ),
    "the slowest rows failed": (
        Planted(real_rows={"failed": RIGHT.first - WORK.arrival
                           >= np.sort(RIGHT.first - WORK.arrival)[-2]}),
        "enough_samples", "fail", "inconclusive",
    ),
    "the same real run is given three times": (
        Planted(real=[NOISY[0]] * 3),
        "roles", "fail", "fail",
    ),
    "a run is compared with its copy under another name": (
        Planted(sim=NOISY[1]),
        "roles", "fail", "fail",
    ),
    "roles are swapped": (
        Planted(real_meta=SIMULATED, sim_meta=REAL),
        "roles", "fail", "fail",
    ),
    "nobody says which run is real": (
        Planted(real_meta=without(REAL, "run_type")),
        "roles", "unknown", "inconclusive",
    ),
    "one repeat is 30% slower than the others": (
        Planted(real=[*NOISY[:2], slowed(NOISY[2], 1.3)], sim=slowed(RIGHT, 1.08),
                tolerances={"e2e_p50": 0.5}),
        "real_runs_agree", "fail", "inconclusive",
    ),
    "latencies are in µs beside arrivals in ns": (
        Planted(real=[slowed(times, 1e-3) for times in NOISY], tolerances={"e2e_p50": 0.9}),
        "units", "fail", "fail",
    ),
    "both sides may be by other clocks": (
        Planted(real_meta=without(REAL, "clock"), tolerances={"ttft_p50": 0.1}),
        "clock_counted", "unknown", "inconclusive",
    ),
    "a warm-up that only the first ten requests show": (
        Planted(real=[slowed(times, FIRST_TEN) for times in NOISY]),
        "steady", "fail", "fail",
    ),
    "a constant mean for every request": (
        Planted(sim=MEAN, tolerances=MEANS),
        "no_cancelling_errors", "fail", "fail",
    ),
    "the slowest fifth is halved": (
        Planted(sim=slowed(RIGHT, SLOWEST), tolerances={"ttft_p50": 0.1, "tpot_p50": 0.1}),
        "no_cancelling_errors", "fail", "fail",
    ),
    "errors cancel between long and short outputs": (
        Planted(sim=replace(RIGHT, per_token=RIGHT.per_token * LONG_OUTPUTS),
                tolerances={"tpot_mean": 0.1}),
        "no_cancelling_errors", "fail", "fail",
    ),
}  # fmt: skip


@pytest.mark.parametrize("reason", REASONS)
def test_a_reason_is_named_and_no_pass(reason: str) -> None:
    planted, name, expected, verdict = REASONS[reason]
    comparison = planted.comparison()
    assert (status(comparison, name), comparison.verdict) == (expected, verdict), comparison.checks


@pytest.mark.parametrize("rate", [1.001, 1.004, 1.01])
def test_a_clock_that_drifts_is_named(rate: float) -> None:
    """The run's own clock runs fast, its schedule does not: everything comes later and later."""

    def drifted(times: Times) -> Times:
        return Times(times.scheduled * rate, times.first * rate, times.per_token * rate)

    work = load(400, seed=5, utilisation=0.3)
    quiet = Planted(work=work)
    late = Planted(
        work=work,
        real=[drifted(times) for times in quiet.real],
        real_rows={"sent": work.arrival * rate},
        tolerances={"tpot_p50": 0.1},
    )
    assert status(quiet.comparison(), "units") == "pass"
    comparison = late.comparison()
    assert (status(comparison, "units"), comparison.verdict) == ("fail", "fail")
    # Arrivals by that clock, too: another schedule than the simulated one.
    real, sim = quiet.runs()
    for run in real:
        for column in ("arrival_time_ns", "sent_time_ns", "first_token_time_ns"):
            run.requests[column] = (run.requests[column].astype("float64") * rate).round()
            run.requests[column] = run.requests[column].astype("Int64")
        run.requests["completion_time_ns"] += 10**9
    assert status(compare_runs(real, sim), "units") == "fail"


def test_four_requests_cannot_be_judged_at_p99() -> None:
    from pytest_gpusim.errors import UsageError

    work = load(4, seed=1)
    with pytest.raises(UsageError, match="ttft_p99: 4 values cannot carry p99"):
        Planted(work=work, tolerances={"ttft_p99": 0.5}).comparison()
    comparison = Planted(work=work).comparison()
    assert set(comparison.left_out) == {"ttft_p90", "tpot_p90", "e2e_p90"}


@pytest.mark.parametrize("utilisation", [0.1, 0.95, 3.0])
def test_saturation_speaks_where_it_magnifies(utilisation: float) -> None:
    work = load(300, seed=7, utilisation=utilisation)
    right = serve(work)
    run = make_run(work, right, REAL, name="real")
    moved = sensitivity(measure_run(run))["ttft_p50"]
    # What the system itself does when its steps take 1% longer.
    before, after = (np.median(serve(work, prefill=f).first - work.arrival) for f in (1.0, 1.01))
    assert moved == pytest.approx(float(after / before - 1) / 0.01, rel=0.1, abs=0.1)
    sim = make_run(work, serve(work, prefill=1.03), SIMULATED, name="sim")
    found = next(
        check for check in compare_runs([run], sim).checks if check.name == "below_saturation"
    )
    assert found.status == ("pass" if utilisation < 0.5 else "warn")
    assert ("a 1% error of step time moves ttft_p50" in found.detail) == (utilisation == 0.95)


def test_a_simulator_that_is_88_percent_off() -> None:
    """Request times alone and next to no metadata: not judged while nothing is asked, then fail."""
    bare = {"run_type": "vidur", "model": "synthetic/model"}
    planted = Planted(sim=slowed(RIGHT, 0.114), sim_meta=bare, real_meta={"run_type": "real"})
    comparison = compare_runs(*planted.runs())
    assert comparison.verdict == "not_judged"
    assert comparison.judged().verdict == "fail"
    assert comparison.metrics["ttft"]["p50"]["error"] == pytest.approx(-0.886, abs=0.01)


def test_what_is_silent_can_be_stated_where_it_is_used() -> None:
    planted = Planted(
        real_meta=without(engine_without("num_gpu_blocks"), "warmup"),
        sim_meta=without(SIMULATED, "extrapolated_share"),
    )
    real, sim = planted.runs()
    silent = compare_runs(real, sim).judged()
    assert silent.verdict == "inconclusive"
    stated = {
        "engine.num_gpu_blocks": 4096, "warmup": {"requests": 8}, "extrapolated_share": 0.0,
    }  # fmt: skip
    told = compare_runs(real, sim, stated=stated).judged()
    assert told.verdict == "pass"
    assert told.sides.real[0].meta["stated"] == {
        "engine.num_gpu_blocks": 4096, "warmup": {"requests": 8},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ({"engine.max_num_seqs": 3}, "says 256: leave it out, or correct it"),
        ({"wheels": 4}, "cannot state 'wheels'"),
    ],
)
def test_a_statement_that_cannot_be(stated: Mapping[str, Any], message: str) -> None:
    from pytest_gpusim.errors import UsageError

    with pytest.raises(UsageError, match=message):
        compare_runs(*Planted().runs(), stated=stated)


def test_seeds_of_a_stochastic_simulator_are_a_sample() -> None:
    planted = Planted()
    real, _ = planted.runs()
    rng = np.random.default_rng(8)
    seeds = [
        make_run(WORK, noisy(WORK, rng, sigma_run=0.05), SIMULATED, name=f"seed-{k}")
        for k in range(4)
    ]
    many = compare_runs(real, seeds).judged({"e2e_p50": 0.1})
    assert many.figures.by_name["e2e_p50"].estimate.num_seeds == 4
    one = compare_runs(real, seeds[0]).judged({"e2e_p50": 0.1})
    widths = [each.figures.by_name["e2e_p50"].half_width for each in (one, many)]
    assert widths[1] > 1.5 * widths[0]  # one seed hides what seeds differ by
    assert status(many, "roles") == "pass"
    assert status(compare_runs(real, [seeds[0], real[1]]), "roles") == "fail"


def test_a_run_longer_than_the_wall_clock_has_a_fast_clock() -> None:
    seconds = float(RIGHT.first[-1]) + 3.0
    end = f"2026-01-01T00:{int(seconds // 60):02}:{seconds % 60:06.3f}Z"
    for start, expected in (("2026-01-01T00:00:00Z", "pass"), ("2026-01-01T00:00:04Z", "fail")):
        meta = changed(REAL, started_at=start, ended_at=end)
        assert status(Planted(real_meta=meta).comparison(), "units") == expected


def test_repeats_of_another_engine_are_no_repeats() -> None:
    planted = Planted()
    real, sim = planted.runs()
    other = replace(real[2], meta=changed(REAL, run_id="x", engine={**ENGINE, "max_num_seqs": 8}))
    found = next(
        check
        for check in compare_runs([*real[:2], other], sim).checks
        if check.name == "real_runs_agree"
    )
    assert found.status == "fail"
    assert "max_num_seqs is 256 in real-0, 8 in x" in found.detail
