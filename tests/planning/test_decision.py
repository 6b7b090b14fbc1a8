"""Decisions: the setting that each side chooses, and what the simulator's choice costs."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_gpusim.cli import main
from pytest_gpusim.errors import CheckFailed, InputError, UsageError
from pytest_gpusim.planning.decision import Decision, Setting
from pytest_gpusim.planning.decision_file import read_question
from pytest_gpusim.planning.loads import generated
from pytest_gpusim.planning.point import Point, run_point
from pytest_gpusim.workload.generate import Lengths, WorkloadSpec
from tests.factories import CPU, ENGINE, TINY, make_bundle
from tests.planning.grids import registry


def decision(*settings: tuple[str, tuple[float, ...], float], higher: bool = True) -> Decision:
    made = tuple(Setting(name, real, (simulated,)) for name, real, simulated in settings)
    return Decision("capacity", made, higher)


def test_a_wrong_choice_costs_what_reality_says() -> None:
    found = decision(("a", (10.0, 11.0), 12.0), ("b", (20.0, 21.0), 11.0))
    assert (found.real_choice.name, found.simulated_choice.name) == ("b", "a")
    assert found.regret == pytest.approx(10 / 20.5)
    # Welch by hand: both variances 1/2, so SE = sqrt(1/4 + 1/4) and 2 degrees; t(0.95; 2) = 2.92.
    half = 2.91999 * math.sqrt(0.5)
    assert found.regret_interval == pytest.approx(
        ((10 - half) / 20.5, (10 + half) / 20.5), rel=1e-4
    )
    assert found.verdict == "different"
    assert found.rank_correlation == -1
    assert found.pairs == (1, 0)
    with pytest.raises(CheckFailed, match=r"chooses a, reality b \(different\); regret 48\.8%"):
        found.check(regret=0.1)
    assert "different: regret 48.8%" in "\n".join(found.lines())


def test_the_same_choice_costs_nothing() -> None:
    found = decision(("a", (30.0, 31.0), 50.0), ("b", (20.0, 21.0), 20.0), ("c", (10.0,), 19.0))
    assert found.verdict == "same"
    assert found.regret == 0
    assert found.rank_correlation == 1
    assert found.pairs == (1, 1)
    found.check()


def test_lower_is_better_for_latencies() -> None:
    found = decision(("a", (100.0, 102.0), 90.0), ("b", (50.0, 51.0), 95.0), higher=False)
    assert found.regret == pytest.approx(50.5 / 50.5)
    assert found.verdict == "different"


@pytest.mark.parametrize("runs", [(9.9,), (8.0, 11.5)])
def test_what_repeats_cannot_tell_apart_is_said_so(runs: tuple[float, ...]) -> None:
    found = decision(("a", runs, 12.0), ("b", (10.0, 10.2), 11.0))
    assert found.verdict == "not to be told apart"
    with pytest.raises(CheckFailed, match="not to be told apart"):
        found.check(regret=0.05)


def test_a_choice_needs_two_settings() -> None:
    with pytest.raises(UsageError, match="at least two"):
        decision(("a", (1.0,), 1.0))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two settings at two loads: one seat or sixteen; the real engine's steps take 5% longer."""
    known, place = registry(), tmp_path_factory.mktemp("runs")
    sim = make_bundle(place / "bundle")
    real = sim.mlp.copy()
    columns = [name for name in real.columns if name.startswith("time_stats")]
    real[columns] *= 1.05
    slower = make_bundle(place / "real_bundle", tables={"mlp.csv": real})
    spec = WorkloadSpec("poisson", 40, 1.0, 0, Lengths(16, 64), Lengths(2, 6))
    text = 'slo = "ttft_p90=3ms"\nobjective = ["ttft_p90", "goodput"]\n'
    for seats in (1, 16):
        for load in (200.0, 1000.0):
            runs = {"real": [(slower, 0), (slower, 1)], "simulated": [(sim, 0)]}
            text += f'[[point]]\nsetting = "{seats} seats"\nload = {load}\n'
            for side, made in runs.items():
                names = []
                for bundle, seed in made:
                    workload = generated(spec, load, seed, place / "workloads")
                    engine = replace(ENGINE, max_num_seqs=seats)
                    point = Point.of("reference", TINY, CPU, workload, bundle, engine, {})
                    names.append(f"{side}-{seats}-{load:g}-{seed}")
                    assert not run_point(point, known, place / names[-1])
                text += f"{side} = {json.dumps(names)}\n"
    (place / "decision.toml").write_text(text)
    return place


@pytest.fixture
def grid(runs: Path, tmp_path: Path) -> Path:
    """The decision file, a test's own, beside the runs."""
    for run in runs.iterdir():
        if run.is_dir():
            (tmp_path / run.name).symlink_to(run)
    shutil.copy(runs / "decision.toml", tmp_path)
    return tmp_path / "decision.toml"


def test_capacity_and_figures_of_real_and_simulated_runs(grid: Path, tmp_path: Path) -> None:
    question = read_question(grid, registry(), tmp_path / "store")
    capacity, *others = question.decisions()
    assert capacity.objective == "load within ttft_p90=3ms"
    one, many = capacity.settings
    assert 200 < one.real_mean < 1000
    assert 200 < one.simulated_mean < 1000
    assert len(one.real) == 2
    assert many.notes == (
        "real is at least the highest load",
        "simulated is at least the highest load",
    )
    assert capacity.verdict == "same"
    assert capacity.real_choice.name == "16 seats"
    assert [each.objective for each in others] == [
        "ttft_p90 at load 200", "ttft_p90 at load 1000",
        "goodput at load 200", "goodput at load 1000",
    ]  # fmt: skip
    assert not others[0].higher_is_better
    assert others[3].higher_is_better
    assert others[3].real_choice.name == "16 seats"


def test_the_command_writes_document_text_and_chart(
    grid: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["decide", str(grid), "--regret", "0.2", "--out", str(out), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document == json.loads((out / "decision.json").read_text())
    assert document["decisions"][0]["verdict"] == "same"
    assert "rank correlation" in (out / "decision.txt").read_text()
    assert "<svg" in (out / "decision.svg").read_text()


def test_a_choice_that_costs_too_much_is_exit_code_1(
    grid: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # The sides of the simulation swapped: now it prefers one seat.
    text = grid.read_text()
    for load in ("200", "1000"):
        one, many = (f'["simulated-{seats}-{load}-0"]' for seats in (1, 16))
        text = text.replace(one, "?").replace(many, one).replace("?", many)
    grid.write_text(text)
    assert main(["decide", str(grid), "--regret", "0.01", "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr()
    assert "the simulator chooses 1 seats, reality 16 seats" in said.err


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("load = 200.0", 'load = "low"'), "point 1, load: expected a number"),
        (("load = 1000.0", "load = 200.0"), "1 seats at load 200 stands twice"),
        (('"goodput"', '"speed"'), "objective: 'speed' is unknown"),
        (('slo = "ttft_p90=3ms"\n', ""), "goodput is the share within it"),
        (("[[point]]", "[[points]]"), "points: is unknown"),
        (('real = ["real-1-200-0", "real-1-200-1"]', "real = []"), "point 1, real: names no run"),
        (('"real-1-200-0"', '"nowhere"'), "no such run directory"),
    ],
)
def test_files_that_make_no_sense_are_refused(
    grid: Path, tmp_path: Path, change: tuple[str, str], says: str
) -> None:
    assert change[0] in grid.read_text()
    grid.write_text(grid.read_text().replace(*change))
    with pytest.raises(InputError, match=says):
        read_question(grid, registry(), tmp_path / "store")


def test_the_fixture_judges_what_a_choice_costs(grid: Path, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        f"""
        def test_choice(gpusim_decisions):
            by_capacity, *_ = gpusim_decisions({str(grid)!r})
            by_capacity.check(regret=0.0)
            assert by_capacity.real_choice.name == "16 seats"
        """
    )
    pytester.runpytest_inprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)
