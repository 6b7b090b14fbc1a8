"""The quick start as a reader runs it, the code on the pages, and that no page is left out."""

from __future__ import annotations

import importlib.util
import re
import shlex
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from pytest_gpusim.cli import command_parser, main
from pytest_gpusim.compare.checks import run_checks
from pytest_gpusim.compare.comparison import sides_of
from pytest_gpusim.deployment import EngineSettings
from pytest_gpusim.deployment.architectures import REFUSED_FEATURES
from pytest_gpusim.deployment.settings import SETTINGS
from pytest_gpusim.errors import InputError
from pytest_gpusim.planning.decision_file import read_question
from pytest_gpusim.planning.grid import read_grid
from pytest_gpusim.providers import SimulationInputs
from pytest_gpusim.registry import builtin_registry
from pytest_gpusim.runs import read_run
from tests.factories import CPU, ENGINE, TINY, make_bundle, make_workload

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PLAIN = ("-p", "no:anyio", "-p", "no:hypothesispytest")


def text_of(page: str) -> str:
    path = DOCS / page
    return (path if path.exists() else ROOT / page).read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text_of(page), re.DOTALL | re.MULTILINE)


def commands(page: str) -> list[list[str]]:
    text = "".join(blocks(page, "console")).replace("\\\n", " ")
    lines = [line[2:] for line in text.splitlines() if line.startswith("$ ")]
    return [shlex.split(line, comments=True) for line in lines]


PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
ALL = [*PAGES, "README.md", "CONTRIBUTING.md"]


def test_the_quick_start_works(tmp_path, monkeypatch, capsys):
    for name in ("examples", "benchmarks"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    ran = []
    for words in commands("quickstart.md"):
        if words[0] == "gpusim":
            assert main(words[1:]) == 0, words
            ran.append(words[1])
    assert ran == ["check", "workload", "simulate", "timeline"]
    assert read_run(tmp_path / "tmp/quickstart/simulated").meta["run_type"] == "vidur"


def test_the_quick_starts_test_is_the_one_that_ships(pytester):
    (shown,) = blocks("quickstart.md", "python")
    shipped = (ROOT / "examples" / "quickstart" / "test_mine.py").read_text()
    assert shipped == shown
    pytester.makepyfile(test_mine=shown.replace("../..", str(ROOT)))
    for path in (ROOT / "examples" / "quickstart").iterdir():
        if path.suffix in (".json", ".yaml"):
            (pytester.path / path.name).symlink_to(path)
    result = pytester.runpytest_inprocess(*PLAIN)
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*simulated against real*", "pass *2/2*"])


def test_the_jobs_for_ci_run_as_they_stand_and_gate(pytester, monkeypatch):
    github, gitlab = (yaml.safe_load(text) for text in blocks("ci.md", "yaml"))
    steps = [step for job in github["jobs"].values() for step in job["steps"]]
    lines = [step["run"] for step in steps if "run" in step] + gitlab["recorded"]["script"]
    recorded = [
        line for line in dict.fromkeys(lines) if line.startswith("pytest") and "-m a" not in line
    ]
    assert len(recorded) == 2
    example = ROOT / "examples" / "quickstart"
    place = pytester.mkdir("benchmarks")
    code = (example / "test_mine.py").read_text().replace("../..", str(ROOT))
    (place / "test_mine.py").write_text(code)
    for path in (*example.glob("*.json"), *example.glob("*.yaml")):
        (place / path.name).symlink_to(path)
    summary = pytester.path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))

    def run(line):
        return pytester.runpytest_inprocess(*shlex.split(line)[1:], *PLAIN).ret

    for line in recorded:
        assert run(line) == 0, line
    kept = {str(gitlab["recorded"]["artifacts"]["reports"]["junit"])}
    kept |= {*gitlab["recorded"]["artifacts"]["paths"]}
    kept |= {step["with"]["path"] for step in steps if "upload" in step.get("uses", "")}
    assert all((pytester.path / name).is_file() for name in kept)
    assert re.search(r"\| pass \(.* accepted\) \| 2/2 \|", summary.read_text())
    (place / "test_mine.py").write_text(code.replace("tpot_p50=0.10", "tpot_p50=0.0001"))
    assert run(recorded[-1]) == 1


def test_the_simulator_on_its_page_simulates(tmp_path, monkeypatch):
    (code,) = blocks("deployment/simulator.md", "python")
    found: dict[str, object] = {}
    exec(compile(code, "simulator.md", "exec"), found)
    registry = builtin_registry()
    found["pytest_gpusim_register"](registry)
    workload = make_workload(tmp_path / "workload", [(8, 3, 0), (9, 2, 5_000_000)])
    bundle = make_bundle(tmp_path / "bundle")
    inputs = SimulationInputs(TINY, CPU, workload, bundle, ENGINE, tmp_path / "run")
    registry.simulators.get("mine").load()(inputs)
    run = read_run(tmp_path / "run")
    assert len(run.tokens) == 5
    # What the page says that the checks ask for.
    found = run_checks(sides_of([run], run, workload=workload))
    silent = {check.name for check in found if check.status == "unknown"}
    assert not silent & {"not_calibrated_on", "overhead_counted", "profile_covers"}


@pytest.mark.parametrize("page", ["deployment/model.md", "deployment/gpu.md"])
def test_the_code_on_the_pages_compiles(page):
    found = blocks(page, "python")
    assert found
    for code in found:
        compile(code, page, "exec")


@pytest.mark.parametrize("page", ALL)
def test_every_command_on_the_pages_is_one(page, capsys):
    parser = command_parser(builtin_registry())
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for words in commands(page):
        given = [word for word in words[1:] if word != "…"]
        program = Path(words[0]).name
        if program == "gpusim":
            try:
                parser.parse_args(given)
            except SystemExit:
                # What dots stand for is missing; anything else is a mistake.
                said = capsys.readouterr().err.splitlines()[-1]
                assert given != words[1:], said
                assert "the following arguments are required" in said, said
        elif program == "make":
            assert set(given) <= set(targets), words
        elif program == "python":
            assert given[0] == "-m"
            assert importlib.util.find_spec(given[1]), words
        else:
            assert program in ("pytest", "pip", "vllm", "printf", "export", "python3.11"), words


@pytest.mark.parametrize("page", ALL)
def test_every_block_says_what_it_is(page):
    fences = re.findall(r"^ *```(.*)$", text_of(page), re.MULTILINE)
    assert set(fences[::2]) <= {"console", "json", "python", "text", "toml", "yaml"}
    assert set(fences[1::2]) <= {""}
    for command in ("gpusim ", "pytest ", "python -m "):
        assert not re.search(rf"^    ({command})", text_of(page), re.MULTILINE)


def test_the_files_of_planning_are_read(tmp_path):
    grid, decision = blocks("planning.md", "toml")
    (tmp_path / "grid.toml").write_text(grid)
    read = read_grid(tmp_path / "grid.toml")
    points = list(read.points())
    assert len(points) == 2 * 3 * 2 * 2 * 2
    assert {read.load(point).requests for point in points} == {200}
    for point in points:
        EngineSettings.from_mapping(point.table("engine"), read.path)
    (tmp_path / "decision.toml").write_text(decision)
    with pytest.raises(InputError, match="64-4-1: no such run"):
        read_question(tmp_path / "decision.toml", builtin_registry(), tmp_path / "store")


def test_every_option_of_pytest_on_the_pages_exists():
    sys.path.insert(0, str(DOCS / "site"))
    try:
        from reference import pages
    finally:
        sys.path.pop(0)
    known = set(re.findall(r"--[a-z][a-z-]+", pages()["reference/pytest.md"]))
    for page in ALL:
        lines = [words for words in commands(page) if words[0] == "pytest"]
        used = {word for words in lines for word in words if word.startswith("--")}
        said = set(re.findall(r"`(--gpusim-[a-z-]+)", text_of(page)))
        said -= {"--gpusim-tolerance"}  # architecture.md: one that there might be
        assert {word.partition("=")[0] for word in used | said} - {"--junitxml"} <= known, page


def test_the_architecture_is_that_of_the_house():
    """Its paths are there, and its layers are the contract's, which holds for every module."""
    text = text_of("architecture.md")
    paths = re.findall(r"`([\w/]+(?:\.py|/))`", text)
    assert len(paths) > 10
    assert [path for path in paths if not (ROOT / "pytest_gpusim" / path).exists()] == []
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    (contract,) = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"][
        "contracts"
    ]
    layers = [layer.split(" | ") for layer in contract["layers"]]
    place = {name: number for number, layer in enumerate(layers) for name in layer}
    shown = [sorted(place.pop(name) for name in re.findall(r"`(\w+)`", row)) for row in rows]
    assert place == {}
    order = [number for row in shown for number in row]
    assert order == sorted(order)


def test_every_page_is_in_the_navigation():
    text = re.sub(r"!!python/\S+", "", (ROOT / "mkdocs.yml").read_text())
    shown = set(re.findall(r": (\S+\.md)", yaml.dump(yaml.safe_load(text)["nav"])))
    there = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    assert there <= shown
    assert {page for page in shown if not page.startswith("reference/")} <= there


def refusals() -> str:
    """The table of what is not modelled, as the site's page of models has it."""
    spec = importlib.util.spec_from_file_location("reference", DOCS / "site" / "reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.models().split("| not modelled |")[1]


def test_all_that_is_refused_stands_in_one_table():
    table = refusals()
    known = [setting.name for setting in SETTINGS if setting.role == "refused" or setting.refused]
    known += [key for refusal in REFUSED_FEATURES for key in refusal.keys]
    assert len(known) > 40
    assert [name for name in known if f"`{name}`" not in table] == []
    for words in (
        "multi-head latent attention (MLA)",
        "sliding window attention",
        "hybrid attention",
        "pipeline parallelism",
        "data-parallel attention",
        "speculative decoding",
        "LoRA",
        "an interval of a prediction",
    ):
        assert f"| {words} |" in table
