"""Decision files: real and simulated runs of settings at loads, and what is refused."""

from __future__ import annotations

import csv
import errno
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from pytest_gpusim import progress
from pytest_gpusim.cli import main
from pytest_gpusim.errors import InputError
from pytest_gpusim.planning.decided import lines_of
from pytest_gpusim.planning.decision_file import read_question
from pytest_gpusim.planning.evidence import Runs, examine, require_one_load
from pytest_gpusim.planning.loads import generated
from pytest_gpusim.planning.point import Point, run_point
from pytest_gpusim.runs import Run, read_run
from pytest_gpusim.workload.generate import Lengths, WorkloadSpec
from tests.factories import CPU, ENGINE, TINY, make_bundle
from tests.planning.grids import registry


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two settings at two loads: one seat or sixteen; real steps take 5 to 6% longer."""
    known, place = registry(), tmp_path_factory.mktemp("runs")
    sim = make_bundle(place / "bundle")
    slower = []
    for repeat, factor in enumerate((1.05, 1.06)):
        real = sim.mlp.copy()
        real[[name for name in real.columns if name.startswith("time_stats")]] *= factor
        slower.append(make_bundle(place / f"real_bundle_{repeat}", tables={"mlp.csv": real}))
    spec = WorkloadSpec("poisson", 40, 1.0, 0, Lengths(16, 64), Lengths(2, 6))
    text = 'slo = "ttft_p90=3ms"\nobjective = ["ttft_p90", "goodput"]\naccept = ["warmed_up"]\n'
    for seats in (1, 16):
        for load in (200.0, 1000.0):
            text += f'[[point]]\nsetting = "{seats} seats"\nload = {load}\n'
            for side, bundles in (("real", slower), ("simulated", [sim])):
                names = []
                for repeat, bundle in enumerate(bundles):
                    workload = generated(spec, load, 0, place / "workloads")
                    engine = replace(ENGINE, max_num_seqs=seats)
                    point = Point.of("reference", TINY, CPU, workload, bundle, engine, {})
                    names.append(f"{side}-{seats}-{load:g}-{repeat}")
                    assert not run_point(point, known, place / names[-1])
                    if side == "real":
                        say_measured(place / names[-1])
                text += f"{side} = {json.dumps(names)}\n"
    workload = generated(spec, 200.0, 1, place / "workloads")
    for name, bundle in (("other-real", slower[0]), ("other-simulated", sim)):
        engine = replace(ENGINE, max_num_seqs=1)
        point = Point.of("reference", TINY, CPU, workload, bundle, engine, {})
        assert not run_point(point, known, place / name)
    say_measured(place / "other-real")
    (place / "decision.toml").write_text(text)
    return place


OF_SIMULATIONS = (
    *("profile", "profiling_digest", "simulator", "params", "operator_shares", "scheduler_rules"),
    *("counts_engine_time", "started_at", "ended_at"),  # simulated times are no wall clock's
)


def say_measured(run: Path) -> None:
    """Let a simulated run pass for one of an engine."""
    path = run / "run_meta.json"
    meta = json.loads(path.read_text())
    meta = {key: value for key, value in meta.items() if key not in OF_SIMULATIONS}
    meta |= {"run_type": "real", "backend": "vllm", "device_name": "Synthetic processor, 2 cores"}
    path.write_text(json.dumps(meta))
    rewrite_column(run / "request_metrics.csv", "backend", lambda _: "vllm")


def rewrite_column(table: Path, name: str, change: Callable[[str], str]) -> None:
    names, *rows = list(csv.reader(table.read_text().splitlines()))
    place = names.index(name)
    for row in rows:
        row[place] = change(row[place])
    table.write_text("".join(",".join(row) + "\n" for row in (names, *rows)))


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
    assert (many.real_bound, many.simulated_bound) == ("at least", "at least")
    assert not capacity.doubts
    assert [(each.setting, each.real_holds) for each in question.bearings] == [
        ("1 seats", True), ("1 seats", False), ("16 seats", True), ("16 seats", True),
    ]  # fmt: skip
    assert {each.verdict for each in question.bearings} == {"same"}
    assert capacity.verdict == "same"
    assert capacity.real_choice.name == "16 seats"
    assert [each.objective for each in others] == [
        "ttft_p90 at load 200", "ttft_p90 at load 1000",
        "goodput at load 200", "goodput at load 1000",
    ]  # fmt: skip
    assert not others[0].higher_is_better
    assert others[3].higher_is_better
    assert others[3].real_choice.name == "16 seats"


def test_the_command_writes_document_text_and_chart_and_says_how_far_it_is(
    grid: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "out"
    monkeypatch.setattr(progress, "QUIET_S", 0.0)
    said: list[str] = []
    with progress.lines_to(said.append):
        assert main(["decide", str(grid), "--regret", "0.2", "--out", str(out), "--json"]) == 0
    for words in ("read and check: 1 of 4 points", "draw: 1 of 4 charts"):
        assert any(line.startswith(words) for line in said), said
    document = json.loads(capsys.readouterr().out)
    assert document == json.loads((out / "decision.json").read_text())
    assert document["decisions"][0]["verdict"] == "same"
    assert "rank correlation" in (out / "decision.txt").read_text()
    assert "<svg" in (out / "decision.svg").read_text()


def test_a_decision_is_written_whole_or_not_at_all(
    grid: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pytest_gpusim.planning.decision_page.write_decision_page", full)
    before = sorted(tmp_path.iterdir())
    out = tmp_path / "deep" / "out"
    assert main(["decide", str(grid), "--out", str(out)]) == 2
    said = f"gpusim: {out / 'decision.svg'}: cannot be written: No space left on device\n"
    assert capsys.readouterr().err == said
    assert sorted(tmp_path.iterdir()) == before


def test_names_of_settings_are_data(
    grid: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Formulas, escapes and turned writing reach neither matplotlib, the page nor the terminal."""
    hostile = json.dumps("_$\\frac{$\x1b[2J\u202e<script>a</script>")
    grid.write_text(grid.read_text().replace('"16 seats"', hostile.replace("\\u001b", "\\u001B")))
    assert main(["decide", str(grid), "--regret", "0.2", "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr()
    for text in (
        said.out,
        said.err,
        (tmp_path / "out" / "decision.svg").read_text(),
        (tmp_path / "out" / "decision.html").read_text(),
    ):
        assert not {"\x1b", "\u202e"} & set(text)
        assert "<script>a" not in text or text is said.out
    assert "_$\\frac{$" in (tmp_path / "out" / "decision.svg").read_text()


def test_a_choice_that_costs_too_much_is_exit_code_1(
    grid: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # The sides of the simulation swapped: now it prefers one seat.
    swap_simulations(grid)
    options = ["--regret", "0.01", "--out", str(tmp_path / "out")]
    grid.write_text(grid.read_text().replace('["warmed_up"]', '["warmed_up", "settings_mirrored"]'))
    assert main(["decide", str(grid), *options]) == 1
    said = capsys.readouterr()
    assert "the simulator chooses 1 seats, reality 16 seats (inconclusive)" in said.err
    assert "settings_mirrored: fail, 1 seats at load 200 and 3 other points" in said.out


@pytest.mark.parametrize("regret", ["inf", "nan", "-0.1"])
def test_a_regret_that_allows_all_is_refused(
    grid: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], regret: str
) -> None:
    assert main(["decide", str(grid), f"--regret={regret}", "--out", str(tmp_path / "out")]) == 2
    assert "expected a fraction of at least 0" in capsys.readouterr().err


def test_a_percentile_that_few_requests_cannot_carry_is_refused(grid: Path, tmp_path: Path) -> None:
    grid.write_text(grid.read_text().replace("ttft_p90=3ms", "ttft_p99=3ms"))
    with pytest.raises(InputError, match=r"slo: ttft_p99: 40 values of \S+ cannot carry p99"):
        read_question(grid, registry(), tmp_path / "store")


def swap_simulations(grid: Path) -> None:
    text = grid.read_text()
    for load in ("200", "1000"):
        one, many = (f'["simulated-{seats}-{load}-0"]' for seats in (1, 16))
        text = text.replace(one, "?").replace(many, one).replace("?", many)
    grid.write_text(text)


def test_a_setting_that_lacks_a_load_is_not_chosen_against(grid: Path, tmp_path: Path) -> None:
    points = grid.read_text().split("[[point]]")
    grid.write_text("[[point]]".join(points[:-1]))
    capacity, _, slow, *_ = read_question(grid, registry(), tmp_path / "store").decisions()
    assert capacity.notes == ("16 seats was not measured at load 1000",)
    assert capacity.verdict == "not to be told apart"
    assert slow.objective == "goodput at load 200"


def test_one_setting_is_decided_between_its_loads(grid: Path, tmp_path: Path) -> None:
    points = grid.read_text().replace('"ttft_p90", "goodput"', '"good_requests_per_s"')
    grid.write_text("[[point]]".join(points.split("[[point]]")[:3]))
    question = read_question(grid, registry(), tmp_path / "store")
    (found,) = question.decisions()
    assert found.objective == "good_requests_per_s of 1 seats, by load"
    assert [each.name for each in found.settings] == ["load 200", "load 1000"]
    assert found.verdict == "same"
    (seats,) = question.capacities
    assert 200 < seats.real_mean < seats.simulated_mean < 1000
    assert "load within ttft_p90=3ms" in "\n".join(lines_of(question, [found]))


def test_checks_that_fail_make_it_inconclusive(grid: Path, tmp_path: Path) -> None:
    fitted = tmp_path / "fitted"
    shutil.copytree(tmp_path / "simulated-1-200-0", fitted)
    meta = json.loads((fitted / "run_meta.json").read_text())
    real = json.loads((tmp_path / "real-1-200-0" / "run_meta.json").read_text())["run_id"]
    meta["profile"]["calibrated_on"] = [real]
    (fitted / "run_meta.json").write_text(json.dumps(meta))
    grid.write_text(grid.read_text().replace('"simulated-1-200-0"', '"fitted"'))
    capacity, low, high, *_ = read_question(grid, registry(), tmp_path / "store").decisions()
    assert capacity.verdict == low.verdict == "inconclusive"
    assert "not_calibrated_on failed" in low.doubts[0]
    assert high.verdict == "same"  # at the other load nothing was fitted


def test_what_no_run_says_is_stated_or_accepted(grid: Path, tmp_path: Path) -> None:
    grid.write_text(grid.read_text().replace('accept = ["warmed_up"]\n', ""))
    first, *_ = read_question(grid, registry(), tmp_path / "store").decisions()
    assert "warmed_up is unknown" in first.doubts[0]
    state = "[state]\nwarmup = {requests = 4}\n[[point]]"
    grid.write_text(grid.read_text().replace("[[point]]", state, 1))
    first, *_ = read_question(grid, registry(), tmp_path / "store").decisions()
    assert first.verdict == "same"


def test_the_page_says_the_result(grid: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(["decide", str(grid), "--out", str(out)]) == 0
    page = (out / "decision.html").read_text()
    assert "By load within ttft_p90=3ms both sides choose 16 seats: same, regret 0.0%" in page
    assert page.count('role="img" aria-label=') == 4
    assert "1 seats at load 1000: real" in page
    assert "https://" not in page.replace("http://www.w3.org", "")
    for text in ("both choose it", "Provenance", str(tmp_path / "real-16-1000-1"), "Do the limits"):
        assert text in page


def another_workload(tmp_path: Path) -> None:
    """Every prompt is a token longer in a copy of a real run."""
    shutil.copytree(tmp_path / "real-16-200-0", tmp_path / "other")
    table = tmp_path / "other" / "request_metrics.csv"
    rewrite_column(table, "num_prefill_tokens", lambda cell: str(int(cell) + 1))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("load = 200.0", 'load = "low"'), "point 1, load: expected a number"),
        (("load = 1000.0", "load = 200.0"), "1 seats at load 200 stands twice"),
        (('"goodput"', '"speed"'), "objective: 'speed' is unknown"),
        (('slo = "ttft_p90=3ms"\n', ""), "goodput is of requests within it"),
        (("[[point]]", "[[points]]"), "points: is unknown"),
        (('real = ["real-1-200-0", "real-1-200-1"]', "real = []"), "point 1, real: names no run"),
        (('"real-1-200-0"', '"nowhere"'), "no such run directory"),
        (('"simulated-1-200-0"', '"nowhere"'), "nowhere"),
        (("simulated =", "simulation ="), "point 1: simulated is missing"),
        (('"simulated-1-200-0"', '"real-1-200-0"'), "point 1: roles: .*is given as the simulation"),
        (('"real-1-200-0"', '"simulated-1-200-0"'), "point 1: roles: .*is given as a real run"),
        (('"real-1-200-1"', '"real-1-200-0"'), "point 1: roles: .*given twice"),
        (('"real-16-200-0", "real-16-200-1"', '"other"'), "same_workload: .*num_prefill_tokens"),
        (('"real-16-1000-0"', '"real-16-200-0"'), "same_workload"),
        (('["real-1-200-0", "real-1-200-1"]', "[1]"), "point 1, real: expected a text"),
        (("load = 200.0", "load = 2000.0"), "a higher load must be one"),
        (
            ("load = 200.0", "load = 0.2"),
            r"had 2\d\d.* requests/s; a load is the number of clients",
        ),
        (('accept = ["warmed_up"]', 'accept = ["roles"]'), "cannot be accepted"),
        (('slo = "ttft_p90=3ms"', 'slo = "ttft_p90=3ms"\nshare = "x"'), "share: expected a fract"),
        (('slo = "ttft_p90=3ms"', 'slo = "ttft_p90=3ms"\nshare = true'), "share: expected a fra"),
        (('"real-1-200-0"', '"a\\u0000b"'), "point 1, real: .* is no name that a file can have"),
        (('"real-1-200-0"', f'"{"a" * 300}"'), "point 1, real: .* is no name that a file can have"),
        (('slo = "', 'state = {warmup = 2001-01-01}\nslo = "'), "expected a value of JSON"),
        (('slo = "ttft_p90=3ms"', 'slo = "ttft_p80=3ms"'), "slo: .*expected METRIC"),
    ],
)
def test_files_that_make_no_sense_are_refused(
    grid: Path, tmp_path: Path, change: tuple[str, str], says: str
) -> None:
    another_workload(tmp_path)
    assert change[0] in grid.read_text()
    grid.write_text(grid.read_text().replace(*change))
    with pytest.raises(InputError, match=says):
        read_question(grid, registry(), tmp_path / "store")


def test_repeats_of_other_requests_have_simulations_of_their_own(grid: Path) -> None:
    names = ("real-1-200-0", "other-real", "simulated-1-200-0", "other-simulated")
    first, second, sim, other = (read_run(grid.parent / name) for name in names)
    place, accept = ("1 seats", 200.0), ["warmed_up"]
    found = examine(grid, "point 1", place, Runs([first, second], [sim, other]), accept=accept)
    assert not found.doubts
    with pytest.raises(InputError, match="point 1: same_workload"):
        examine(grid, "point 1", place, Runs([first, second], [other, sim]))
    with pytest.raises(InputError, match="point 1: same_workload"):
        examine(grid, "point 1", place, Runs([first, second], [sim]))


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ("real-16-1000-0", "load 200: same_workload: .* differ"),
        ("real-1-200-1", "16 seats at load 200: .* is a run of 1 seats at load 200, too"),
    ],
)
def test_settings_are_compared_on_the_same_requests(grid: Path, other: str, says: str) -> None:
    names = {"1 seats": ("real-1-200-0", "real-1-200-1"), "16 seats": (other,)}
    simulated = [read_run(grid.parent / "simulated-1-200-0")]
    points = {
        (setting, 200.0): Runs([read_run(grid.parent / name) for name in several], simulated)
        for setting, several in names.items()
    }
    with pytest.raises(InputError, match=says):
        require_one_load(grid, points)


def sent(clients: int | None, gap_s: float, tokens: int) -> Run:
    """A run whose client sends at a rate, under a limit of requests at once."""
    due = [round(number * gap_s * 1e9) for number in range(50)]
    columns = dict.fromkeys(("arrival_time_ns", "due_time_ns"), due)
    lengths = dict.fromkeys(("num_prefill_tokens", "num_decode_tokens"), tokens)
    times = {name: [at + tokens for at in due] for name in ("first_token_time_ns", "sent_time_ns")}
    rows = pd.DataFrame({**columns, **times}).assign(**lengths, status="ok")
    rows["completion_time_ns"] = rows["first_token_time_ns"]
    rows["num_decode_tokens_actual"] = tokens
    meta = {"run_id": f"c{clients}", "load": {"kind": "closed", "max_concurrency": clients}}
    return Run(Path("run"), meta if clients else {"run_id": "open"}, rows, None, None)


@pytest.mark.parametrize(
    ("low", "high", "says"),
    [
        # (load, clients, seconds between requests)
        ((4.0, 64, 0.25), (8.0, 64, 0.125), ""),  # one limit, two rates
        ((8.0, 8, 0.01), (16.0, 16, 0.01), ""),
        ((4.0, None, 0.25), (8.0, None, 0.125), ""),
        ((4.0, 64, 0.25), (8.0, 64, 0.25), "64 clients at 4 requests/s: a higher load must be"),
        ((16.0, 16, 0.0), (20.0, 8, 0.0), "c8 had 8 clients, and at load 16 there were 16"),
        ((4.0, 8, 0.0), (8.0, 16, 0.0), "c8 had 8 clients; a load is the number of clients"),
        ((0.004, None, 0.25), (0.008, None, 0.125), "open had 4 requests/s; a load is"),
    ],
)
def test_a_load_is_called_what_it_was(
    low: tuple[float, int | None, float], high: tuple[float, int | None, float], says: str
) -> None:
    runs = [sent(clients, gap, 5 + n) for n, (_, clients, gap) in enumerate((low, high))]
    points = {
        ("a", load): Runs([r], [r]) for (load, _, _), r in zip((low, high), runs, strict=True)
    }
    if not says:
        require_one_load(Path("d.toml"), points)
        return
    with pytest.raises(InputError, match=says):
        require_one_load(Path("d.toml"), points)


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
