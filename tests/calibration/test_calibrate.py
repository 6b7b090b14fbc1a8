"""Calibration on runs whose engine time and front end are known, because they were made up."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pytest_gpusim.bundle import Bundle, read_bundle
from pytest_gpusim.bundle_checks.biases import biases_of, step_time_bias
from pytest_gpusim.calibration import Calibration, calibrate
from pytest_gpusim.calibration.evidence import Evidence
from pytest_gpusim.calibration.resimulation import Resimulation
from pytest_gpusim.cli import main
from pytest_gpusim.compare import compare_runs
from pytest_gpusim.errors import InputError, UsageError
from pytest_gpusim.json_documents import read_json, write_json
from pytest_gpusim.providers import SimulationInputs
from pytest_gpusim.registry import builtin_registry
from pytest_gpusim.runs import Clock, Run, read_run
from pytest_gpusim.runs.identity import requests_digest
from tests.factories import CPU, ENGINE, TINY, make_bundle, make_workload

MS = 1_000_000
REGISTRY = builtin_registry()
REGISTRY.add_model(TINY)
ENGINE_TIME, INGRESS = 2 * MS, 6 * MS
Rows = list[tuple[int, int, int]]


def poisson(number: int = 60, seed: int = 1, tokens: int = 16, gap: int = 60 * MS) -> Rows:
    """(prompt tokens, output tokens, arrival) at a rate below what the engine can serve."""
    draw, now, rows = random.Random(seed), 0, []
    for _ in range(number):
        rows.append((draw.randint(20, 90), tokens, now))
        now += round(draw.expovariate(1 / gap))
    return rows


def real_run(
    path: Path, rows: Rows, *, clock: Clock = "client", shift: int = 0, engine_time: int = 0
) -> Run:
    """A run of an engine with the engine time and the front end that are to be found."""
    front_end = pd.DataFrame(
        {"boundary": ["ingress"], "num_prompt_tokens": [0], "time_ns": [INGRESS]}
    )
    bundle = make_bundle(
        path / "b", overhead=False, tables={"frontend.csv": front_end}
    ).with_engine_time(engine_time or ENGINE_TIME)
    workload = make_workload(path / "w", [(p, d, t + shift * (t > 0)) for p, d, t in rows])
    inputs = SimulationInputs(TINY, CPU, workload, bundle, ENGINE, path / "run", {}, clock)
    REGISTRY.simulators.get("reference")(inputs)
    meta = read_json(path / "run" / "run_meta.json")
    dropped = ("profile", "frontend", "operator_shares", "workload_digest", "workload_dir")
    meta = {key: value for key, value in meta.items() if key not in dropped}
    write_json(path / "run" / "run_meta.json", {**meta, "run_type": "real"})
    return read_run(path / "run")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("profile") / "b", overhead=False)


def run_calibrate(runs: list[Run], bundle: Bundle, place: Path) -> Calibration:
    return calibrate(runs, bundle, REGISTRY, place / "out", artifacts=place / "tmp")


def test_known_parameters_are_found(tmp_path: Path, bundle: Bundle) -> None:
    runs = [real_run(tmp_path / str(n), poisson(seed=n)) for n in (1, 2)]
    found = run_calibrate(runs, bundle, tmp_path)
    for name, truth in (("engine_time", ENGINE_TIME), ("front_end", INGRESS)):
        fitted = next(f for f in found.fitted if f.parameter.name == name)
        assert fitted.value_ns == pytest.approx(truth, rel=0.03)
        assert fitted.low_ns <= truth <= fitted.high_ns
    errors = [abs(e) for each in found.residuals for m in each.values() for e in m.values()]
    assert max(errors) < 0.02
    made = read_bundle(tmp_path / "out")
    assert made.frontend is not None
    assert made.frontend["time_ns"].tolist() == [pytest.approx(INGRESS, rel=0.03)]
    assert made.overhead is not None
    assert made.overhead["time_ns"].nunique() == 1
    assert {requests_digest(run) for run in runs} <= set(made.meta["calibrated_on"])
    assert [p["name"] for p in made.meta["calibration"]["parameters"]] == [
        "engine_time",
        "front_end",
    ]
    assert made.meta["uncalibrated_digest"] == bundle.digest
    joint = made.meta["calibration"]["joint"]
    assert joint["names"] == ["engine_time", "front_end", "profile"]
    assert joint["mean"][2] == pytest.approx(0, abs=0.01)
    for place, fitted in enumerate(found.fitted):
        width = (fitted.high_ns - fitted.low_ns) / 2 / 1.645
        assert joint["covariance"][place][place] ** 0.5 == pytest.approx(width, rel=0.01)
    assert joint["covariance"][0][2] < 0
    assert joint["covariance"][0][0] > (0.01 * MS) ** 2


def test_simulations_lie_apart(tmp_path: Path, bundle: Bundle) -> None:
    """Two schedules that differ by next to nothing differ by chance."""
    workload = make_workload(tmp_path / "w", poisson(20))
    inputs = SimulationInputs(TINY, CPU, workload, bundle, ENGINE, tmp_path / "run", {}, "engine")
    resimulation = Resimulation(Evidence((), inputs, {}), measured=False)
    for time in (0, 3 * MS, 1 * MS, 1.2 * MS):
        resimulation.simulate(time, MS / 2)
    known = [resimulation.figures(time, 0)["tpot"]["mean"] for time in (MS, 1.2 * MS, 3 * MS)]
    assert known[1] == pytest.approx(known[0] + 0.1 * (known[2] - known[0]))


def test_repeats_of_a_workload_count_as_one(tmp_path: Path, bundle: Bundle) -> None:
    rows = poisson()
    runs = [real_run(tmp_path / str(n), rows, shift=n * 100_000) for n in (1, 2)]
    found = run_calibrate(runs, bundle, tmp_path)
    assert len(found.residuals) == 1
    assert len(found.runs[0]) == 2


def test_a_calibrated_bundle_is_not_judged_on_its_own_workload(
    tmp_path: Path, bundle: Bundle
) -> None:
    rows = poisson()
    fitted_on = real_run(tmp_path / "1", rows)
    run_calibrate([fitted_on], bundle, tmp_path)
    made = read_bundle(tmp_path / "out")
    repeat = real_run(tmp_path / "2", rows, shift=100_000)
    other = real_run(tmp_path / "3", poisson(seed=9))

    def status(real: Run, place: str) -> str:
        workload = make_workload(tmp_path / place, rows if real is repeat else poisson(seed=9))
        out = tmp_path / f"sim-{place}"
        inputs = SimulationInputs(TINY, CPU, workload, made, ENGINE, out, {}, "client")
        REGISTRY.simulators.get("reference")(inputs)
        checks = compare_runs([real], read_run(out)).checks
        return {check.name: check.status for check in checks}["not_calibrated_on"]

    assert status(repeat, "a") == "fail"
    assert status(other, "b") == "pass"


def refused(tmp_path: Path, runs: list[Run], bundle: Bundle, words: str) -> None:
    with pytest.raises((UsageError, InputError), match=words):
        run_calibrate(runs, bundle, tmp_path)
    assert not (tmp_path / "out").exists()


def test_one_token_answers_do_not_tell(tmp_path: Path, bundle: Bundle) -> None:
    run = real_run(tmp_path / "1", poisson(tokens=1))
    refused(tmp_path, [run], bundle, "answers of one token only.*16 tokens and more")


def test_a_saturated_engine_does_not_tell(tmp_path: Path, bundle: Bundle) -> None:
    run = real_run(tmp_path / "1", poisson(300, tokens=16, gap=2 * MS), engine_time=100_000)
    refused(tmp_path, [run], bundle, "lower rate")


def test_few_requests_do_not_tell(tmp_path: Path, bundle: Bundle) -> None:
    run = real_run(tmp_path / "1", poisson(8))
    refused(tmp_path, [run], bundle, "8 finished requests tell too little")


def test_an_engines_clock_does_not_tell_the_front_end(tmp_path: Path) -> None:
    run = real_run(tmp_path / "1", poisson(), clock="engine")
    refused(tmp_path, [run], make_bundle(tmp_path / "measured"), "times taken by a client")


def test_another_deployment_is_refused(tmp_path: Path) -> None:
    run = real_run(tmp_path / "1", poisson())
    other = make_bundle(tmp_path / "other", overhead=False, meta={"engine_mode": "compiled"})
    refused(tmp_path, [run], other, "engine_mode")


def test_a_measured_engine_time_stays(tmp_path: Path) -> None:
    measured = make_bundle(tmp_path / "measured")
    run = real_run(tmp_path / "1", poisson())
    found = run_calibrate([run], measured, tmp_path)
    assert [each.parameter.name for each in found.fitted] == ["front_end"]
    made = read_bundle(tmp_path / "out")
    assert made.overhead is not None
    assert made.overhead.equals(measured.overhead)


def both(run: Run) -> Run:
    """The run of a server that tells its engine's times, too: what a client has less of INGRESS.

    The wait for a running step is not in them: vLLM stamps a request when the step has ended.
    """
    path = run.path / "request_metrics.csv"
    rows = pd.read_csv(path)
    rows["engine_queue_ns"] = 0
    rows["engine_prefill_ns"] = rows["first_token_time_ns"] - rows["sent_time_ns"] - INGRESS
    busy = rows["completion_time_ns"].cummax().shift(fill_value=0) > rows["sent_time_ns"]
    rows.loc[busy, "engine_prefill_ns"] -= MS
    rows["engine_decode_ns"] = rows["completion_time_ns"] - rows["first_token_time_ns"]
    rows.to_csv(path, index=False)
    return read_run(run.path)


def test_by_both_clocks_the_front_end_is_measured(tmp_path: Path, bundle: Bundle) -> None:
    run = both(real_run(tmp_path / "1", poisson(gap=150 * MS)))
    found = run_calibrate([run], bundle, tmp_path)
    values = {each.parameter.name: each for each in found.fitted}
    assert values["engine_time"].value_ns == pytest.approx(ENGINE_TIME, rel=0.03)
    measured = values["front_end"]
    assert measured.low_ns == measured.value_ns == measured.high_ns == INGRESS
    assert "both clocks" in str(measured)
    made = read_bundle(tmp_path / "out")
    assert made.frontend is not None
    assert set(made.frontend["time_ns"]) == {INGRESS}
    assert made.frontend["num_prompt_tokens"].is_monotonic_increasing
    assert requests_digest(run) in made.meta["calibrated_on"]


def test_with_a_measured_engine_time_nothing_is_left_to_fit(tmp_path: Path) -> None:
    run = both(real_run(tmp_path / "1", poisson(gap=150 * MS)))
    found = run_calibrate([run], make_bundle(tmp_path / "measured"), tmp_path)
    assert [each.parameter.name for each in found.fitted] == ["front_end"]
    assert set(found.residuals[0]) == {"ttft", "tpot"}


def test_requests_that_always_meet_a_busy_engine_tell_no_front_end(
    tmp_path: Path, bundle: Bundle
) -> None:
    run = both(real_run(tmp_path / "1", poisson(60, tokens=60, gap=20 * MS)))
    refused(tmp_path, [run], bundle, "met an idle engine.*lower rate")


def test_the_command(tmp_path: Path, bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    run = real_run(tmp_path / "1", poisson())
    out = tmp_path / "calibrated"
    words: list[Any] = ["calibrate", run.path, "--profile", bundle.path, "--out", out]
    assert main(["-p", "tests.toyplugin", *map(str, words)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("engine time per iteration: 2")
    assert lines[-1] == str(out)
    assert main(["-p", "tests.toyplugin", *map(str, words)]) == 2  # it is there already


def test_biases_are_named(tmp_path: Path) -> None:
    tables = make_bundle(tmp_path / "b", meta={"source": "aiconfigurator"})
    newer = replace(ENGINE, engine_version="0.23.0")
    assert [b.name for b in biases_of(tables, newer)] == ["device", "composed", "other_release"]
    assert step_time_bias(tables, newer) == pytest.approx((1 + 4 + 4) ** 0.5 / 100)
