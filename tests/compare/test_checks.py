"""Each check of the contract: what it passes, what it fails, what it cannot tell."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_gpusim.checks import Check
from pytest_gpusim.compare import compare_runs
from pytest_gpusim.compare.checks import CHECKS
from pytest_gpusim.compare.checks.prefix_cache import shared_tokens
from pytest_gpusim.errors import UsageError
from pytest_gpusim.runs import Run
from pytest_gpusim.workload.prompts import Prompt
from tests.compare.runs import ENGINE, MS, PROFILE, real_run, request, sim_run, steady
from tests.factories import make_workload

Rows = Sequence[Mapping[str, Any]]


class Sides:
    """Makes the two sides of a comparison and looks at one check of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0

    def real(self, rows: Rows | None = None, **arguments: Any) -> Run:
        self.count += 1
        return real_run(self.path / f"real{self.count}", rows or steady(24), **arguments)

    def sim(self, rows: Rows | None = None, **arguments: Any) -> Run:
        self.count += 1
        return sim_run(self.path / f"sim{self.count}", rows or steady(24), **arguments)

    def check(
        self, name: str, real: Run | list[Run] | None = None, sim: Run | None = None, **more: Any
    ) -> Check:
        runs = real if isinstance(real, list) else [real or self.real()]
        comparison = compare_runs(runs, sim or self.sim(), **more)
        return {check.name: check for check in comparison.checks}[name]


@pytest.fixture
def sides(tmp_path: Path) -> Sides:
    return Sides(tmp_path)


def step(start: float, duration: float, **fields: Any) -> dict[str, Any]:
    known = {"num_prefill_tokens": 0, "num_decode_tokens": 1, "num_sequences": 1, "preempted": 0}
    return {
        "step": 0,
        "start_ns": round(start * MS),
        "duration_ns": round(duration * MS),
        **known,
        **fields,
    }


NEEDED = (
    "same_workload, roles, units, settings_mirrored, kv_blocks_mirrored, profile_matches, "
    "profile_covers, overhead_counted, clock_counted, prefix_cache_cold, warmed_up, "
    "generator_on_time, not_calibrated_on"
).split(", ")
OTHERS = (
    "real_runs_agree, steady, below_saturation, no_cancelling_errors, enough_samples, "
    "lengths_as_produced"
).split(", ")


def test_the_checks_are_those_of_the_contract() -> None:
    assert {name for name, declared in CHECKS.items() if declared.needed} == set(NEEDED)
    assert set(CHECKS) == {*NEEDED, *OTHERS}
    ranks = [declared.rank for declared in CHECKS.values()]
    assert ranks == sorted(set(ranks))


@pytest.mark.parametrize("name", ["same_workload", "roles", "units", "not_calibrated_on"])
def test_what_can_never_be_accepted(sides: Sides, name: str) -> None:
    with pytest.raises(UsageError, match="cannot be accepted"):
        sides.check(name, accept=[name])
    with pytest.raises(UsageError, match="unknown check 'rolls'"):
        sides.check(name, accept=["rolls"])


def test_a_sound_comparison_fails_and_warns_of_nothing(sides: Sides) -> None:
    steps = [step(0, 20, extrapolated=0)]
    real = [sides.real() for _ in range(3)]
    comparison = compare_runs(real, sides.sim(steps=steps)).judged()
    assert {check.status for check in comparison.checks} == {"pass"}
    assert comparison.verdict == "pass"


@pytest.mark.parametrize(
    ("profile", "status", "words"),
    [
        ({}, "fail", "'gpusim calibrate'.*--engine-time.*accept"),
        ({"engine_time": {"time_ns": 0, "source": "stated"}}, "pass", "stated as 0 ms"),
        (
            {
                "calibration": {
                    "parameters": [
                        {"name": "engine_time", "time_ns": 0, "low_ns": 0, "high_ns": 150_000}
                    ]
                }
            },
            "pass",
            r"calibrated: 0 ms \(0 ms to 0.15 ms\)",
        ),
    ],
)
def test_engine_time_of_none_counts_where_somebody_says_so(
    sides: Sides, profile: dict[str, Any], status: str, words: str
) -> None:
    meta = {"operator_shares": {"emb": 1.0}, "profile": {**PROFILE, **profile}}
    found = sides.check("overhead_counted", sim=sides.sim(meta=meta))
    assert found.status == status
    assert re.search(words, found.detail)


# clock_counted

FRONTEND = {"ingress_ns": 9 * MS, "egress_ns": 0}


@pytest.mark.parametrize(
    ("real", "sim", "status", "words"),
    [
        ({}, {}, "pass", "engine's clock"),
        ({"clock": "client"}, {}, "fail", "simulate with --clock client"),
        ({}, {"clock": "client", "frontend": FRONTEND}, "fail", "simulate with --clock engine"),
        ({"clock": "client"}, {"clock": "client", "frontend": FRONTEND}, "pass", "9 ms"),
        ({"clock": "client"}, {"clock": "client", "frontend": None}, "fail", "gpusim calibrate"),
        ({"params": {"import": {"clock": "client"}}}, {}, "fail", "timed by the client's clock"),
    ],
)
def test_clocks_of_both_sides(
    sides: Sides, real: dict[str, Any], sim: dict[str, Any], status: str, words: str
) -> None:
    found = sides.check("clock_counted", sides.real(meta=real), sides.sim(meta=sim))
    assert found.status == status
    assert words in found.detail


# same_workload


def test_workload_of_other_arrivals(sides: Sides) -> None:
    found = sides.check("same_workload", sim=sides.sim(steady(24, gap=900)))
    assert found.status == "fail"
    assert "arrival_time_ns of request 1 is 1000000000 and 900000000" in found.detail


def test_workload_of_other_prompts(sides: Sides) -> None:
    found = sides.check("same_workload", sim=sides.sim(steady(24, prefill=11)))
    assert found.status == "fail"
    assert "num_prefill_tokens of request 0 is 10 and 11" in found.detail


def test_workload_of_other_requests(sides: Sides) -> None:
    found = sides.check("same_workload", sim=sides.sim(steady(23)))
    assert found.status == "fail"
    assert "request 23 is in one of them only" in found.detail


def test_workload_of_other_lengths(sides: Sides) -> None:
    found = sides.check("same_workload", sim=sides.sim(steady(24, tokens=7)))
    assert found.status == "fail"
    assert "num_decode_tokens of request 0 is 6 and 7" in found.detail


def test_a_shift_of_the_clock_is_no_other_workload(sides: Sides) -> None:
    shifted = [request(i, 5 + i * 1000, [5 + i * 1000 + t for t in (100, 120)]) for i in range(8)]
    rows = [request(i, i * 1000, [i * 1000 + t for t in (100, 120)]) for i in range(8)]
    assert sides.check("same_workload", sides.real(shifted), sides.sim(rows)).status == "pass"


def test_a_run_of_another_workload_than_the_given_one(sides: Sides, tmp_path: Path) -> None:
    workload = make_workload(tmp_path / "w", [(10, 6, i * 1000 * MS) for i in range(24)])
    found = sides.check("same_workload", workload=workload)
    assert found.status == "fail"
    assert "was made from the workload wwwwwwwwwwww" in found.detail
    real = sides.real(meta={"workload_digest": workload.digest})
    sim = sides.sim(meta={"workload_digest": workload.digest})
    assert sides.check("same_workload", real, sim, workload=workload).status == "pass"


def test_the_workload_as_produced_is_the_same_workload(sides: Sides) -> None:
    real = sides.real(steady(24, asked=9))
    sim = sides.sim(meta={"workload_digest": "p" * 64})
    assert sides.check("same_workload", real, sim).status == "pass"


def test_the_prompt_of_a_failed_request_need_not_be_known(sides: Sides) -> None:
    rows = steady(24)
    failed = [*rows[:5], request(5, 5000, [], prefill=0, error="HTTPError"), *rows[6:]]
    assert sides.check("same_workload", sides.real(failed)).status == "pass"


def test_the_jitter_of_a_clients_clock_between_passes_warns(sides: Sides) -> None:
    def late(milliseconds: float) -> Run:
        rows = [request(0, 0, [150])]
        rows += [request(i, i * 1000 + milliseconds, [i * 1000 + 150]) for i in range(1, 24)]
        return sides.real(rows, meta={"params": {"clock": "client"}})

    exact = sides.real([request(i, i * 1000, [i * 1000 + 150]) for i in range(24)])
    sim = sides.sim([request(i, i * 1000, [i * 1000 + 150]) for i in range(24)])

    def check(second: Run) -> Check:
        comparison = compare_runs([exact, second], sim)
        return next(found for found in comparison.checks if found.name == "same_workload")

    assert check(late(19)).status == "warn"
    assert "differ by up to 19 ms" in check(late(19)).detail
    assert check(late(21)).status == "fail"


def test_runs_of_one_name_do_not_hide_another_workload(sides: Sides) -> None:
    named = {"run_id": "1", "workload_digest": "x" * 64}
    real = [sides.real(meta={"run_id": "1"}), sides.real(meta=named)]
    assert sides.check("same_workload", real).status == "fail"


def test_another_digest_with_the_same_lengths_fails(sides: Sides) -> None:
    found = sides.check("same_workload", sim=sides.sim(meta={"workload_digest": "x" * 64}))
    assert found.status == "fail"
    assert "prompts may share other prefixes" in found.detail


# settings_mirrored, kv_blocks_mirrored


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("max_num_seqs", 128),
        ("max_num_batched_tokens", 2048),
        ("async_scheduling", True),
        ("enable_prefix_caching", False),
        ("dtype", "bfloat16"),
        ("engine_version", "0.19.0"),
    ],
)
def test_another_setting(sides: Sides, key: str, value: Any) -> None:
    sim = sides.sim(meta={"engine": {**ENGINE, key: value}})
    found = sides.check("settings_mirrored", sim=sim)
    assert found.status == "fail"
    assert f"{key} is {ENGINE[key]!r} in" in found.detail
    assert repr(value) in found.detail
    assert sides.check("kv_blocks_mirrored", sim=sim).status == "pass"


def test_a_setting_that_is_not_modelled(sides: Sides) -> None:
    real = sides.real(meta={"engine": {**ENGINE, "chunked_prefill": False}})
    found = sides.check("settings_mirrored", real)
    assert found.status == "fail"
    assert "chunked_prefill=False" in found.detail


def test_settings_that_nobody_recorded(sides: Sides) -> None:
    for name in ("settings_mirrored", "kv_blocks_mirrored"):
        assert sides.check(name, sides.real(meta={"engine": None})).status == "unknown"
        assert sides.check(name, sim=sides.sim(meta={"engine": {}})).status == "unknown"


@pytest.mark.parametrize("key", ["max_num_seqs", "dtype", "async_scheduling"])
def test_settings_that_one_side_does_not_state(sides: Sides, key: str) -> None:
    engine = {name: value for name, value in ENGINE.items() if name != key}
    for runs in (
        {"real": sides.real(meta={"engine": engine})},
        {"sim": sides.sim(meta={"engine": engine})},
    ):
        found = sides.check("settings_mirrored", **runs)
        assert found.status == "unknown"
        assert key in found.detail


def test_a_setting_that_was_assumed_of_the_real_engine_is_unknown(sides: Sides) -> None:
    assumed = {"async_scheduling": "default of vLLM 0.23"}
    for value in (ENGINE["async_scheduling"], not ENGINE["async_scheduling"]):
        engine = {**ENGINE, "async_scheduling": value}
        real = sides.real(meta={"engine": engine, "assumed": assumed})
        found = sides.check("settings_mirrored", real, sim=sides.sim(meta={"engine": ENGINE}))
        assert found.status == "unknown"
        assert found.detail.startswith("async_scheduling: not stated on both sides")


def test_what_the_simulation_assumed_is_said_where_the_run_does_not_state_it(sides: Sides) -> None:
    sim = sides.sim(meta={"engine": ENGINE, "assumed": {"async_scheduling": "default of vLLM 9"}})
    assert sides.check("settings_mirrored", sim=sim).status == "pass"
    silent = {key: value for key, value in ENGINE.items() if key != "async_scheduling"}
    found = sides.check("settings_mirrored", sides.real(meta={"engine": silent}), sim=sim)
    assert found.status == "unknown"
    value = ENGINE["async_scheduling"]
    assert f"simulated with async_scheduling={value!r} (default of vLLM 9)" in found.detail


@pytest.mark.parametrize("key", ["num_gpu_blocks", "block_size"])
def test_another_number_of_blocks(sides: Sides, key: str) -> None:
    sim = sides.sim(meta={"engine": {**ENGINE, key: 8}})
    assert sides.check("kv_blocks_mirrored", sim=sim).status == "fail"
    assert sides.check("settings_mirrored", sim=sim).status == "pass"


# profile_*


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model", "other/model"),
        ("device_name", "Another processor, 4 cores"),
        ("dtype", "float16"),
        ("engine_mode", "compiled"),
        ("tensor_parallel_sizes", [2, 4]),
    ],
)
def test_profile_of_another_case(sides: Sides, key: str, value: Any) -> None:
    found = sides.check("profile_matches", sim=sides.sim(meta={"profile": {**PROFILE, key: value}}))
    assert found.status == "fail"
    assert key in found.detail
    assert str(value) in found.detail


def test_profile_of_another_release(sides: Sides) -> None:
    profile = {**PROFILE, "engine_version": "0.19.0"}
    found = sides.check("profile_matches", sim=sides.sim(meta={"profile": profile}))
    assert found.status == "warn"


def test_profile_compared_by_hardware_where_the_device_is_unknown(sides: Sides) -> None:
    profile = {**PROFILE, "device_name": None}
    # A processor is only itself.
    sim = sides.sim(meta={"profile": profile})
    assert sides.check("profile_matches", sim=sim).status == "unknown"
    sim = sides.sim(meta={"profile": {**profile, "hardware": "a100"}})
    assert sides.check("profile_matches", sim=sim).status == "fail"
    gpu = sides.real(meta={"hardware": "a100"})
    assert sides.check("profile_matches", gpu, sim).status == "pass"


def test_profile_unknown(sides: Sides) -> None:
    assert sides.check("profile_matches", sim=sides.sim(meta={"profile": None})).status == "unknown"


@pytest.mark.parametrize(
    ("inside", "outside", "status"), [(99, 1, "pass"), (95, 5, "warn"), (80, 20, "fail")]
)
def test_extrapolated_time(sides: Sides, inside: int, outside: int, status: str) -> None:
    steps = [step(0, inside, extrapolated=0), step(inside, outside, extrapolated=1)]
    found = sides.check("profile_covers", sim=sides.sim(steps=steps))
    assert found.status == status
    assert f"{outside}.0% of the simulated time" in found.detail


def test_extrapolation_unknown(sides: Sides) -> None:
    assert sides.check("profile_covers").status == "unknown"
    sim = sides.sim(steps=[step(0, 5)])
    assert sides.check("profile_covers", sim=sim).status == "unknown"


def test_overhead(sides: Sides) -> None:
    def found(shares: Any, **engine: Any) -> str:
        meta = {"operator_shares": shares, "engine": {**ENGINE, **engine}}
        return sides.check("overhead_counted", sim=sides.sim(meta=meta)).status

    assert found({"mlp_up_proj": 0.9, "overhead": 0.1}) == "pass"
    assert found({"mlp_up_proj": 1.0}) == "fail"
    assert found({"mlp_up_proj": 1.0}, async_scheduling=True) == "warn"
    assert found({"mlp_up_proj": 1.1, "overhead": -0.1}) == "pass"  # a compiled engine
    assert found(None) == "unknown"
    blind = sides.sim(meta={"operator_shares": None, "counts_engine_time": False})
    assert sides.check("overhead_counted", sim=blind).status == "fail"


def test_calibration(sides: Sides) -> None:
    real = sides.real()

    def found(meta: dict[str, Any]) -> Check:
        return sides.check("not_calibrated_on", real, sides.sim(meta=meta))

    def tuned(on: Any) -> dict[str, Any]:
        return {"profile": {**PROFILE, "calibrated_on": on}}

    assert found(tuned([])).status == "pass"
    assert found(tuned(["some-other-run"])).status == "pass"
    assert found(tuned([real.run_id])).status == "fail"
    assert found(tuned(["w" * 64])).status == "fail"
    assert found({"params": {"calibrated_on": [real.run_id]}}).status == "fail"
    assert found(tuned(None)).status == "unknown"


# generator_on_time


def test_late_requests(sides: Sides) -> None:
    # Median TTFT 100 ms: up to 5 ms is on time.
    on_time = [request(i, i * 1000, [i * 1000 + 100], sent=i * 1000 + 4) for i in range(10)]
    late = [request(i, i * 1000, [i * 1000 + 100], sent=i * 1000 + 6) for i in range(10)]
    assert sides.check("generator_on_time", sides.real(on_time), sides.sim(on_time)).status == (
        "pass"
    )
    found = sides.check("generator_on_time", sides.real(late), sides.sim(late))
    assert found.status == "fail"
    assert "100.0% of requests sent more than 5 ms late, the latest by 6 ms" in found.detail


def test_one_late_request_of_many_warns(sides: Sides) -> None:
    def found(late: int) -> str:
        rows = [
            request(i, i * 1000, [i * 1000 + 100], sent=i * 1000 + (6 if i < late else 0))
            for i in range(20)
        ]
        return sides.check("generator_on_time", sides.real(rows), sides.sim(rows)).status

    assert [found(0), found(1), found(2)] == ["pass", "warn", "fail"]


def test_waiting_for_the_running_step_is_not_lateness(sides: Sides) -> None:
    rows = [request(0, 0, [100]), request(1, 20, [200], sent=100), request(2, 30, [200], sent=101)]
    sim = sides.sim(rows)
    assert sides.check("generator_on_time", sides.real(rows), sim).status == "fail"
    steps = [step(0, 100), step(101, 99)]
    assert sides.check("generator_on_time", sides.real(rows, steps=steps), sim).status == "pass"


def test_a_request_that_waits_for_a_step_that_begins_meanwhile_is_not_late(sides: Sides) -> None:
    rows = [request(0, 0, [100]), request(1, 100.5, [300], sent=200)]
    steps = [step(0, 100), step(101, 99)]
    found = sides.check("generator_on_time", sides.real(rows, steps=steps), sides.sim(rows))
    assert found.status == "pass"
    # It should have gone out after the second step, not after the third.
    rows = [request(0, 0, [100]), request(1, 100.5, [400], sent=300)]
    steps = [step(0, 100), step(101, 99), step(201, 98)]
    found = sides.check("generator_on_time", sides.real(rows, steps=steps), sides.sim(rows))
    assert found.status == "fail"
    assert "the latest by 100 ms" in found.detail


def test_lateness_from_the_metadata(sides: Sides) -> None:
    rows = [{**row, "sent_time_ns": None} for row in steady(24)]
    assert sides.check("generator_on_time", sides.real(rows)).status == "unknown"
    for late, status in ((4 * MS, "pass"), (6 * MS, "fail")):
        real = sides.real(rows, meta={"lateness": {"p99_ns": late}})
        assert sides.check("generator_on_time", real).status == status


# warmed_up


def cold_start() -> list[dict[str, Any]]:
    return [request(0, 0, [460, 480]), *steady(24, tokens=2)[1:]]


def test_warm_up(sides: Sides) -> None:
    cold, warm = cold_start(), steady(24, tokens=2)
    sim = sides.sim(warm)

    def found(rows: Rows, warmup: Any) -> str:
        return sides.check("warmed_up", sides.real(rows, meta={"warmup": warmup}), sim).status

    assert found(warm, {"passes": 1, "requests": 24}) == "pass"
    assert found(warm, {"passes": 0, "requests": 0}) == "fail"
    assert found(warm, None) == "unknown"
    assert found(cold, {"passes": 1}) == "warn"
    assert found(cold, None) == "fail"


def test_a_cold_start_that_hardly_matters_is_no_failure(sides: Sides) -> None:
    # 360 ms too long at first, where a request takes 100 + 2 x 5000 ms.
    long = steady(24, tokens=3, itl=5000, gap=20_000)
    cold = [request(0, 0, [460, 5460, 10_460]), *long[1:]]
    found = sides.check("warmed_up", sides.real(cold, meta={"warmup": None}), sides.sim(long))
    assert found.status == "unknown"
    assert "the first TTFT is 460 ms where 100 ms would be usual" in found.detail


# prefix_cache_cold


def test_cached_tokens_that_nothing_explains(sides: Sides) -> None:
    hot = steady(24, prefill=1000, cached=900)
    cold = sides.sim(steady(24, prefill=1000))
    found = sides.check("prefix_cache_cold", sides.real(hot), cold)
    assert found.status == "fail"
    assert "request 0: 900 of 1000, expected 0" in found.detail


def test_cached_tokens_that_the_prompts_share(sides: Sides) -> None:
    rows = steady(24, prefill=1000, cached=640)
    assert sides.check("prefix_cache_cold", sides.real(rows), sides.sim(rows)).status == "pass"
    # 24 x 10 tokens more is 1% of the prompt tokens, 24 x 16 is not.
    for cached, status in ((650, "pass"), (656, "fail")):
        real = sides.real(steady(24, prefill=1000, cached=cached))
        assert sides.check("prefix_cache_cold", real, sides.sim(rows)).status == status


def test_a_preempted_request_may_resume_with_hits(sides: Sides) -> None:
    rows = [dict(row) for row in steady(24)]
    rows[3]["num_cached_tokens"] = 8
    assert sides.check("prefix_cache_cold", sides.real(rows)).status == "fail"
    real = sides.real(rows, steps=[step(0, 20, preempted=1)])
    assert sides.check("prefix_cache_cold", real).status == "pass"


def test_cached_tokens_where_the_simulation_knows_none(sides: Sides, tmp_path: Path) -> None:
    blind = sides.sim(steady(24, cached=None))
    real = sides.real(steady(24, cached=8))
    assert sides.check("prefix_cache_cold", real, blind).status == "unknown"
    workload = make_workload(tmp_path / "w", [(10, 6, i * 1000 * MS) for i in range(24)])
    found = sides.check("prefix_cache_cold", real, blind, workload=workload)
    assert found.status == "fail"
    unknown = sides.real(steady(24, cached=None))
    assert sides.check("prefix_cache_cold", unknown, blind).status == "unknown"
    assert sides.check("prefix_cache_cold", sides.real(), blind).status == "pass"


def test_a_simulation_with_other_blocks_is_no_measure_of_the_cache(sides: Sides) -> None:
    sim = sides.sim(meta={"engine": {**ENGINE, "num_gpu_blocks": 9}})
    found = sides.check("prefix_cache_cold", sides.real(steady(24, cached=8)), sim)
    assert found.status == "unknown"


def test_the_workload_tells_what_prompts_share(sides: Sides, tmp_path: Path) -> None:
    # Prompt 1 begins with 40 tokens of prompt 0: two whole blocks of 16. Prompt 0 comes again as
    # request 3: 48 tokens are three blocks, of which the last holds the token that is needed.
    prompts = {
        0: Prompt(0, seed=1, num_tokens=48),
        1: Prompt(1, seed=2, num_tokens=50, prefix_of=0, prefix_tokens=40),
        2: Prompt(2, seed=3, num_tokens=50),
    }
    requests = [(48, 2, 0), (50, 2, 1), (50, 2, 2), (48, 2, 3)]
    workload = make_workload(tmp_path / "w", requests, prompts, prompt_ids=[0, 1, 2, 0])
    shared = shared_tokens(workload, 16)
    assert shared is not None
    assert shared.tolist() == [0, 32, 0, 32]

    def rows(cached: Sequence[int]) -> Rows:
        return [
            request(i, arrival / MS, [10 + i, 20 + i], prefill=prefill, cached=cached[i])
            for i, (prefill, _, arrival) in enumerate(requests)
        ]

    def found(cached: Sequence[int]) -> str:
        real, sim = sides.real(rows(cached)), sides.sim(rows([0, 0, 0, 0]))
        return sides.check("prefix_cache_cold", real, sim, workload=workload).status

    assert found([0, 32, 0, 32]) == "pass"
    assert found([0, 16, 0, 0]) == "pass"
    assert found([0, 32, 32, 32]) == "fail"


# below_saturation


def test_a_growing_queue_warns_and_does_not_fail(sides: Sides) -> None:
    # Arrivals every 50 ms, one served every 100 ms: the queue delay grows by 50 ms a request.
    rows = [request(i, i * 50, [(i + 1) * 100], scheduled=i * 100) for i in range(12)]
    found = sides.check("below_saturation", sides.real(rows), sides.sim(rows))
    assert found.status == "warn"
    # Mean delay of the first four 75 ms, of the last four 475 ms.
    assert "20 requests/s arrive" in found.detail
    assert "10/s are served" in found.detail
    assert "grows by 400 ms" in found.detail


def test_a_queue_that_does_not_grow(sides: Sides) -> None:
    assert sides.check("below_saturation").status == "pass"
    few = steady(3)
    assert sides.check("below_saturation", sides.real(few), sides.sim(few)).status == "skip"


def test_a_queue_that_is_long_from_the_start_warns(sides: Sides) -> None:
    rows = [request(i, i * 100, [i * 100 + 100], scheduled=i * 100 + 30) for i in range(12)]
    found = sides.check("below_saturation", sides.real(rows), sides.sim(rows))
    assert found.status == "warn"
    assert "a 1% error of step time moves ttft_p90" in found.detail


def test_saturation_shows_in_ttft_where_the_queue_is_unknown(sides: Sides) -> None:
    rows = [request(i, i * 50, [(i + 1) * 100], scheduled=i * 100) for i in range(12)]
    rows = [{**row, "scheduled_time_ns": None} for row in rows]
    found = sides.check("below_saturation", sides.real(rows), sides.sim(rows))
    assert found.status == "warn"
    assert "TTFT grows by 400 ms" in found.detail


# no_cancelling_errors


def test_ttft_and_tpot_that_cancel_in_e2e(sides: Sides) -> None:
    # Prefill 11 times too fast, decode 1.45 times too slow: E2E is right to half a percent.
    real, sim = sides.real(steady(24, ttft=110, itl=40)), sides.sim(steady(24, ttft=10, itl=58))
    found = sides.check("no_cancelling_errors", real, sim)
    assert found.status == "fail"
    assert "TTFT p50 is off by -90.9% and TPOT p50 by +45.0%" in found.detail
    assert "E2E is off by -3.2% only" in found.detail


def test_errors_of_one_sign_do_not_cancel(sides: Sides) -> None:
    assert sides.check(
        "no_cancelling_errors", sim=sides.sim(steady(24, ttft=90, itl=15))
    ).status == ("pass")


def test_opposite_errors_that_are_noise_do_not_count(sides: Sides) -> None:
    real = [sides.real(steady(24, ttft=t, itl=i)) for t, i in ((70, 26), (100, 20), (130, 14))]
    sim = sides.sim(steady(24, ttft=80, itl=24))
    assert sides.check("no_cancelling_errors", real, sim).status == "pass"


@pytest.mark.parametrize(("off", "status"), [(0.03, "pass"), (0.07, "warn"), (0.2, "fail")])
def test_errors_that_cancel_over_the_run(sides: Sides, off: float, status: str) -> None:
    rows = [
        request(i, i * 1000, [i * 1000 + 100 * (1 - off if i < 12 else 1 + off)]) for i in range(24)
    ]
    real = sides.real(steady(24, tokens=1))
    found = sides.check("no_cancelling_errors", real, sides.sim(rows))
    assert found.status == status
    if status != "pass":
        assert "in the first third of the run" in found.detail


def test_noise_over_the_run_is_no_cancelling(sides: Sides) -> None:
    def rows(early: float, late: float) -> Rows:
        return [
            request(i, i * 1000, [i * 1000 + 100 * (early if i < 12 else late)]) for i in range(24)
        ]

    sim = sides.sim(rows(0.8, 1.2))
    noisy = [sides.real(rows(early, late)) for early, late in ((0.75, 1.25), (1, 1), (1.25, 0.75))]
    assert sides.check("no_cancelling_errors", noisy, sim).status == "pass"
    quiet = [sides.real(rows(early, late)) for early, late in ((0.97, 1.03), (1, 1), (1.03, 0.97))]
    assert sides.check("no_cancelling_errors", quiet, sim).status == "fail"


def of_latencies(ttft: Sequence[float]) -> Rows:
    return [request(i, i * 1000, [i * 1000 + ttft[i]]) for i in range(len(ttft))]


@pytest.mark.parametrize(
    ("fast", "slow", "status"),
    [
        (1.0, 1.3, "fail"),  # the slowest fifth alone
        (1.0, 1.2, "warn"),
        (1.16, 1.3, "pass"),  # the rest is off by more than half as much: no tail's matter
        (1.3, 1.3, "pass"),
    ],
)
def test_the_slowest_fifth_is_off_by_twice_as_much_as_the_rest(
    sides: Sides, fast: float, slow: float, status: str
) -> None:
    times = [100.0 + number for number in range(20)] + [200.0 + number for number in range(5)]
    real = [sides.real(of_latencies([f * t for t in times])) for f in (0.998, 1.002)]
    simulated = [t * (slow if t >= 200 else fast) for t in times]
    found = sides.check("no_cancelling_errors", real, sides.sim(of_latencies(simulated)))
    assert found.status == status
    assert ("slowest fifth is off by" in found.detail) == (status != "pass")


@pytest.mark.parametrize(
    ("size", "factor", "status"),
    [
        (1.0, 1.0, "fail"),  # one value for all, and the right mean
        (1.0, 1.5, "pass"),  # the mean is off itself: nothing cancels
        (0.02, 1.0, "pass"),  # all take as long: ranks mean nothing
        (0.001, 1.0, "pass"),
    ],
)
def test_single_requests_matter_where_the_mean_is_right(
    sides: Sides, size: float, factor: float, status: str
) -> None:
    order = [(number * 7) % 24 for number in range(24)]  # by arrival no third is slow
    times = [100 * (1 + size * (place / 23 - 0.5)) for place in order]
    real = [sides.real(of_latencies([f * t for t in times])) for f in (0.9998, 1, 1.0002)]
    constant = sides.sim(of_latencies([factor * 100] * 24))
    found = sides.check("no_cancelling_errors", real, constant)
    assert found.status == status
    assert ("single requests is off by" in found.detail) == (status == "fail")


# enough_samples, lengths_as_produced


def test_samples(sides: Sides) -> None:
    def found(real: list[Run], sim: Run) -> Check:
        return sides.check("enough_samples", real, sim)

    sim = sides.sim()
    enough = found([sides.real(), sides.real(), sides.real()], sim)
    assert enough.status == "pass"
    assert "p99 of 24 requests" in enough.detail
    assert "p95" not in enough.detail
    one = found([sides.real()], sim)
    assert one.status == "warn"
    assert "noise is not known" in one.detail
    few = steady(5)
    assert found([sides.real(few), sides.real(few)], sides.sim(few)).status == "warn"


def test_failed_requests(sides: Sides) -> None:
    rows = [dict(row) for row in steady(24)]
    rows[7] = request(7, 7000, [], asked=6, error="Timeout")
    assert sides.check("enough_samples", [sides.real(rows), sides.real()]).status == "warn"
    rows[8] = request(8, 8000, [], asked=6, error="Timeout")
    found = sides.check("enough_samples", [sides.real(rows), sides.real()])
    assert found.status == "fail"
    assert "2 of 24 left out because they failed" in found.detail


def test_lengths(sides: Sides) -> None:
    short = sides.real(steady(24, asked=9))
    assert sides.check("lengths_as_produced", short).status == "pass"
    longer = sides.sim(steady(24, tokens=9))
    assert sides.check("lengths_as_produced", short, longer).status == "warn"
    found = sides.check("lengths_as_produced", sim=sides.sim(steady(24, tokens=4, asked=6)))
    assert found.status == "fail"
    assert "request 0: 4 of 6" in found.detail
    two = [sides.real(steady(24, asked=9)), sides.real(steady(24, tokens=9))]
    assert sides.check("lengths_as_produced", two).status == "warn"


def test_what_is_accepted_says_so_and_a_pass_stays_one(sides: Sides) -> None:
    blind = sides.sim(meta={"operator_shares": {"mlp_up_proj": 1.0}})
    assert sides.check("overhead_counted", sim=blind).status == "fail"
    accepted = sides.check("overhead_counted", sim=blind, accept=["overhead_counted"])
    assert accepted.status == "accepted"
    assert sides.check("overhead_counted", accept=["overhead_counted"]).status == "pass"


def test_a_setting_that_differs_cannot_be_accepted_one_that_is_unknown_can(sides: Sides) -> None:
    accept = {"accept": ["settings_mirrored"]}
    other = sides.sim(meta={"engine": {**ENGINE, "max_num_seqs": 3}})
    found = sides.check("settings_mirrored", sim=other, **accept)
    assert found.status == "fail"
    assert "cannot be accepted" in found.detail
    silent = sides.sim(meta={"engine": {}})
    assert sides.check("settings_mirrored", sim=silent, **accept).status == "accepted"


def test_the_worst_of_several_runs_counts(sides: Sides) -> None:
    cold = sides.real(meta={"warmup": {"passes": 0}})
    found = sides.check("warmed_up", [sides.real(), cold, sides.real()])
    assert found == replace(found, status="fail")
    assert cold.run_id in found.detail
