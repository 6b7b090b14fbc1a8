"""A history: what it stores, pools, and calls worse or lost."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.verdicts.synthetic import REAL, SIMULATED, load, make_run, noisy, serve
from pytest_gpusim.cli import main
from pytest_gpusim.compare import ComparisonDocument, compare_runs, document_of
from pytest_gpusim.errors import InputError, UsageError
from pytest_gpusim.history import Entry, History, find_alerts, lost_cases
from pytest_gpusim.history.alerts import is_worse
from pytest_gpusim.history.show import case_lines, draw_case, overview_lines

WORK = load(24, seed=2, utilisation=0.3)


def entry(number: int, error: float, *, half: float = 0.005, **fields: Any) -> Entry:
    """One session's entry of one case, some errors and commits later than the one before."""
    offset = math.log1p(error)
    made = Entry(
        case="case", test="test.py::test_case", session=f"s{number}", time=f"2026-01-{number:02}",
        commit=f"c{number}", device="device", engine="0.32.0 eager", simulator="vidur",
        workload_digest="w", profiling_digest="p", figure="ttft_p50", outcome="pass",
        verdict="pass", num_runs=3, mean=1.0, run_sd=0.01, offset=offset, low=offset - half,
        high=offset + half, run_digests=(f"r{number}",),
    )  # fmt: skip
    return replace(made, **fields)


def compared(seed: int, *, prefill: float = 1.0, runs: int = 3) -> ComparisonDocument:
    rng = np.random.default_rng(seed)
    real = [
        make_run(WORK, noisy(WORK, rng, sigma_run=0.01), REAL, name=f"real-{seed}-{k}")
        for k in range(runs)
    ]
    sim = make_run(WORK, serve(WORK, prefill=prefill), SIMULATED, name="sim")
    return document_of(compare_runs(real, sim, name="case").judged())


@pytest.mark.parametrize("name", ["../../evil", "/evil", "..", "a/b", "x\0y", "\x1b[2J", "e" * 400])
def test_a_history_is_filed_in_its_place(
    name: str, document: ComparisonDocument, tmp_path: Path
) -> None:
    """Names of cases, tests and devices are data in its files, and never a path."""
    meta = {**document.meta, "case": name, "device_name": name, "simulator": name}
    place = tmp_path / "deep" / "history"
    made = History(place, ()).append([replace(document, meta=meta)], [name])
    assert History.read(place).entries == tuple(sorted(made, key=lambda one: one.figure))
    assert {one.case for one in made} == {name}
    (file,) = place.iterdir()
    assert file.suffix == ".jsonl"
    assert [path.name for path in tmp_path.rglob("*")] == ["deep", "history", file.name]


@pytest.fixture(scope="module")
def document() -> ComparisonDocument:
    return compared(7)


def test_a_regression_is_found_and_the_baseline_stays_while_it_lasts() -> None:
    errors = [0.010, 0.012, 0.060, 0.062, 0.011]
    entries = [entry(number, error) for number, error in enumerate(errors, start=1)]
    alerts = find_alerts(entries)
    assert [alert.now.session for alert in alerts] == ["s3", "s4"]
    assert {alert.before.session for alert in alerts} == {"s2"}
    assert "ttft_p50 is off by +6.0%" in str(alerts[0])
    assert "it was +1.2%" in str(alerts[0])


@pytest.mark.parametrize(
    ("then", "now", "half", "worse"),
    [
        (0.010, 0.029, 0.001, False),  # 1.9 points
        (0.010, 0.031, 0.001, True),
        (0.300, 0.325, 0.001, False),  # 2.5 points, 8% of what it was
        (0.300, 0.340, 0.001, True),
        (0.010, 0.060, 0.030, False),  # the intervals overlap
        (0.060, 0.010, 0.001, False),  # it became better
        (0.030, -0.060, 0.001, True),
    ],
)
def test_what_is_worse(then: float, now: float, half: float, worse: bool) -> None:
    assert is_worse(entry(2, now, half=half), entry(1, then, half=half)) is worse


def test_many_small_steps_against_one_recording_are_no_way_around() -> None:
    creeping = [0.010, 0.022, 0.034, 0.046]
    same: dict[str, Any] = {"run_digests": ("r",), "half": 0.008}
    entries = [entry(number, error, **same) for number, error in enumerate(creeping, start=1)]
    assert [alert.now.session for alert in find_alerts(entries)] == ["s3", "s4"]
    # Against other runs each time it may be those: no two neighbours are apart.
    fresh = [entry(number, error, half=0.008) for number, error in enumerate(creeping, start=1)]
    assert find_alerts(fresh) == []


def test_one_run_without_a_spread_is_an_alert_only_against_itself() -> None:
    unknown: dict[str, Any] = {"low": None, "high": None, "run_sd": None, "num_runs": 1}
    assert find_alerts([entry(1, 0.01), entry(2, 0.5, **unknown)]) == []
    same = {**unknown, "run_digests": ("r",)}
    alerts = find_alerts([entry(1, 0.01, **same), entry(2, 0.09, **same), entry(3, 0.02, **same)])
    assert [alert.now.session for alert in alerts] == ["s2"]


@pytest.mark.parametrize("fault", ["copies", "another model"])
def test_no_spread_is_pooled_of_copies_or_of_another_model(tmp_path: Path, fault: str) -> None:
    rng = np.random.default_rng(5)
    real = [make_run(WORK, noisy(WORK, rng, sigma_run=0.01), REAL, name=f"r{k}") for k in range(3)]
    if fault == "copies":
        columns = ["first_token_time_ns", "completion_time_ns"]
        real = [
            replace(one, requests=one.requests.assign(**(one.requests[columns] + shift)))
            for one, shift in zip([real[0]] * 3, (0, 300, 900), strict=True)
        ]
    else:
        real = [replace(one, meta={**one.meta, "model": "another/model"}) for one in real]
    sim = make_run(WORK, serve(WORK), SIMULATED, name="sim")
    made = document_of(compare_runs(real, sim, name="case"))
    assert made.meta["estimates"]["ttft_p50"]["run_sd"] is not None
    History.read(tmp_path).append([made])
    fresh = [make_run(WORK, noisy(WORK, rng, sigma_run=0.01), REAL, name="fresh")]
    assert History.read(tmp_path).spreads(fresh) == {}


@pytest.mark.parametrize("key", ["workload_digest", "profiling_digest"])
def test_a_changed_workload_or_profile_starts_anew(key: str) -> None:
    anew = [entry(2, 0.2, **{key: "another"}), entry(3, 0.3, **{key: "another"})]
    assert [alert.now.session for alert in find_alerts([entry(1, 0.01), *anew])] == ["s3"]
    lines = case_lines([entry(1, 0.01), *anew])
    assert "another workload or profile: starts anew" in lines[2]
    assert lines[3].endswith("<- worse")


def test_a_lost_case_is_its_own_alarm_and_shards_count_together() -> None:
    both = [entry(1, 0.01), entry(1, 0.01, case="other", session="shard")]
    assert lost_cases(both) == []
    assert lost_cases([*both, entry(2, 0.01)]) == ["other"]
    together = [entry(2, 0.01), entry(2, 0.01, case="other", session="shard-2")]
    assert lost_cases([*both, *together]) == []


def test_files_are_appended_and_merge_by_being_put_together(tmp_path: Path) -> None:
    for seed in range(3):
        History.read(tmp_path / "a").append([compared(seed)], ["test.py::test_case"])
    History.read(tmp_path / "b").append([compared(9)])
    for path in (tmp_path / "b").iterdir():
        path.rename(tmp_path / "a" / path.name)
    (tmp_path / "a" / "copy.jsonl").write_text(next((tmp_path / "a").iterdir()).read_text())
    found = History.read(tmp_path / "a")
    assert len({one.session for one in found.entries}) == 4
    figures = {one.figure for one in found.entries}
    assert {"ttft_p50", "makespan", "request_throughput"} <= figures
    assert len(found.entries) == 4 * len(figures)
    assert History.read(tmp_path / "absent").entries == ()


def test_spread_is_pooled_once_for_each_recording(tmp_path: Path) -> None:
    one, other = compared(1), compared(2, runs=4)
    history = History.read(tmp_path)
    for document in (one, one, other):
        history.append([document])
    rng = np.random.default_rng(8)
    fresh = [make_run(WORK, noisy(WORK, rng, sigma_run=0.01), REAL, name="fresh")]
    sds = [each.meta["estimates"]["ttft_p50"]["run_sd"] for each in (one, other)]
    pooled = History.read(tmp_path).spreads(fresh)["ttft_p50"]
    assert pooled.dof == 2 + 3
    assert pooled.variance == pytest.approx((2 * sds[0] ** 2 + 3 * sds[1] ** 2) / 5)
    # A comparison with some of these runs and others adds nothing.
    ids = one.meta["run_digests"][:1] + other.meta["run_digests"][:1]
    mixed = replace(one, meta={**one.meta, "run_digests": ids})
    history.append([mixed])
    assert History.read(tmp_path).spreads(fresh)["ttft_p50"].dof == 2 + 3
    # With it, one run alone can be judged, and says that it pooled.
    sim = make_run(WORK, serve(WORK), SIMULATED, name="sim")
    judged = compare_runs(fresh, sim, history=History.read(tmp_path).spreads(fresh)).judged()
    assert {item.pooled for item in judged.judgements} == {True}
    assert judged.verdict == "pass"
    # What the runs themselves left in the history does not count.
    rng = np.random.default_rng(1)
    same = [make_run(WORK, noisy(WORK, rng, sigma_run=0.01), REAL, name="again")]
    assert History.read(tmp_path).spreads(same)["ttft_p50"].dof == 3
    other_device = [replace(fresh[0], meta={**fresh[0].meta, "device_name": "another"})]
    assert History.read(tmp_path).spreads(other_device) == {}


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["history", "--dir", str(tmp_path / "absent")]) == 2
    said = capsys.readouterr().err
    for place in ("pytest --gpusim-history DIR (ini gpusim_history)", "gpusim compare --history"):
        assert place in said
    for seed in range(4):
        History.read(tmp_path).append([compared(seed)])
    History.read(tmp_path).append([compared(5, prefill=1.3)])
    arguments = ["history", "case", "--dir", str(tmp_path), "--figures", "ttft_p50"]
    assert main([*arguments, "--out", str(tmp_path / "case.svg")]) == 0
    out = capsys.readouterr().out.splitlines()
    assert len([line for line in out if "n=3" in line]) == 5
    worse = [line.split(" ")[2] for line in out if line.startswith("worse: case: ")]
    assert "ttft_p50" in worse
    assert "ttft_p99" not in worse  # nobody judged it
    assert (tmp_path / "case.svg").read_text().startswith("<?xml")
    assert main([*arguments, "--fail-on-regression"]) == 1
    capsys.readouterr()
    assert main(["history", "--dir", str(tmp_path), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["alarms"]
    assert main(["history", "nobody", "--dir", str(tmp_path)]) == 2
    assert "no case 'nobody'" in capsys.readouterr().err


def test_a_line_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"schema_version": 1}\n')
    with pytest.raises(InputError, match=r"x\.jsonl: line 1, case: is missing"):
        History.read(tmp_path)
    with pytest.raises(UsageError, match="not a directory"):
        History.read(tmp_path / "x.jsonl")


def test_a_chart_of_nothing_judged_is_of_the_medians(tmp_path: Path) -> None:
    entries = [entry(1, 0.01, outcome=None), entry(2, 0.02, outcome=None)]
    draw_case(entries, (), tmp_path / "chart.svg")
    assert "ttft_p50" in (tmp_path / "chart.svg").read_text()
    assert overview_lines(entries)[0].startswith("case: 2 sessions, last 2026-01-02")


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("run_sd", "0.01", "line 1, run_sd: expected a number: '0.01'"),
        ("run_sd", float("inf"), "line 1"),
        ("low", [], r"low: expected a number: \[\]"),
        ("time", None, "line 1, time: expected a text: None"),
        ("device", [], r"line 1, device: expected a text: \[\]"),
        ("engine", None, "line 1, engine: expected a text: None"),
        ("offset", 1e308, r"line 1, offset: expected a number: 1e\+308"),
        ("mean", 10**400, "line 1, mean: expected a number: 1000"),
        ("num_runs", 0, "expected a whole number from 1 on: 0"),
        ("run_digests", "abc", "run_digests: expected a list"),
    ],
)
def test_a_field_of_another_kind_is_named(
    tmp_path: Path, field: str, value: Any, words: str
) -> None:
    line = {**entry(1, 0.01).to_json(), field: value}
    (tmp_path / "x.jsonl").write_text(json.dumps(line) + "\n")
    with pytest.raises(InputError, match=words):
        History.read(tmp_path)


def test_an_entry_counts_as_many_runs_as_it_names() -> None:
    rng = np.random.default_rng(7)
    fresh = [make_run(WORK, noisy(WORK, rng, sigma_run=0.01), REAL, name="fresh")]
    engine = "0.32.0 eager"
    known = {"device": "synthetic", "engine": engine, "workload_digest": "synthetic"}
    known["model"] = "synthetic/model"
    poison = entry(1, 0.0, num_runs=10**6, run_sd=1e-9, run_digests=("a", "b"), **known)
    spread = History(Path(), (poison,)).spreads(fresh)["ttft_p50"]
    assert spread.dof == 1


def test_a_clock_that_was_set_back_hides_no_regression() -> None:
    before = entry(9, 0.010)
    now = entry(2, 0.060)  # made after it
    assert [alert.now for alert in find_alerts([before, now])] == [now]
