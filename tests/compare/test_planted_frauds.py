"""Comparisons that would earn a pass and should not, and honest ones that must not be refused.

Runs that are not what they are given for, columns that are half silent, figures that would pass
whatever the simulator says. The system is that of `benchmarks.verdicts.synthetic`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks.verdicts.synthetic import (
    ENGINE,
    REAL,
    SIMULATED,
    Load,
    Times,
    load,
    make_run,
    noisy,
    serve,
)
from pytest_gpusim.compare import Comparison, compare_runs, document_of
from pytest_gpusim.errors import UsageError
from pytest_gpusim.plugin.checked import CheckedComparison
from pytest_gpusim.report.session import session_lines
from pytest_gpusim.runs import Run
from tests.compare.planted import (
    RIGHT,
    WORK,
    Plant,
    Planted,
    Runs,
    changed,
    of_meta,
    of_rows,
    profile_of,
    slowed,
    status,
    without,
)
from tests.compare.runs import MS, real_run, sim_run, steady
from tests.factories import make_workload


def half_silent(run: Run, column: str) -> Run:
    values = run.requests[column].copy()
    values[values.index % 2 == 0] = pd.NA
    return of_rows(run, **{column: values})


def rounded(run: Run, name: str) -> Run:
    """The same run with its times to the µs."""
    rows = run.requests
    times = {
        column: (rows[column] // 1000 * 1000)
        for column in ("first_token_time_ns", "completion_time_ns")
    }
    return of_meta(of_rows(run, **times), run_id=name)


def simulations_renamed(real: list[Run], sim: Run) -> Runs:
    marks = {"operator_shares": {"mlp": 1.0}}
    return [of_meta(run, **marks) for run in real], sim


def rows_of_a_simulator(real: list[Run], sim: Run) -> Runs:
    return [of_rows(run, backend="vidur") for run in real], sim


def a_measurement_renamed(real: list[Run], sim: Run) -> Runs:
    rng = np.random.default_rng(99)
    meta = changed(SIMULATED, lateness={"p99_ns": 2000})
    return real, make_run(WORK, noisy(WORK, rng, sigma_run=0.01), meta, name="sim")


def one_run_rounded(real: list[Run], sim: Run) -> Runs:
    return [real[0], rounded(real[0], "again"), real[1]], sim


def a_copy_that_was_touched(real: list[Run], sim: Run) -> Runs:
    ends = real[1].requests["completion_time_ns"].copy()
    ends[ends.index % 20 == 0] += 50 * MS
    return real, replace(sim, requests=real[1].requests.assign(completion_time_ns=ends))


def replays_the_steps_of_a_run(real: list[Run], sim: Run) -> Runs:
    """Its own schedule, the real run's step times: as close as 0.05%."""
    rows, rng = real[2].requests, np.random.default_rng(3)
    took = (rows["completion_time_ns"] - rows["first_token_time_ns"]).astype("float64")
    first = rows["first_token_time_ns"] + 3 * MS
    end = first + (took * np.exp(0.0005 * rng.standard_normal(len(rows)))).round().astype("Int64")
    return real, replace(
        sim, requests=rows.assign(first_token_time_ns=first, completion_time_ns=end)
    )


def seeds_of_two_simulators(real: list[Run], sim: Run) -> Runs:
    sims = [
        make_run(
            WORK, slowed(RIGHT, factor), changed(SIMULATED, profiling_digest=digest), name=digest
        )
        for factor, digest in ((1.04, "one"), (0.96, "other"))
    ]
    return real, sims


def one_seed_twice(real: list[Run], sim: Run) -> Runs:
    other = make_run(WORK, slowed(RIGHT, 1.01), SIMULATED, name="other")
    return real, [sim, of_meta(sim, run_id="again"), other]


def scheduled_in_us(real: list[Run], sim: Run) -> Runs:
    return [
        of_rows(run, scheduled_time_ns=run.requests["scheduled_time_ns"] // 1000) for run in real
    ], sim


def tokens_that_end_elsewhere(real: list[Run], sim: Run) -> Runs:
    rows = real[0].requests
    first, end = rows["first_token_time_ns"], rows["completion_time_ns"]
    times = pd.concat([first, first + (end - first) // 1000])
    tokens = pd.DataFrame(
        {"request_id": pd.concat([rows["request_id"]] * 2), "token_time_ns": times}
    ).sort_values(["request_id", "token_time_ns"])
    return [replace(real[0], tokens=tokens), *real[1:]], sim


def meta_of_the_last(**values: Any) -> Plant:
    return lambda real, sim: ([*real[:-1], of_meta(real[-1], **values)], sim)


def silent_half(column: str) -> Plant:
    return lambda real, sim: ([half_silent(run, column) for run in real], sim)


# What is planted -> (how, the check that names it, its status, the verdict).
FRAUDS: dict[str, tuple[Plant, str, str, str]] = {
    "simulations renamed to real runs": (simulations_renamed, "roles", "fail", "fail"),
    "rows of the simulator in a real run": (rows_of_a_simulator, "roles", "fail", "fail"),
    "a measurement renamed to a simulation": (a_measurement_renamed, "roles", "fail", "fail"),
    "one run given twice, rounded to µs": (one_run_rounded, "roles", "fail", "fail"),
    "a real run, touched, as the simulation": (a_copy_that_was_touched, "roles", "fail", "fail"),
    "seeds of two simulators that cancel": (seeds_of_two_simulators, "roles", "fail", "fail"),
    "one seed given twice beside another": (one_seed_twice, "roles", "fail", "fail"),
    "the simulation replays a real run's steps": (
        replays_the_steps_of_a_run, "not_calibrated_on", "fail", "fail",
    ),
    "a calibration that does not say on what": (
        profile_of(calibration={"parameters": []}), "not_calibrated_on", "unknown", "inconclusive",
    ),
    "times of scheduling in µs": (scheduled_in_us, "units", "fail", "fail"),
    "token times that contradict the requests'": (
        tokens_that_end_elsewhere, "units", "fail", "fail",
    ),
    "arrivals shifted against the sending": (
        lambda real, sim: (
            [of_rows(run, sent_time_ns=run.requests["arrival_time_ns"] - 20 * MS) for run in real],
            sim,
        ),
        "generator_on_time", "fail", "fail",
    ),
    "half the requests do not say when they were sent": (
        silent_half("sent_time_ns"), "generator_on_time", "unknown", "inconclusive",
    ),
    "half the requests do not say what was cached": (
        silent_half("num_cached_tokens"), "prefix_cache_cold", "unknown", "inconclusive",
    ),
    "a warm-up in words": (meta_of_the_last(warmup="none"), "warmed_up", "unknown", "inconclusive"),
    "a lateness that is no number": (
        lambda real, sim: (
            [of_meta(of_rows(run, sent_time_ns=pd.NA), lateness={"p99_ns": float("nan")})
             for run in real], sim,
        ),
        "generator_on_time", "unknown", "inconclusive",
    ),
    "one repeat of another model": (
        meta_of_the_last(model="another/model"), "profile_matches", "fail", "fail",
    ),
    "one repeat that does not say its model": (
        meta_of_the_last(model=None), "profile_matches", "unknown", "inconclusive",
    ),
    "one repeat of another vLLM": (
        meta_of_the_last(engine={**ENGINE, "engine_version": "0.19.0"}),
        "real_runs_agree", "fail", "fail",
    ),
    "a profile of some processor": (
        profile_of(device_name=None), "profile_matches", "unknown", "inconclusive",
    ),
    "an extrapolated share of less than none": (
        lambda real, sim: (real, of_meta(sim, extrapolated_share=-1.0)),
        "profile_covers", "unknown", "inconclusive",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fraud", FRAUDS)
def test_a_fraud_is_named_and_no_pass(fraud: str) -> None:
    plant, name, expected, verdict = FRAUDS[fraud]
    comparison = compare_runs(*plant(*Planted().runs())).judged()
    assert (status(comparison, name), comparison.verdict) == (expected, verdict), comparison.checks


def test_names_of_repeats_come_with_their_places(tmp_path: Path) -> None:
    run = real_run(tmp_path / "a" / "1", steady(24))
    other = replace(run, path=tmp_path / "b" / "1")
    comparison = compare_runs([run, other], sim_run(tmp_path / "sim", steady(24)))
    detail = next(check.detail for check in comparison.checks if check.name == "roles")
    assert f"1 ({other.path}) has every time of 1 ({run.path})" in detail


def test_a_run_that_was_cut_short_on_both_sides(tmp_path: Path) -> None:
    workload = make_workload(tmp_path / "w", [(10, 6, i * 1000 * MS) for i in range(24)])
    meta = {"workload_digest": workload.digest}
    real = [real_run(tmp_path / str(k), steady(12), meta=meta) for k in range(3)]
    sim = sim_run(tmp_path / "sim", steady(12), meta={**meta, "extrapolated_share": 0.0})
    comparison = compare_runs(real, sim, workload=workload).judged()
    assert (status(comparison, "enough_samples"), comparison.verdict) == ("fail", "inconclusive")


FAST = slowed(RIGHT, 0.12)


@pytest.mark.parametrize(
    ("tolerances", "slo", "words"),
    [
        ({"request_throughput": 0.1}, None, "a simulation that took no time would pass it, too"),
        ({"makespan": 0.3, "output_throughput": 0.3}, None, "took no time would pass"),
        ({"goodput": 0.1}, {"ttft": "100s"}, "took no time would pass"),
        ({"ttft_p50": "10%:5s"}, None, "the floor is above the figure itself"),
        ({"ttft_mape": 2.0}, None, "took no time would pass"),
        ({"e2e_rank_correlation": 0.5}, None, "is off by any factor would pass it, too"),
        # Nobody meets it, however slow; in another unit on both sides, the floors hide all.
        ({"goodput": 0.1}, {"ttft": "1us"}, "never answered would pass it, too"),
    ],
)
def test_figures_that_any_simulation_passes_are_no_pass(
    tolerances: dict[str, Any], slo: dict[str, str] | None, words: str
) -> None:
    runs = Planted(sim=FAST).runs()
    comparison = compare_runs(*runs).judged(tolerances, slo=slo)
    assert comparison.verdict == "inconclusive"
    assert all(words in item.reason for item in comparison.judgements)
    assert "ttft_p50 is off by -8" in comparison.judgements[0].reason
    # Of a right one they are what they are, and say how much that is.
    right = compare_runs(*Planted().runs()).judged(tolerances, slo=slo)
    assert right.verdict == "pass"
    assert all("would pass it, too" in item["reason"] for item in right.to_json()["judgements"])


def test_goodput_without_limits_says_how_they_are_given() -> None:
    (judgement,) = compare_runs(*Planted().runs()).judged({"goodput": 0.1}).judgements
    assert judgement.outcome == "inconclusive"
    assert "--slo ttft=200ms" in judgement.reason


@pytest.mark.parametrize("tolerance", [5, 10, "500%", 1.0])
def test_a_tolerance_of_everything_is_refused(tolerance: Any) -> None:
    with pytest.raises(UsageError, match=r"holds nothing.*10% is 0.10 or '10%'"):
        compare_runs(*Planted().runs()).judged({"ttft_p50": tolerance})


def test_whoever_accepts_everything_is_told_what_cannot_be() -> None:
    from pytest_gpusim.compare.checks import CHECKS
    from pytest_gpusim.compare.checks.declaration import Accept

    runs = Planted(sim_meta=without(SIMULATED, "operator_shares", "extrapolated_share")).runs()
    with pytest.raises(UsageError, match="'roles' cannot be accepted"):
        compare_runs(*runs, accept=list(CHECKS))
    names = [name for name, known in CHECKS.items() if known.accept is not Accept.NEVER]
    comparison = compare_runs(*runs, accept=names).judged()
    accepted = [check.name for check in comparison.checks if check.status == "accepted"]
    assert (comparison.verdict, accepted) == ("pass", ["overhead_counted", "profile_covers"])
    # And it stands beside the verdict in a session's lines and in JUnit.
    (line,) = session_lines([document_of(comparison)], 200)
    assert line.text.endswith("overhead_counted accepted, profile_covers accepted")
    properties = CheckedComparison(comparison, Path(), None).properties()  # type: ignore[arg-type]
    assert ("gpusim_accepted", "overhead_counted, profile_covers") in properties


def test_three_requests_pass_with_a_warning() -> None:
    """Runs are the unit, so three requests can be judged at the median; it is said."""
    work = load(3, seed=1)
    comparison = Planted(work=work).comparison()
    assert status(comparison, "enough_samples") == "warn"
    assert {item.name for item in comparison.judgements} == {"ttft_p50", "tpot_p50", "e2e_p50"}
    assert all("only 1.5 of 3 values" in item.reason for item in comparison.judgements)


def compared(work: Load, scale: float = 1.0, **noise: float) -> Comparison:
    """An honest comparison: three runs and the truth, all times and arrivals scaled."""
    scaled = replace(work, arrival=work.arrival * scale)
    rng = np.random.default_rng(17)

    def of(times: Times) -> Times:
        return Times(times.scheduled * scale, times.first * scale, times.per_token * scale)

    real = [
        make_run(scaled, of(noisy(work, rng, **noise)), REAL, name=f"r{k}")  # type: ignore[arg-type]
        for k in range(3)
    ]
    return compare_runs(real, make_run(scaled, of(serve(work)), SIMULATED, name="sim")).judged()


NOISE = {"sigma_run": 0.004, "sigma_request": 0.02}
SAME_LENGTHS = replace(WORK, prompt=np.full(60, 200), output=np.full(60, 40))
SPACED = replace(SAME_LENGTHS, arrival=np.arange(60) * 2.0)


@pytest.mark.parametrize(
    ("work", "scale", "noise"),
    [
        pytest.param(WORK, 0.005, NOISE, id="TTFT of a third of a ms"),
        pytest.param(load(60, seed=3, utilisation=0.01), 1.0, NOISE, id="one at a time"),
        pytest.param(replace(WORK, output=np.ones(60, int)), 1.0, NOISE, id="one-token answers"),
        pytest.param(SAME_LENGTHS, 1.0, NOISE, id="all of one length"),
        pytest.param(SPACED, 1.0, NOISE, id="all alike"),
        pytest.param(SPACED, 1.0, {"sigma_run": 0.001, "sigma_request": 0.0}, id="all the same"),
        pytest.param(WORK, 1.0, {"sigma_run": 0.002, "sigma_request": 0.0005}, id="a quiet GPU"),
        pytest.param(
            WORK, 1.0, {"sigma_run": 0.01, "sigma_request": 0.0}, id="noise of runs alone"
        ),
        pytest.param(load(5000, seed=3, utilisation=0.3), 1.0, NOISE, id="5,000 requests"),
    ],
)
def test_an_honest_comparison_passes(work: Load, scale: float, noise: dict[str, float]) -> None:
    comparison = compared(work, scale, **noise)
    assert comparison.verdict == "pass", [
        item for item in (*comparison.checks, *comparison.judgements)
        if "fail" in str(item) or "unknown" in str(item) or "inconclusive" in str(item)
    ]  # fmt: skip


def test_one_quiet_repeat_is_no_leak() -> None:
    rng = np.random.default_rng(4)
    noise = (0.004, 0.02, 0.02)
    real = [
        make_run(WORK, noisy(WORK, rng, sigma_run=0.003, sigma_request=each), REAL, name=f"r{k}")
        for k, each in enumerate(noise)
    ]
    sim = make_run(WORK, RIGHT, SIMULATED, name="sim")
    assert status(compare_runs(real, sim), "not_calibrated_on") == "pass"
