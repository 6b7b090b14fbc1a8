"""Runs that are made of other runs, seeds that are of no one simulation, and statements that lie.

Each is a comparison whose figures are right, and whose pass would not be earned.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
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
from pytest_gpusim.compare import compare_runs
from pytest_gpusim.errors import UsageError
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
)
from tests.compare.runs import MS

PROFILE = SIMULATED["profile"]
LATENCIES = ("scheduled_time_ns", "first_token_time_ns", "completion_time_ns")
WORK_NS = (WORK.arrival * 1e9).round().astype("int64")
SLOWEST = np.argsort(RIGHT.first - WORK.arrival)


def later(run: Run, name: str, *, factor: float = 1.0, by_ns: int = 0, keep: int = 0) -> Run:
    """Its latencies times a factor and by so much longer, but for every ``keep``-th request."""
    arrival = run.requests["arrival_time_ns"]
    kept = (run.requests.index % keep == 0) if keep else np.zeros(len(arrival), dtype=bool)

    def of(column: str) -> pd.Series:
        lasts = (run.requests[column] - arrival).astype("float64") * factor + by_ns
        return run.requests[column].where(kept, arrival + lasts.round().astype("Int64"))

    return of_rows(run, name, **{column: of(column) for column in LATENCIES})


def rounded(run: Run, name: str, grain: int) -> Run:
    return of_rows(run, name, **{c: run.requests[c] // grain * grain for c in LATENCIES})


def times_of(sim: Run, *runs: Run, middle: Any = np.mean) -> Run:
    """The simulation with the mean times of some runs."""
    return of_rows(
        sim,
        **{
            column: pd.Series(
                middle([run.requests[column].astype("float64") for run in runs], axis=0)
            ).round().astype("Int64")
            for column in LATENCIES
        },
    )  # fmt: skip


def first_tokens_of(sim: Run, run: Run) -> Run:
    """The simulation with a run's first tokens, a little stretched, and its own decodes."""
    arrival, came = (run.requests[c] for c in ("arrival_time_ns", "first_token_time_ns"))
    first = arrival + ((came - arrival).astype("float64") * 1.001).round().astype("Int64")
    decode = sim.requests["completion_time_ns"] - sim.requests["first_token_time_ns"]
    return of_rows(sim, first_token_time_ns=first, completion_time_ns=first + decode)


def other_seed(work: Load = WORK, factor: float = 0.98, **meta: Any) -> Plant:
    """Two seeds that are right on average; what the second one is."""

    def plant(real: list[Run], _: Run) -> Runs:
        seeds = [
            make_run(WORK, slowed(RIGHT, 1.02), SIMULATED, name="first"),
            make_run(work, slowed(serve(work), factor, work), changed(SIMULATED, **meta), name="2"),
        ]
        return real, seeds

    return plant


def engine_of_all(side: str, **settings: Any) -> Plant:
    def plant(real: list[Run], sim: Run) -> Runs:
        engine = {**ENGINE, **settings}
        if side == "sim":
            return real, of_meta(sim, engine=engine)
        return [of_meta(run, engine=engine) for run in real], sim

    return plant


def warm_up(stated: Any) -> Plant:
    return lambda real, sim: ([*real[:-1], of_meta(real[-1], warmup=stated)], sim)


def failed(*requests: int) -> Plant:
    return lambda real, sim: (
        real, make_run(WORK, RIGHT, SIMULATED, name="sim", failed=np.isin(np.arange(60), requests)),
    )  # fmt: skip


def half_extrapolated(real: list[Run], sim: Run) -> Runs:
    steps = pd.DataFrame({"duration_ns": [MS, MS], "extrapolated": [0, 1], "preempted": [0, 0]})
    return real, replace(sim, steps=steps.astype("Int64"))


def fitted_on_the_name(real: list[Run], sim: Run) -> Runs:
    named = [of_meta(run, workload_dir="workloads/poisson-7") for run in real]
    return named, of_meta(sim, profile={**PROFILE, "calibrated_on": ["poisson-7"]})


def longer_answers(real: list[Run], sim: Run) -> Runs:
    """Twice as many tokens, which nothing can cut where there are no token times."""
    asked = pd.Series(WORK.output * 2).astype("Int64")
    stopped = [of_rows(run, num_decode_tokens=asked, status="early_stop") for run in real]
    return stopped, make_run(replace(WORK, output=WORK.output * 2), RIGHT, SIMULATED, name="sim")


def without_the_first(count: int) -> Plant:
    def cut(run: Run) -> Run:
        return replace(run, requests=run.requests.iloc[count:].reset_index(drop=True))

    return lambda real, sim: ([cut(run) for run in real], cut(sim))


def repeats(*makers: Callable[[Run], Run]) -> Plant:
    """The first run, and others made from it."""
    return lambda real, sim: ([real[0], *(make(real[0]) for make in makers)], sim)


def imported(run: Run, *, part: int | None = None, result: int = 0) -> Run:
    """As an importer says it: of the first result in a file, or the part of a minute of it."""
    notes = [] if part is None else [f"--start {part * 60}", f"--end {part * 60 + 60}"]
    found = {"sha256": "a" * 64, "tool": {"result": result}, "notes": notes}
    return of_meta(run, params={"import": found})


def part_of_another(column: str) -> Plant:
    """The first tokens of the first run, or how long after them its requests ended."""

    def part(real: list[Run], sim: Run) -> Runs:
        one, other = real[0].requests, real[1].requests
        first, end = "first_token_time_ns", "completion_time_ns"
        kept = one if column == first else other
        tail = one if column == end else other
        mixed = {first: kept[first], end: kept[first] + tail[end] - tail[first]}
        return [real[0], of_rows(real[1], **mixed), real[2]], sim

    return part


def tokens_to_a_tenth(run: Run) -> Run:
    """First tokens, and the gaps between tokens, to 0.1 ms: the gaps' rounding adds up."""
    rows, grain = run.requests, MS // 10
    first = rows["first_token_time_ns"] // grain * grain
    gaps = rows["num_decode_tokens_actual"] - 1
    gap = (rows["completion_time_ns"] - rows["first_token_time_ns"]) // gaps.clip(lower=1)
    arrival = rows["arrival_time_ns"] // grain * grain
    return of_rows(
        run,
        "rounded",
        arrival_time_ns=arrival,
        sent_time_ns=arrival,
        scheduled_time_ns=pd.NA,
        first_token_time_ns=first,
        completion_time_ns=first + gap // grain * grain * gaps,
    )


# What is planted -> (how, the check that names it, its status, the verdict).
FRAUDS: dict[str, tuple[Plant, str, str, str]] = {
    "repeats that are stretched": (
        repeats(lambda r: later(r, "b", factor=1.001), lambda r: later(r, "c", factor=0.999)),
        "roles", "fail", "fail",
    ),
    "repeats that are shifted": (
        repeats(lambda r: later(r, "b", by_ns=MS // 2), lambda r: later(r, "c", by_ns=-MS // 4)),
        "roles", "fail", "fail",
    ),
    "a repeat to 10 µs": (repeats(lambda r: rounded(r, "b", 10_000)), "roles", "fail", "fail"),
    "a repeat to the ms": (repeats(lambda r: rounded(r, "b", MS)), "roles", "fail", "fail"),
    "a repeat of which half is new": (
        repeats(lambda r: later(r, "b", factor=1.01, keep=2)), "roles", "fail", "fail",
    ),
    "a repeat with the first tokens of another": (
        part_of_another("first_token_time_ns"), "roles", "fail", "fail",
    ),
    "a repeat with the decodes of another": (
        part_of_another("completion_time_ns"), "roles", "fail", "fail",
    ),
    "a repeat of which each token was rounded to 0.1 ms": (
        repeats(tokens_to_a_tenth), "roles", "fail", "fail",
    ),
    "prompts that nobody counted": (
        lambda real, sim: (
            [of_rows(run, num_prefill_tokens=0) for run in real],
            of_rows(sim, num_prefill_tokens=0),
        ),
        "same_workload", "unknown", "inconclusive",
    ),
    "parts of one run as repeats": (
        lambda real, sim: ([imported(run, part=k) for k, run in enumerate(real)], sim),
        "roles", "fail", "fail",
    ),
    "the simulation is a run, stretched": (
        lambda real, sim: (real, times_of(sim, later(real[1], "x", factor=1.01))),
        "not_calibrated_on", "fail", "fail",
    ),
    "the simulation is the mean of the runs": (
        lambda real, sim: (real, times_of(sim, *real)), "not_calibrated_on", "fail", "fail",
    ),
    "the simulation is the mean of two runs": (
        lambda real, sim: (real, times_of(sim, *real[:2])), "not_calibrated_on", "fail", "fail",
    ),
    "the simulation is the median of the runs": (
        lambda real, sim: (real, times_of(sim, *real, middle=np.median)),
        "not_calibrated_on", "fail", "fail",
    ),
    "the simulation has a run's first tokens": (
        lambda real, sim: (real, first_tokens_of(sim, real[1])),
        "not_calibrated_on", "fail", "fail",
    ),
    "a seed is a run, stretched": (
        lambda real, sim: (
            real, [sim, of_meta(times_of(sim, later(real[0], "x", factor=1.01)), run_id="2")],
        ),
        "not_calibrated_on", "fail", "fail",
    ),
    "a seed was fitted on the runs": (
        other_seed(params={"calibrated_on": ["synthetic"]}), "not_calibrated_on", "fail", "fail",
    ),
    "fitted on the workload, by its name": (
        fitted_on_the_name, "not_calibrated_on", "fail", "fail",
    ),
    "a seed of other arrivals": (
        other_seed(replace(WORK, arrival=WORK.arrival * 1.3)), "same_workload", "fail", "fail",
    ),
    "a seed of other prompts": (
        other_seed(replace(WORK, prompt=WORK.prompt * 4 // 5)), "same_workload", "fail", "fail",
    ),
    "a seed of another workload's digest": (
        other_seed(workload_digest="other"), "same_workload", "fail", "fail",
    ),
    "a seed of shorter answers": (
        other_seed(replace(WORK, output=WORK.output * 4 // 5)), "same_workload", "fail", "fail",
    ),
    "a seed beyond the profile": (
        other_seed(extrapolated_share=0.5), "profile_covers", "fail", "fail",
    ),
    "a seed by the client's clock": (other_seed(clock="client"), "clock_counted", "fail", "fail"),
    "a seed of another device's profile": (
        other_seed(profile={**PROFILE, "device_name": "other"}), "profile_matches", "fail", "fail",
    ),
    "a seed without engine time": (
        other_seed(operator_shares={"mlp": 1.0}), "overhead_counted", "fail", "fail",
    ),
    "a stated share of what the steps deny": (half_extrapolated, "profile_covers", "fail", "fail"),
    "a profile of no dtype": (
        profile_of(dtype=None), "profile_matches", "unknown", "inconclusive",
    ),
    "a profile of no engine mode": (
        profile_of(engine_mode=None), "profile_matches", "unknown", "inconclusive",
    ),
    "a profile of no parallelism": (
        profile_of(tensor_parallel_sizes=None), "profile_matches", "unknown", "inconclusive",
    ),
    "only the simulation guesses tokens": (
        engine_of_all("sim", speculative_config={"num_speculative_tokens": 3}),
        "settings_mirrored", "unknown", "inconclusive",
    ),
    "only the simulation chunks no prefill": (
        engine_of_all("sim", enable_chunked_prefill=False),
        "settings_mirrored", "unknown", "inconclusive",
    ),
    "only the engine chunks no prefill": (
        engine_of_all("real", enable_chunked_prefill=False), "settings_mirrored", "fail", "fail",
    ),
    "a warm-up of no seconds": (warm_up({"seconds": 0}), "warmed_up", "fail", "fail"),
    "a warm-up that was not": (warm_up({"enabled": False}), "warmed_up", "fail", "fail"),
    "a warm-up in a word": (warm_up({"kind": "none"}), "warmed_up", "unknown", "inconclusive"),
    "most of what failed is slowest": (
        failed(SLOWEST[-1], SLOWEST[-2], SLOWEST[0]), "enough_samples", "fail", "inconclusive",
    ),
    "the first requests have no row": (
        without_the_first(5), "enough_samples", "fail", "inconclusive",
    ),
    "answers that cannot be cut": (longer_answers, "lengths_as_produced", "warn", "inconclusive"),
}  # fmt: skip


@pytest.mark.parametrize("fraud", FRAUDS)
def test_a_fraud_is_named_and_no_pass(fraud: str) -> None:
    plant, name, expected, verdict = FRAUDS[fraud]
    comparison = compare_runs(*plant(*Planted().runs())).judged()
    assert (status(comparison, name), comparison.verdict) == (expected, verdict), comparison.checks


def test_several_results_of_one_file_are_repeats() -> None:
    real, sim = Planted().runs()
    runs = [imported(run, result=number) for number, run in enumerate(real)]
    assert compare_runs(runs, sim).judged().verdict == "pass"
    # What was cut alike of several results is, too.
    runs = [imported(run, part=0, result=number) for number, run in enumerate(real)]
    assert compare_runs(runs, sim).judged().verdict == "pass"


def few_runs(copies: Sequence[Callable[[Run], Run]] = ()) -> Runs:
    """Three runs of ten requests, or one and its copies, and the truth."""
    work, rng = load(10, seed=3, utilisation=0.4), np.random.default_rng(5)
    real = [
        make_run(work, noisy(work, rng, sigma_run=0.004, sigma_request=0.02), REAL, name=f"r{k}")
        for k in range(3)
    ]
    sim = make_run(work, serve(work), SIMULATED, name="sim")
    return [real[0], *(make(real[0]) for make in copies)] if copies else real, sim


def test_copies_of_few_requests_are_copies_and_honest_ones_pass() -> None:
    def made(grain: int) -> Callable[[Run], Run]:
        return lambda run: rounded(run, f"to {grain}", grain)

    assert compare_runs(*few_runs()).judged().verdict == "pass"
    copies = compare_runs(*few_runs([made(1000), made(900)])).judged()
    assert (status(copies, "roles"), copies.verdict) == ("fail", "fail")


@pytest.mark.parametrize(
    ("blocks", "expected", "agree"), [(4100, "warn", "pass"), (4200, "fail", "fail")]
)
def test_starts_of_one_engine_differ_by_a_few_blocks(
    blocks: int, expected: str, agree: str
) -> None:
    """vLLM measures the memory that is left at each start."""
    real, sim = Planted().runs()
    real[2] = of_meta(real[2], engine={**ENGINE, "num_gpu_blocks": blocks})
    comparison = compare_runs(real, sim).judged()
    assert status(comparison, "kv_blocks_mirrored") == expected
    assert status(comparison, "real_runs_agree") == agree
    assert comparison.verdict == ("pass" if expected == "warn" else "fail")


def test_a_unit_that_both_sides_mistake_hides_nothing_below_the_floors() -> None:
    """In µs for ns every time is below its floor, and a simulator 88% off would pass."""
    small = replace(WORK, arrival=WORK.arrival / 1000)

    def of(times: Times) -> Times:
        return Times(times.scheduled / 1000, times.first / 1000, times.per_token / 1000)

    real = [make_run(small, of(run), REAL, name=f"r{k}") for k, run in enumerate(Planted().real)]
    fast = make_run(small, slowed(of(RIGHT), 0.12, small), SIMULATED, name="sim")
    comparison = compare_runs(real, fast).judged({"ttft_p50": 0.1, "tpot_p50": 0.1})
    assert comparison.verdict == "inconclusive"
    assert all("the floor is above the figure" in item.reason for item in comparison.judgements)


def test_a_clock_that_an_importer_states_is_not_stated_anew() -> None:
    real, sim = Planted().runs()
    told = [of_meta(run, clock=None, params={"import": {"clock": "client"}}) for run in real]
    with pytest.raises(UsageError, match="says 'client': leave it out, or correct it"):
        compare_runs(told, sim, stated={"clock": "engine"})


@pytest.mark.parametrize(
    ("key", "value"), [("profile", 5), ("clock", "wall"), ("sim.profile.engine_time", 3)]
)
def test_what_no_run_can_say_is_not_stated(key: str, value: object) -> None:
    real, sim = Planted().runs()
    silent = [of_meta(run, clock=None, profile=None) for run in (*real, sim)]
    with pytest.raises(UsageError, match=f"{key}=.* cannot be stated: .*expected "):
        compare_runs(silent[:-1], silent[-1], stated={key: value})


def test_what_was_assumed_can_be_stated() -> None:
    real, sim = Planted().runs()
    assumed = [of_meta(run, assumed={"async_scheduling": "default of vLLM 0.32"}) for run in real]
    assert compare_runs(assumed, sim).judged().verdict == "inconclusive"
    stated = {"real.engine.async_scheduling": False}
    assert compare_runs(assumed, sim, stated=stated).judged().verdict == "pass"
    stated = {"real.engine.async_scheduling": True}
    assert compare_runs(assumed, sim, stated=stated).judged().verdict == "fail"


@pytest.mark.parametrize("jitter", [1e-4, 1e-3])
def test_a_copy_with_jitter_is_suspected(jitter: float) -> None:
    """It is no proof: two quiet runs beside a disturbed one look the same."""
    real, sim = Planted().runs()
    lasts = (real[0].requests[column] - WORK_NS for column in LATENCIES)
    factor = np.exp(jitter * np.random.default_rng(1).standard_normal(60))
    touched = {
        column: WORK_NS + (time.astype("float64") * factor).round().astype("Int64")
        for column, time in zip(LATENCIES, lasts, strict=True)
    }
    comparison = compare_runs([*real[:2], of_rows(real[0], "again", **touched)], sim)
    assert status(comparison, "roles") == "warn"
    detail = next(check.detail for check in comparison.checks if check.name == "roles")
    assert "real-0 and again (real-0) agrees to 0.0" in detail
    assert status(compare_runs(real, sim), "roles") == "pass"
