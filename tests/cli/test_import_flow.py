"""From another tool's result to a comparison and a recording, by commands alone."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from pytest_gpusim.cli import main
from pytest_gpusim.providers import SimulationInputs
from pytest_gpusim.runs import read_run
from pytest_gpusim.simulators.reference import simulate
from pytest_gpusim.workload import read_workload
from tests.case.bench import write_bench
from tests.case.recording import REQUESTS, write_slowed
from tests.factories import CPU, ENGINE, TINY, make_bundle, make_workload

DEVICE = "Synthetic processor, 2 cores"


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """A profile, a workload, and what ``vllm bench serve`` would write of its simulation."""
    root = tmp_path_factory.mktemp("flow")
    bundle = make_bundle(root / "profile")
    workload = make_workload(root / "workload", REQUESTS)
    simulate(SimulationInputs(TINY, CPU, workload, bundle, ENGINE, root / "simulated", {}))
    write_slowed(read_run(root / "simulated"), root / "slowed", 1.01, workload)
    run = read_run(root / "slowed")
    write_bench(run, root / "result.json", TINY.name)
    (root / "engine.json").write_text(json.dumps(ENGINE.to_json()))
    return root


@pytest.fixture
def gpusim(capsys, tmp_path, monkeypatch):
    """Run a command in a fresh directory; returns the lines that it prints."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments, code=0):
        found = main(["-p", "tests.toyplugin", *map(str, arguments)])
        out, err = capsys.readouterr()
        assert found == code, (out, err)
        return out.splitlines()

    return run


def simulate_like(gpusim, material, workload, engine):
    return gpusim(
        "simulate", "--model", TINY.name, "--hardware", "cpu", "--workload", workload,
        "--profiling-root", material / "profile", "--engine", engine,
        "--simulator", "reference", "--out", "sim",
    )[-1]  # fmt: skip


def compared(gpusim, real, sim):
    """Compare, judge: one run, whose spread nobody knows, decides nothing, and says so."""
    # The client's share is part of its times, and no profile here knows it.
    assert "verdict: fail" in gpusim("compare", real, sim, code=1)
    compare = ("compare", real, sim, "--accept", "clock_counted")
    assert "verdict: not judged (clock_counted accepted)" in gpusim(*compare)
    lines = gpusim(*compare, "--check", "ttft_p50=0.02,tpot_p50=0.02", code=1)
    assert "verdict: inconclusive (clock_counted accepted)" in lines
    (ttft,) = (line for line in lines if line.startswith("  ttft_p50: "))
    assert "one real run, whose spread is not known: measure 5" in ttft
    assert abs(float(re.search(r"error ([+-][\d.]+)%", ttft)[1])) < 5


def test_a_result_is_compared_without_a_word_about_it(gpusim, material):
    result = material / "result.json"
    made = gpusim("workload", "import", "run", result)
    assert made[0].startswith("run: tmp/real_runs/result-")
    sim = simulate_like(gpusim, material, made[-1], material / "engine.json")
    for real in (result, made[0].removeprefix("run: ")):
        compared(gpusim, real, sim)


def test_a_result_with_what_is_known_of_it_is_recorded(gpusim, material):
    document = json.loads((material / "result.json").read_text())
    Path("result.json").write_text(json.dumps({**document, "model_id": "/checkpoints/Model"}))
    printed = gpusim(
        "import-run", "vllm-bench", "result.json", "--model", TINY.name,
        "--hardware", "cpu", "--device-name", DEVICE, "--workload", material / "workload",
        "--engine", material / "engine.json", "--out", "real",
    )  # fmt: skip
    assert printed == [
        "arrivals are the workload's; requests were released up to 0.02 ms later",
        "real",
    ]
    run, workload = read_run("real"), read_workload(material / "workload")
    assert run.meta["model"] == TINY.name
    assert (run.meta["hardware"], run.meta["device_name"]) == ("cpu", DEVICE)
    assert run.meta["engine"] == ENGINE.to_json()
    assert run.meta["workload_digest"] == workload.digest
    stated = run.meta["params"]["import"]
    assert stated["stated"] == [
        "device_name", "engine", "hardware", "model", "workload_digest", "workload_dir",
    ]  # fmt: skip
    assert not {"engine settings", "hardware"} & set(stated["not_recovered"])
    arrivals = [request.arrival_time_ns for request in workload.requests]
    assert run.requests["arrival_time_ns"].tolist() == arrivals
    late = run.requests["sent_time_ns"] - run.requests["arrival_time_ns"]
    assert late.tolist() == pytest.approx([0, 20_000] * 12, abs=10)

    sim = simulate_like(gpusim, material, material / "workload", "real")
    compared(gpusim, "real", sim)
    gpusim(
        "record", "--workload", material / "workload", "--profile", material / "profile",
        "real", "--out", "recorded",
    )  # fmt: skip
    recording = json.loads(Path("recorded/recording.json").read_text())
    assert recording["device_name"] == DEVICE
