"""The Chrome trace: every event closed, in microseconds, both sides from their first arrival."""

from __future__ import annotations

import gzip
import json
from collections import Counter

import pytest

from pytest_gpusim.cli import main
from pytest_gpusim.providers import SimulationInputs
from pytest_gpusim.simulators.reference import simulate
from tests.case.recording import REQUESTS
from tests.factories import CPU, ENGINE, TINY, make_bundle, make_workload


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("timeline")
    bundle, workload = make_bundle(root / "profile"), make_workload(root / "workload", REQUESTS)
    simulate(SimulationInputs(TINY, CPU, workload, bundle, ENGINE, root / "run", {}))
    return root / "run"


def test_two_runs_are_two_processes_on_one_axis(run, tmp_path, capsys):
    out = tmp_path / "trace.json"
    assert main(["timeline", str(run), str(run), "--out", str(out)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(out)
    events = json.loads(out.read_text())["traceEvents"]
    assert {event["pid"] for event in events} == {1, 2}
    kinds = Counter(event["ph"] for event in events)
    assert kinds["b"] == kinds["e"] > 2 * len(REQUESTS)
    whole = [event for event in events if event["name"] == "request 0"]
    assert whole[0]["ts"] == 0
    assert kinds["X"] > len(REQUESTS)
    assert min(event["ts"] for event in events if "ts" in event) == 0
    first = next(event for event in events if event["ph"] == "X")
    assert first["args"]["duration_ns"] / 1000 == first["dur"]
    assert {event["name"] for event in events if event["ph"] == "C"} >= {"queue", "batch"}


def test_it_may_be_compressed_and_replaces_nothing(run, tmp_path, capsys):
    out = tmp_path / "trace.json.gz"
    assert main(["timeline", str(run), "--out", str(out)]) == 0
    assert json.loads(gzip.decompress(out.read_bytes()))["displayTimeUnit"] == "ms"
    assert main(["timeline", str(run), "--out", str(out)]) == 2
    assert "exists; name another file" in capsys.readouterr().err
