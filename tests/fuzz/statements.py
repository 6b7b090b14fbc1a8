"""Readers of what people state in files of their own: grids, decisions, tolerances, histories."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pytest_gpusim.deployment import EngineSettings
from pytest_gpusim.registry import Registry, builtin_registry
from pytest_gpusim.runs import read_run
from tests.factories import CPU, ENGINE, TINY, make_bundle, make_workload
from tests.fuzz.carried import show, simulate
from tests.fuzz.readers import RECORDING, Reader


def statement_readers(scratch: Path) -> Iterator[Reader]:
    """The readers; their seeds are made in ``scratch``."""
    place = scratch / "decision"
    _make_runs(place)
    registry = _registry()
    yield Reader("decision", [place], _decision, changed="decision.toml")
    yield Reader("decision's runs", [place], _decision, changed="run_meta.json")
    sides = scratch / "sides"
    for side in ("real", "simulated"):
        shutil.copytree(place / f"{side}-16-9.5", sides / side)
    add_prediction(sides / "simulated")
    yield Reader("compared run", [sides], _compared, share=5)
    yield Reader("its metadata", [sides], _compared, changed="run_meta.json", share=5)
    profile = place / "bundle"
    yield Reader("bundle's metadata", [profile], _profile, changed="profile_meta.json", share=2)
    grid = scratch / "grid"
    grid.mkdir()
    shutil.copytree(place / "bundle", grid / "bundle")
    (grid / "lengths.csv").write_text("num_prefill_tokens,num_decode_tokens\n5,6\n7,8\n")
    (grid / "grid.toml").write_text(
        'model = "tiny/model"\nhardware = "cpu"\nprofile = "bundle"\n'
        'simulator = ["reference"]\nclock = "engine"\n'
        '[load]\narrivals = "poisson"\nrequests = 2\nrate = [2, 4.5]\nseed = [0]\n'
        'prefill = "16:32"\ndecode = 8\nlengths_from = "lengths.csv"\n'
        "[engine]\nmax_num_seqs = [64, 128]\n[params]\nreplicas = 2\n"
    )
    yield Reader("grid", [grid], lambda path, out: _grid(registry, path, out), changed="*.toml")
    yield Reader("lengths", [grid], lambda path, out: _grid(registry, path, out), changed="l*.csv")
    tolerances = scratch / "tolerances.toml"
    tolerances.write_text(
        '[tolerances]\nttft_p50 = 0.10\ntpot_p90 = { rel = 0.1, abs = "2ms" }\ne2e_p50 = "5%"\n'
    )
    yield Reader("tolerances", [tolerances], _tolerances)
    history = scratch / "history"
    _make_history(history)
    yield Reader("history", [history], _history)


def _registry() -> Registry:
    registry = builtin_registry()
    registry.add_model(TINY)
    return registry


def _make_runs(place: Path) -> None:
    """Real and simulated runs of two settings at two loads, and the file that decides by them."""
    from pytest_gpusim.planning.point import Point, run_point

    bundle = make_bundle(place / "bundle")
    text = (
        'slo = "ttft_p90=3ms,tpot_p90=40ms"\nshare = 0.9\nobjective = ["e2e_p90", "goodput"]\n'
        'accept = ["warmed_up"]\n[state]\nclock = "engine"\n'
    )
    for seats in (1, 16):
        for load, gap in ((2.0, 500_000_000), (9.5, 100_000_000)):
            rows = [(16 + number, 3, number * gap) for number in range(4)]
            workload = make_workload(place / f"workload-{seats}-{load}", rows)
            engine = replace(ENGINE, max_num_seqs=seats)
            point = Point.of("reference", TINY, CPU, workload, bundle, engine, {})
            text += f'[[point]]\nsetting = "{seats} seats"\nload = {load}\n'
            for side in ("real", "simulated"):
                name = f"{side}-{seats}-{load:g}"
                assert not run_point(point, _registry(), place / name)
                text += f'{side} = ["{name}"]\n'
                if side == "real":
                    _say_measured(place / name)
            text += 'state = {"engine.block_size" = 16}\n'
    (place / "decision.toml").write_text(text)


def _say_measured(run: Path) -> None:
    from tests.planning.test_decision_file import say_measured

    say_measured(run)


def _make_history(place: Path) -> None:
    from pytest_gpusim.history import Entry

    place.mkdir()
    for session in ("a", "b"):
        lines = []
        for figure in ("ttft_p50", "tpot_p50"):
            entry = Entry(
                case="case", test="t.py::test", session=session, time=f"2026-01-0{session}",
                commit=session, device="device", engine="0.32.0 eager", simulator="vidur",
                workload_digest="w", profiling_digest="p", figure=figure, outcome="pass",
                verdict="pass", num_runs=3, mean=1.0, run_sd=0.01, offset=0.02, low=0.01,
                high=0.03, run_digests=(f"r{session}", "q"),
            )  # fmt: skip
            lines.append(json.dumps(entry.to_json()))
        (place / f"{session}.jsonl").write_text("\n".join(lines) + "\n")


def add_prediction(run: Path) -> None:
    """As a simulation has that was predicted with an interval."""
    figure = {"ns": 5, "low_ns": 4, "high_ns": 6}
    metrics = {"ttft": {"p50": figure, "mean": figure}, "tpot": {"p50": figure}}
    document = {"schema_version": 1, "metrics": metrics, "level": 0.9, "samples": 20, "sources": []}
    (run / "prediction.json").write_text(json.dumps(document))


def _compared(path: Path, out: Path) -> None:
    real, sim = read_run(path / "real"), read_run(path / "simulated")
    show(real, sim, out)


def _profile(path: Path, out: Path) -> None:
    from pytest_gpusim.bundle import read_bundle

    bundle = read_bundle(path)
    workload = make_workload(out / "workload", [(16, 3, 0), (20, 2, 5_000_000)])
    simulate(bundle, workload, EngineSettings(), out)
    run = read_run(out / "simulated")
    show(run, run, out)


def _decision(path: Path, out: Path) -> None:
    from pytest_gpusim.planning.decided import document_of, lines_of
    from pytest_gpusim.planning.decision_file import read_question

    question = read_question(path / "decision.toml", _registry(), out)
    decisions = question.decisions()
    for line in lines_of(question, decisions):
        line.encode()
    json.dumps(document_of(question, decisions), allow_nan=False)


def _grid(registry: Registry, path: Path, out: Path) -> None:
    from pytest_gpusim.planning.grid import read_grid
    from pytest_gpusim.planning.sweep import run_sweep

    grid = read_grid(path / "grid.toml")
    run_sweep(grid, registry, out / "sweep", lambda todo, runs: iter(()))


def _tolerances(path: Path, out: Path) -> None:
    from pytest_gpusim.report.tolerance_file import read_tolerance_file

    read_tolerance_file(path)


def _history(path: Path, out: Path) -> None:
    from pytest_gpusim.history import History
    from pytest_gpusim.history.show import alarm_lines, case_lines, overview_lines
    from pytest_gpusim.runs import read_run

    entries = History.read(path).entries
    for case in {entry.case for entry in entries}:
        case_lines([entry for entry in entries if entry.case == case], [])
    overview_lines(entries)
    alarm_lines(entries)
    if random.random() < 0.2:
        History.read(path).spreads([read_run(RECORDING / "real" / "1")])
