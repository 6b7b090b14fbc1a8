"""Intervals of predictions: what they are made of, and that they hold what they promise."""

from __future__ import annotations

import json
import random
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_gpusim.bundle import Bundle
from pytest_gpusim.bundle.schema import time_column
from pytest_gpusim.cli import main
from pytest_gpusim.compare import compare_runs
from pytest_gpusim.errors import UsageError
from pytest_gpusim.prediction import PREDICTION, Prediction, predict, prediction_lines
from pytest_gpusim.prediction.interval import _figures
from pytest_gpusim.prediction.sources import drawn_bundle, sources_of
from pytest_gpusim.providers import SimulationInputs
from pytest_gpusim.registry import builtin_registry
from pytest_gpusim.report.attribution import attribution_tables
from pytest_gpusim.runs import Clock, read_run
from pytest_gpusim.workload import Workload
from tests.factories import CPU, ENGINE, TINY, make_bundle, make_workload

MS = 1_000_000


@pytest.fixture
def workload(tmp_path: Path) -> Workload:
    draw, now, rows = random.Random(5), 0, []
    for _ in range(15):
        rows.append((draw.randint(10, 60), 6, now))
        now += draw.randint(1, 4) * MS
    return make_workload(tmp_path / "w", rows)


def inputs_of(bundle: Bundle, workload: Workload, clock: Clock = "engine") -> SimulationInputs:
    return SimulationInputs(TINY, CPU, workload, bundle, ENGINE, Path(), {}, clock)


def width(prediction: Prediction, metric: str = "tpot") -> float:
    _, low, high = prediction.metrics[metric]["p50"]
    return high / low


def test_intervals_hold_what_they_promise(tmp_path: Path, workload: Workload) -> None:
    inputs = inputs_of(make_bundle(tmp_path / "b"), workload)
    prediction = predict(inputs, 20)
    rng, inside = random.Random(99), 0
    for _ in range(40):
        truth = _figures(
            SimulationInputs(
                TINY,
                CPU,
                workload,
                drawn_bundle(inputs.bundle, prediction.sources, rng),
                ENGINE,
                Path(),
            )
        )
        _, low, high = prediction.metrics["e2e"]["mean"]
        inside += low <= truth["e2e"]["mean"] <= high
    assert 34 <= inside <= 40


def test_the_same_seed_draws_the_same(tmp_path: Path, workload: Workload) -> None:
    inputs = inputs_of(make_bundle(tmp_path / "b"), workload)
    one, same, other = predict(inputs, 5), predict(inputs, 5), predict(inputs, 5, seed=1)
    assert one.metrics == same.metrics != other.metrics


@pytest.mark.parametrize(
    ("made", "clock", "name"),
    [
        ({"overhead": False}, "engine", "engine_time"),
        ({}, "client", "front_end"),
        ({"meta": {"source": "aiconfigurator"}}, "engine", "composed"),
        ({"meta": {"engine_version": "0.19.0"}}, "engine", "other_release"),
    ],
)
def test_what_is_not_known_widens(
    tmp_path: Path, workload: Workload, made: dict[str, Any], clock: Clock, name: str
) -> None:
    plain = predict(inputs_of(make_bundle(tmp_path / "plain"), workload), 8)
    less = predict(inputs_of(make_bundle(tmp_path / "less", **made), workload, clock), 8)
    assert {s.name for s in less.sources} - {s.name for s in plain.sources} == {name}
    metric = "ttft" if name == "front_end" else "tpot"
    assert width(less, metric) > width(plain, metric)


def test_a_calibration_is_drawn_from_its_interval(tmp_path: Path, workload: Workload) -> None:
    found = {"name": "engine_time", "time_ns": 2 * MS, "low_ns": MS, "high_ns": 3 * MS}
    bundle = make_bundle(
        tmp_path / "b", overhead=False, meta={"calibration": {"parameters": [found]}}
    ).with_engine_time(2 * MS)
    (source,) = (s for s in sources_of(bundle, ENGINE, "engine") if s.name == "engine_time")
    assert source.mean_ns == 2 * MS
    assert source.time_ns == pytest.approx(MS / 1.645, rel=1e-3)


def test_a_scattered_operator_is_named_with_its_share(tmp_path: Path) -> None:
    cov = {"coefficient_of_variation": {"mlp_up_proj": 0.07}}
    sources = sources_of(make_bundle(tmp_path / "b", meta={"repeatability": cov}), ENGINE, "engine")
    shares = {source.name: source.share for source in sources}
    assert shares["mlp_up_proj"] == pytest.approx(0.07, abs=0.005)
    assert "overhead" not in shares


def test_passes_that_vary_widen_by_two_sittings(tmp_path: Path) -> None:
    """A run and a profile are a sitting each; the engine as it serves tells, where it was timed."""
    stated = {"step": 0.05, "attention": 0.04}
    hooked = {"coefficient_of_variation": stated}
    served = {"served_engine": {"coefficient_of_variation": {"step": 0.02}}}

    def shares(name: str, repeatability: object) -> dict[str, float | None]:
        bundle = make_bundle(tmp_path / name, meta={"repeatability": repeatability})
        return {source.name: source.share for source in sources_of(bundle, ENGINE, "engine")}

    assert shares("hooked", hooked)["device"] == pytest.approx(0.05 * 2**0.5)
    assert shares("served", {**hooked, **served})["device"] == pytest.approx(0.02 * 2**0.5)
    assert shares("steady", {"coefficient_of_variation": {"step": 0.001}})["device"] == 0.01
    assert shares("none", None)["device"] == 0.01
    assert shares("attention", hooked)["attn_decode"] == pytest.approx(0.04, abs=0.01)


def test_a_fleet_has_intervals_of_its_own(tmp_path: Path, workload: Workload) -> None:
    bundle = make_bundle(tmp_path / "b")
    one = inputs_of(bundle, workload)
    two = replace(one, params={"replicas": "2", "router": "least_outstanding"})
    figure = {n: predict(each, 5).metrics["ttft"]["mean"] for n, each in ((1, one), (2, two))}
    assert figure[2][0] < figure[1][0]
    assert figure[2][1] < figure[2][0] < figure[2][2]
    out = tmp_path / "run"
    builtin_registry().simulators.get("reference")(replace(two, out_dir=out))
    assert read_run(out).finished["ttft_ns"].mean() == pytest.approx(figure[2][0])


def test_what_was_fitted_together_is_drawn_together(tmp_path: Path) -> None:
    """An engine time that is longer goes with kernels that are shorter: their sum is known."""
    time = {"name": "engine_time", "time_ns": 2 * MS, "low_ns": MS, "high_ns": 3 * MS}
    widths, correlation = (0.5 * MS, 0.01), -0.95
    covariance = [
        [widths[0] ** 2, correlation * widths[0] * widths[1]],
        [correlation * widths[0] * widths[1], widths[1] ** 2],
    ]
    joint = {
        "names": ["engine_time", "profile"],
        "mean": [2.0 * MS, 0.02],
        "covariance": covariance,
    }
    calibration = {"parameters": [time], "profile_bias": 0.03, "joint": joint}
    bundle = make_bundle(
        tmp_path / "b", overhead=False, meta={"calibration": calibration}
    ).with_engine_time(2 * MS)
    sources = sources_of(bundle, ENGINE, "engine")
    known = {source.name: source for source in sources}
    assert known["load"].share == pytest.approx(0.03 / 2**0.5)
    assert "device" not in known
    pair = [known["engine_time"], known["profile"]]
    rng, times, factors = random.Random(3), [], []
    for _ in range(300):
        drawn = drawn_bundle(bundle, pair, rng)
        assert drawn.overhead is not None
        times.append(float(drawn.overhead["time_ns"].iloc[0]))
        column = time_column("mlp_up_proj")
        factors.append(float(drawn.mlp[column].iloc[0] / bundle.mlp[column].iloc[0]))
    assert statistics.correlation(times, factors) == pytest.approx(correlation, abs=0.02)
    assert statistics.stdev(times) == pytest.approx(widths[0], rel=0.15)
    assert statistics.fmean(factors) == pytest.approx(1.02, abs=0.003)


@pytest.mark.parametrize(
    ("samples", "params", "words"),
    [
        (2, {}, "at least 5"),
        (8, {"scheduler": "sarathi"}, "scheduler=vllm"),
        (8, {"predictor": "random_forest"}, "predictor=profile"),
    ],
)
def test_what_has_no_interval_is_refused(
    tmp_path: Path, workload: Workload, samples: int, params: dict[str, str], words: str
) -> None:
    bundle = make_bundle(tmp_path / "b")
    inputs = SimulationInputs(TINY, CPU, workload, bundle, ENGINE, Path(), params)
    with pytest.raises(UsageError, match=words):
        predict(inputs, samples)


def test_the_command(
    tmp_path: Path, workload: Workload, capsys: pytest.CaptureFixture[str]
) -> None:
    make_bundle(tmp_path / "b")
    words = ["simulate", "--model", TINY.name, "--hardware", "cpu", "--simulator", "reference"]
    words += ["--workload", str(workload.path), "--profile", str(tmp_path / "b"), "--samples", "6"]
    assert main(["-p", "tests.toyplugin", *words, "--out", str(tmp_path / "run")]) == 0
    document = json.loads((tmp_path / "run" / PREDICTION).read_text())
    assert document["level"] == 0.9
    figure = document["metrics"]["ttft"]["p50"]
    assert figure["low_ns"] < figure["ns"] < figure["high_ns"]
    assert {source["name"] for source in document["sources"]} >= {"device", "attn_decode"}
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == str(tmp_path / "run")
    shown: Callable[[Any], Any] = prediction_lines
    assert lines[:-1] == list(shown(document))


def test_a_comparison_shows_whether_the_real_figures_lie_inside(
    tmp_path: Path, workload: Workload
) -> None:
    bundle = make_bundle(tmp_path / "b")
    runs = []
    for name, made in (("sim", bundle), ("real", bundle.with_engine_time(3 * MS))):
        inputs = SimulationInputs(TINY, CPU, workload, made, ENGINE, tmp_path / name)
        builtin_registry().simulators.get("reference")(inputs)
        runs.append(read_run(tmp_path / name))
    predict(inputs_of(bundle, workload), 6).write(tmp_path / "sim")
    attribution = compare_runs([runs[1]], runs[0]).attribution
    shown = {
        (r["metric"], r["statistic"]): r["inside"] for r in attribution["prediction"]["figures"]
    }
    assert not shown["tpot", "p50"]
    same = compare_runs([runs[0]], runs[0]).attribution["prediction"]["figures"]
    assert all(row["inside"] for row in same)
    (table,) = (t for t in attribution_tables(attribution) if t.title.startswith("Predicted"))
    assert table.rows[0][-1] == "outside"
    path = tmp_path / "sim" / PREDICTION
    document = json.loads(path.read_text())
    tpot = document["metrics"]["tpot"]
    document["metrics"] = {"tpot": tpot, "ttft": {"p5": tpot["p50"]}, "speed": tpot}
    path.write_text(json.dumps(document))
    known = compare_runs([runs[1]], read_run(tmp_path / "sim")).attribution["prediction"]["figures"]
    assert {row["metric"] for row in known} == {"tpot"}


def test_too_few_samples_are_refused_before_anything_is_simulated(
    tmp_path: Path, workload: Workload, capsys: pytest.CaptureFixture[str]
) -> None:
    make_bundle(tmp_path / "b")
    words = ["simulate", "--model", TINY.name, "--hardware", "cpu", "--simulator", "reference"]
    words += ["--workload", str(workload.path), "--profile", str(tmp_path / "b"), "--samples", "3"]
    assert main(["-p", "tests.toyplugin", *words, "--out", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err == "gpusim: --samples 3: expected at least 5\n"
    assert not (tmp_path / "run").exists()
