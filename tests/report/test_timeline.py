"""The Chrome trace: every event closed, in microseconds, both sides from their first arrival."""

from __future__ import annotations

import gzip
import json
from bisect import bisect_right
from collections import Counter, defaultdict
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.cases import RECORDINGS
from pytest_gpusim.cli import main
from pytest_gpusim.providers import SimulationInputs
from pytest_gpusim.report.timeline import microseconds, write_timeline
from pytest_gpusim.runs import read_run
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
    steps = [event for event in events if event["ph"] == "X" and event["pid"] == 1]
    took = read_run(run).steps["duration_ns"].tolist()
    assert [int(1000.0 * event["dur"]) for event in steps] == took
    assert {event["name"] for event in events if event["ph"] == "C"} >= {"queue", "batch"}


def test_it_may_be_compressed_and_replaces_nothing(run, tmp_path, capsys):
    out = tmp_path / "trace.json.gz"
    assert main(["timeline", str(run), "--out", str(out)]) == 0
    assert json.loads(gzip.decompress(out.read_bytes()))["displayTimeUnit"] == "ms"
    assert main(["timeline", str(run), "--out", str(out)]) == 2
    assert "exists; name another file" in capsys.readouterr().err


def rules_of_perfetto(events):
    """What its importer, and the format's own text, ask of events; see `timeline`'s docstring."""
    threads, open_spans, ends = {}, defaultdict(list), {}
    timed = [event for event in events if event["ph"] != "M"]
    # It sorts by time; events of one time stay in their order.
    for event in sorted(timed, key=lambda event: event["ts"]):
        assert isinstance(event["ts"], int | float)
        assert event["ts"] >= 0
        assert isinstance(event["pid"], int)
        kind = event["ph"]
        if "tid" in event:
            assert threads.setdefault(event["tid"], event["pid"]) == event["pid"]
        if kind == "X":
            start, took = int(event["ts"] * 1000.0), int(event["dur"] * 1000.0)
            assert took >= 0
            assert ends.get(event["tid"], 0) <= start, "overlaps: it would be dropped"
            ends[event["tid"]] = start + took
        elif kind == "C":
            assert all(isinstance(value, int | float) for value in event["args"].values())
        elif kind == "i":
            assert event["s"] in ("g", "p", "t")
        else:
            assert kind in ("b", "e")
            assert "id" not in event  # would be one of all processes
            spans = open_spans[event["pid"], event["cat"], event["id2"]["local"]]
            if kind == "b":
                spans.append(event["name"])
            else:
                assert spans.pop() == event["name"]  # the innermost ends first
    assert not any(open_spans.values())
    named = {event["tid"]: event["args"]["name"] for event in events if event["ph"] == "M"}
    assert set(threads) <= set(named)
    assert all(named.values())


def events_of(runs, out):
    write_timeline(runs, out)
    events = json.loads(out.read_text())["traceEvents"]
    rules_of_perfetto(events)
    return events


@pytest.mark.parametrize("name", ["closed-c8-208", "burst"])
def test_perfetto_takes_all_of_a_real_run_and_a_simulation(run, tmp_path, name):
    real = read_run(RECORDINGS / f"qwen3-0.6b-cpu-{name}" / "real" / "1")
    events = events_of([real, read_run(run)], tmp_path / "trace.json")
    assert Counter(event["pid"] for event in events if event["ph"] == "X") == {
        1: len(real.steps), 2: len(read_run(run).steps),
    }  # fmt: skip


def test_counters_stand_until_they_change(run, tmp_path):
    steps = read_run(run).steps
    events = events_of([read_run(run)], tmp_path / "trace.json")
    columns = {"queue": "waiting", "batch": "num_sequences", "KV cache": "kv_blocks_used"}
    for name, column in columns.items():
        found = [event for event in events if event["name"] == name]
        assert len(found) < len(steps)
        at = [int(1000.0 * event["ts"]) for event in found]
        starts = steps["start_ns"] - steps["start_ns"].min()
        values = [value for event in found for value in event["args"].values()]
        stands = [values[bisect_right(at, start) - 1] for start in starts + at[0]]
        assert stands == steps[column].tolist()


@given(shift=st.lists(st.integers(-(10**9), 10**9), min_size=len(REQUESTS), max_size=len(REQUESTS)))
@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
def test_spans_nest_whatever_another_clock_said_of_their_starts(run, tmp_path_factory, shift):
    usual = read_run(run)
    requests = usual.requests.copy()
    requests["scheduled_time_ns"] += shift
    moved = replace(usual, requests=requests)
    events_of([moved, usual], tmp_path_factory.mktemp("moved") / "trace.json")


def test_steps_that_overlap_or_begin_early_are_kept(run, tmp_path):
    usual = read_run(run)
    steps = usual.steps.copy()
    steps["duration_ns"] *= 3  # as those of a fleet's replicas
    steps["start_ns"] -= 5_000_000
    events = events_of([usual, replace(usual, steps=steps)], tmp_path / "trace.json")
    first = {event["pid"]: event["ts"] for event in reversed(events) if event["ph"] == "b"}
    assert first[1] == first[2] == 5000
    kinds = Counter(event["pid"] for event in events if event["ph"] == "X")
    assert kinds[1] == kinds[2] == len(steps)
    rows = {event["args"]["name"] for event in events if event["name"] == "thread_name"}
    assert {"requests", "steps", "steps 2", "steps 3"} <= rows


@pytest.mark.parametrize("ns", [0, 1, 1_001, 4_097_003, 1_234_567_891_011, 123_456_789_012_347])
def test_no_nanosecond_is_lost(ns):
    assert int(microseconds(ns) * 1000.0) == ns
