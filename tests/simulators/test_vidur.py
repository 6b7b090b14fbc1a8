"""Vidur as a simulator: the same batches and token times as the reference, in one process."""

from __future__ import annotations

import dataclasses
import filecmp
import tempfile
from pathlib import Path
from typing import Any

import pytest

from pytest_gpusim.artifacts import sha256_file
from pytest_gpusim.bundle import Bundle
from pytest_gpusim.errors import EngineError, UsageError
from pytest_gpusim.providers import SimulationInputs
from pytest_gpusim.runs import Run, read_run
from pytest_gpusim.simulators import reference
from pytest_gpusim.simulators.engine import complete_settings
from pytest_gpusim.simulators.fleet import Fleet
from pytest_gpusim.simulators.vidur import package, runner
from pytest_gpusim.simulators.vidur.clock import exact_span, to_ns, to_seconds
from pytest_gpusim.workload import Workload
from tests.factories import (
    CPU,
    ENGINE,
    TINY,
    hand_step_ns,
    make_bundle,
    make_workload,
    random_workload,
)

pytest.importorskip("vidur", reason="vidur is not installed")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("bundle") / "b", mixed=True)


def inputs(bundle: Bundle, workload: Workload, out: Path, **changes: Any) -> SimulationInputs:
    params = changes.pop("params", {})
    settings = dataclasses.replace(ENGINE, **changes)
    return SimulationInputs(TINY, CPU, workload, bundle, settings, out, params)


def simulate(bundle: Bundle, workload: Workload, out: Path, **changes: Any) -> Run:
    runner.simulate(inputs(bundle, workload, out, **changes))
    return read_run(out)


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("seed", range(12))
def test_same_batches_and_token_times_as_the_reference(
    tmp_path: Path, bundle: Bundle, seed: int, asynchronous: bool
):
    # Gaps of 0 to 2 ms around steps of some 0.3 ms, and a cache that is now and then too small.
    workload = random_workload(tmp_path / "w", seed, shared=seed % 2 == 0)
    changes = {
        "async_scheduling": asynchronous,
        "num_gpu_blocks": (40, 60, 500)[seed % 3],
        "engine_version": ("0.19.0", "0.32.0")[seed % 2],
    }
    reference.simulate(inputs(bundle, workload, tmp_path / "reference", **changes))
    run = simulate(bundle, workload, tmp_path / "vidur", **changes)
    for name in ("token_metrics.csv", "step_metrics.csv", "step_batches.jsonl"):
        assert filecmp.cmp(tmp_path / "reference" / name, tmp_path / "vidur" / name, shallow=False)
    other = read_run(tmp_path / "reference")
    assert run.requests.drop(columns="backend").equals(other.requests.drop(columns="backend"))
    assert run.meta["operator_shares"] == other.meta["operator_shares"]


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_an_arrival_in_the_very_nanosecond_in_which_a_step_ends(
    tmp_path: Path, bundle: Bundle, asynchronous: bool
):
    # Sums of rounded seconds would sometimes put it after the end, and so into a later step.
    ends = [round(hand_step_ns([(50, 0)], [], mixed=True))]
    for context in range(50, 90):
        ends.append(ends[-1] + round(hand_step_ns([], [context], mixed=True)))
    for number in range(0, len(ends), 4):
        arrival = ends[number]
        workload = make_workload(tmp_path / f"w{number}", [(50, 60, 0), (5, 2, arrival)])
        changes = {"async_scheduling": asynchronous}
        reference.simulate(inputs(bundle, workload, tmp_path / f"r{number}", **changes))
        run = simulate(bundle, workload, tmp_path / f"v{number}", **changes)
        assert filecmp.cmp(
            tmp_path / f"r{number}" / "token_metrics.csv",
            tmp_path / f"v{number}" / "token_metrics.csv",
            shallow=False,
        )
        batches = run.batches()
        assert batches is not None
        # It joins the step that starts as it arrives, asynchronously the one after it.
        assert 1 in batches[number + 1 + asynchronous]


def test_clock_is_exact():
    import random

    stream = random.Random(0)
    for _ in range(20_000):
        start = stream.randrange(10 ** stream.randint(1, 15))
        end = start + stream.randrange(1, 10 ** stream.randint(1, 12))
        assert to_ns(to_seconds(start)) == start
        assert to_seconds(start) + exact_span(start, end) == to_seconds(end)


def test_a_simulation_leaves_nothing_behind_and_says_nothing(
    tmp_path: Path,
    bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
):
    workload = make_workload(tmp_path / "w", [(50, 5, 0)])
    here, scratch = tmp_path / "here", tmp_path / "scratch"
    here.mkdir()
    scratch.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    for number in range(3):
        simulate(bundle, workload, tmp_path / f"out{number}")
    assert not list(here.iterdir())
    assert not list(scratch.iterdir())
    assert capfd.readouterr().out == ""
    assert len({sha256_file(tmp_path / f"out{n}" / "token_metrics.csv") for n in range(3)}) == 1


def test_vidurs_own_figures_add_up_to_the_step(tmp_path: Path, bundle: Bundle):
    from pytest_gpusim.simulators.vidur.entities import EngineStage

    workload = random_workload(tmp_path / "w", 3, requests=8)
    stages: list[EngineStage] = []
    collected = EngineStage.on_stage_end

    def collect(stage: EngineStage, time: float) -> None:
        stages.append(stage)
        collected(stage, time)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EngineStage, "on_stage_end", collect)
        run = simulate(bundle, workload, tmp_path / "out")
    assert run.steps is not None
    durations = run.steps["duration_ns"].tolist()
    assert [s._execution_time.total_time * 1e9 for s in stages] == pytest.approx(durations)
    assert all(s._execution_time.mlp_layer_up_proj_execution_time > 0 for s in stages)


def test_sarathi_survives_preemption(tmp_path: Path, bundle: Bundle):
    workload = random_workload(tmp_path / "w", 11, requests=20, mean_gap_ns=100_000)
    given = inputs(bundle, workload, tmp_path / "out", num_gpu_blocks=36)
    session = runner.run(
        dataclasses.replace(given, engine=complete_settings(given)),
        Fleet.of_inputs(given, 1, "round_robin"),
        "sarathi",
        "profile",
    )
    assert sum(request.num_restarts for request in session.requests) > 3
    for request in session.requests:
        assert len(request.token_ns) == request.source.num_decode_tokens
        assert list(request.token_ns) == sorted(request.token_ns)


def test_sarathi_writes_a_run(tmp_path: Path, bundle: Bundle):
    workload = make_workload(tmp_path / "w", [(100, 3, 5_000), (30, 1, 5_000)])
    run = simulate(bundle, workload, tmp_path / "out", params={"scheduler": "sarathi"})
    assert run.tokens is not None
    first = 5_000 + round(hand_step_ns([(100, 0), (30, 0)], [], mixed=True))
    assert run.requests["first_token_time_ns"].tolist() == [first, first]
    second = first + round(hand_step_ns([], [100], mixed=True))
    assert run.tokens["token_time_ns"].tolist()[1] == second
    assert run.meta["scheduler"] == "sarathi"


@pytest.mark.parametrize("scheduler", ["vllm", "sarathi"])
def test_random_forest_is_trained_on_the_bundle_and_cached_by_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheduler: str
):
    import platformdirs

    from pytest_gpusim.simulators.vidur import forest

    monkeypatch.setitem(forest._GRIDS["small"], "num_estimators", [5])
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda name: str(tmp_path / "cache" / name))
    bundle = make_bundle(tmp_path / "b")
    workload = make_workload(tmp_path / "w", [(100, 4, 0), (60, 4, 0)])
    params = {"scheduler": scheduler, "predictor": "random_forest"}
    run = simulate(bundle, workload, tmp_path / "one", params=params)
    cache = tmp_path / "cache" / "pytest-gpusim" / "vidur-forest"
    assert len(list(cache.iterdir())) == 1
    simulate(bundle, workload, tmp_path / "two", params=params)
    assert len(list(cache.iterdir())) == 1
    assert filecmp.cmp(tmp_path / "one" / "token_metrics.csv", tmp_path / "two/token_metrics.csv")
    # Neither head nor engine time is in Vidur's model, so its steps are shorter than the truth.
    assert run.steps is not None
    profiled = simulate(bundle, workload, tmp_path / "three", params={"scheduler": scheduler})
    assert profiled.steps is not None
    assert 0 < run.steps["duration_ns"].sum() < profiled.steps["duration_ns"].sum()
    # Another profile of the same name is another forest.
    slower = bundle.mlp.assign(
        **{"time_stats.mlp_up_proj.median": 3 * bundle.mlp["time_stats.mlp_up_proj.median"]}
    )
    changed = make_bundle(tmp_path / "b2", tables={"mlp.csv": slower})
    rerun = simulate(changed, workload, tmp_path / "four", params=params)
    assert rerun.steps is not None
    assert rerun.steps["duration_ns"].sum() > run.steps["duration_ns"].sum()


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"scheduler": "orca"}, "scheduler=orca: known are vllm, sarathi"),
        ({"predictor": "linear"}, "predictor=linear: known are profile, random_forest"),
        ({"predictor": "random_forest", "forest": "x"}, "forest=x: known are small, vidur"),
    ],
)
def test_unknown_choices_are_usage_errors(tmp_path: Path, bundle: Bundle, params, text):
    workload = make_workload(tmp_path / "w", [(10, 2, 0)])
    with pytest.raises(UsageError, match=text):
        simulate(bundle, workload, tmp_path / "out", params=params)
    assert not (tmp_path / "out").exists()


def test_a_request_that_can_never_run_is_the_users_error(tmp_path: Path, bundle: Bundle):
    workload = make_workload(tmp_path / "w", [(10, 2, 0), (500, 2, 0)])
    with pytest.raises(UsageError, match=r"request 1.*KV blocks"):
        simulate(bundle, workload, tmp_path / "out", num_gpu_blocks=10)


def test_what_vidur_cannot_finish_is_said_in_one_line(tmp_path: Path, bundle: Bundle):
    # Sarathi keeps a watermark, and so never admits what vLLM would.
    workload = make_workload(tmp_path / "w", [(3010, 2, 0)])
    with pytest.raises(EngineError, match="request") as caught:
        simulate(
            bundle, workload, tmp_path / "out", num_gpu_blocks=190, params={"scheduler": "sarathi"}
        )
    assert "\n" not in str(caught.value)


def test_missing_vidur_is_an_engine_error(
    tmp_path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
):
    workload = make_workload(tmp_path / "w", [(10, 2, 0)])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EngineError, match=r"pip install 'pytest-gpusim\[vidur\]'"):
        simulate(bundle, workload, tmp_path / "out")


def test_another_version_of_vidur_is_refused_by_number(
    tmp_path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
):
    workload = make_workload(tmp_path / "w", [(10, 2, 0)])
    monkeypatch.setattr(package, "package_version", lambda name: "0.1.0")
    with pytest.raises(EngineError, match=r"vidur 0\.1\.0 is not supported, only 0\.0\.26"):
        simulate(bundle, workload, tmp_path / "out")
