"""The reference simulator against schedules worked out by hand."""

from __future__ import annotations

import dataclasses
import filecmp
from pathlib import Path

import pytest

from pytest_gpusim.bundle import Bundle
from pytest_gpusim.deployment import EngineSettings
from pytest_gpusim.errors import UsageError
from pytest_gpusim.providers import SimulationInputs
from pytest_gpusim.runs import Run, read_run
from pytest_gpusim.simulators import reference
from pytest_gpusim.workload import Workload
from pytest_gpusim.workload.prompts import Prompt
from tests.factories import CPU, ENGINE, TINY, hand_step_ns, make_bundle, make_workload

CSV = ("request_metrics.csv", "token_metrics.csv", "step_metrics.csv", "step_batches.jsonl")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("bundle") / "b")


def simulate(
    out: Path,
    bundle: Bundle,
    workload: Workload,
    engine: EngineSettings = ENGINE,
    **changes: object,
) -> Run:
    settings = dataclasses.replace(engine, **changes)  # type: ignore[arg-type]
    reference.simulate(SimulationInputs(TINY, CPU, workload, bundle, settings, out))
    return read_run(out)


def token_times(run: Run) -> dict[int, list[int]]:
    assert run.tokens is not None
    return {
        int(request): rows["token_time_ns"].tolist()
        for request, rows in run.tokens.groupby("request_id")
    }


def step(chunks: list[tuple[int, int]], decodes: list[int]) -> int:
    return round(hand_step_ns(chunks, decodes))


def test_a_lone_request(tmp_path: Path, bundle: Bundle):
    workload = make_workload(tmp_path / "w", [(100, 3, 5_000)])
    run = simulate(tmp_path / "out", bundle, workload)
    first = 5_000 + step([(100, 0)], [])
    second = first + step([], [100])
    assert token_times(run) == {0: [first, second, second + step([], [101])]}
    row = run.requests.iloc[0]
    assert (row["scheduled_time_ns"], row["ttft_ns"]) == (5_000, first - 5_000)
    assert run.steps is not None
    assert run.steps["start_ns"].tolist() == [5_000, first, second]


def test_a_long_prompt_is_cut_and_an_arrival_joins_the_next_step(tmp_path: Path, bundle: Bundle):
    # 256 tokens a step: request 0 prefills 256, then 44; request 1 comes while the first step
    # runs, and takes part in the second.
    workload = make_workload(tmp_path / "w", [(300, 2, 0), (20, 2, 10)])
    run = simulate(tmp_path / "out", bundle, workload)
    first = step([(256, 0)], [])
    second = first + step([(44, 256), (20, 0)], [])
    third = second + step([], [300, 20])
    assert token_times(run) == {0: [second, third], 1: [second, third]}
    assert run.requests["scheduled_time_ns"].tolist() == [0, first]
    assert run.batches() == [{0: 256}, {0: 44, 1: 20}, {0: 1, 1: 1}]


def test_asynchronously_an_arrival_waits_one_step_more(tmp_path: Path, bundle: Bundle):
    # The second step is planned when the first one starts, so request 1 joins the third.
    workload = make_workload(tmp_path / "w", [(300, 3, 0), (20, 1, 10)])
    run = simulate(tmp_path / "out", bundle, workload, async_scheduling=True)
    first = step([(256, 0)], [])
    second = first + step([(44, 256)], [])
    third = second + step([(20, 0)], [300])
    fourth = third + step([], [301])
    assert token_times(run) == {0: [second, third, fourth], 1: [third]}
    # As vLLM's own event: when it was planned, not when that step began.
    assert run.requests["scheduled_time_ns"].tolist() == [0, first]


def test_a_full_cache_preempts_the_last_request_and_recomputes_it(tmp_path: Path, bundle: Bundle):
    # 5 usable blocks of 16 tokens. Both prompts take 2 blocks; at 33 tokens each wants a third.
    workload = make_workload(tmp_path / "w", [(32, 10, 0), (32, 10, 0)])
    run = simulate(
        tmp_path / "out", bundle, workload, num_gpu_blocks=6, enable_prefix_caching=False
    )
    assert run.steps is not None
    assert run.steps["preempted"].sum() == 1
    times = token_times(run)
    first = step([(32, 0), (32, 0)], [])
    assert (times[0][0], times[1][0]) == (first, first)
    # Request 0 decodes alone until it is done, then request 1 prefills its prompt and first token.
    alone = first
    for context in range(32, 41):
        alone += step([], [context])
    assert times[0][-1] == alone
    assert times[1][1] == alone + step([(33, 0)], [])


def test_shared_prefixes_are_found_by_content(tmp_path: Path, bundle: Bundle):
    prompts = {
        0: Prompt(0, seed=1, num_tokens=64),
        1: Prompt(1, seed=2, num_tokens=70, prefix_of=0, prefix_tokens=50),
    }
    rows = [(64, 2, 0), (70, 2, 10**9)]
    shared = make_workload(tmp_path / "w", rows, prompts)
    run = simulate(tmp_path / "out", bundle, shared)
    # 50 shared tokens are 3 full blocks of 16.
    assert run.requests["num_cached_tokens"].tolist() == [0, 48]
    assert run.requests["ttft_ns"].tolist() == [step([(64, 0)], []), step([(22, 48)], [])]
    cold = simulate(tmp_path / "cold", bundle, shared, enable_prefix_caching=False)
    assert cold.requests["num_cached_tokens"].tolist() == [0, 0]


def test_same_inputs_give_the_same_bytes(tmp_path: Path, bundle: Bundle):
    workload = make_workload(tmp_path / "w", [(50 + i, 5 + i % 7, i * 1000) for i in range(40)])
    for name in ("one", "two"):
        simulate(tmp_path / name, bundle, workload, num_gpu_blocks=30)
    for name in CSV:
        assert filecmp.cmp(tmp_path / "one" / name, tmp_path / "two" / name, shallow=False)


def test_a_compressed_run_is_the_same_run(tmp_path: Path, bundle: Bundle):
    workload = make_workload(tmp_path / "w", [(40, 12, 70_000 * number) for number in range(9)])
    plain = simulate(tmp_path / "plain", bundle, workload)
    inputs = SimulationInputs(
        TINY, CPU, workload, bundle, ENGINE, tmp_path / "packed", compress=True
    )
    reference.simulate(inputs)
    packed = read_run(tmp_path / "packed")
    assert not [path for path in packed.path.iterdir() if path.suffix in (".csv", ".jsonl")]
    assert plain.steps is not None
    assert plain.tokens is not None
    assert plain.requests.equals(packed.requests)
    assert plain.tokens.equals(packed.tokens)
    assert plain.steps.equals(packed.steps)
    assert plain.batches() == packed.batches()


def test_the_run_says_what_it_was_made_of(tmp_path: Path, bundle: Bundle):
    workload = make_workload(tmp_path / "w", [(10, 2, 0)])
    run = simulate(tmp_path / "out", bundle, workload)
    meta = run.meta
    assert meta["run_type"] == "reference"
    assert meta["workload_digest"] == workload.digest
    assert meta["profiling_digest"] == bundle.digest
    assert meta["profile"]["source"] == "synthetic"
    assert meta["device_name"] == "Synthetic processor, 2 cores"
    assert EngineSettings.from_mapping(meta["engine"], "run") == ENGINE
    assert sum(meta["operator_shares"].values()) == pytest.approx(1, abs=1e-4)
    assert meta["extrapolated_steps"] == 0


def test_steps_beyond_the_profile_are_marked(tmp_path: Path, bundle: Bundle):
    workload = make_workload(tmp_path / "w", [(5000, 2, 0)])
    run = simulate(tmp_path / "out", bundle, workload, max_model_len=6000)
    assert run.steps is not None
    assert run.steps["extrapolated"].tolist()[-1] == 1
    assert run.meta["extrapolated_steps"] == run.steps["extrapolated"].sum()


def test_settings_that_are_not_stated_come_from_the_bundle(tmp_path: Path, bundle: Bundle):
    workload = make_workload(tmp_path / "w", [(10, 2, 0)])
    run = simulate(tmp_path / "out", bundle, workload, EngineSettings(num_gpu_blocks=77))
    assert run.meta["engine"] == {**ENGINE.to_json(), "num_gpu_blocks": 77}


def test_a_request_that_can_never_run_is_refused_and_nothing_is_written(
    tmp_path: Path, bundle: Bundle
):
    workload = make_workload(tmp_path / "w", [(500, 2, 0)])
    with pytest.raises(UsageError, match=r"request 0.*KV blocks"):
        simulate(tmp_path / "out", bundle, workload, num_gpu_blocks=10)
    assert not (tmp_path / "out").exists()
