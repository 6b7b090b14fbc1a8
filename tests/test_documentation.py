"""The quick start as a reader runs it, the code on the pages, and that no page is left out."""

from __future__ import annotations

import importlib.util
import re
import shlex
import sys
from pathlib import Path

import pytest
import yaml

from pytest_gpusim.cli import main
from pytest_gpusim.deployment.architectures import REFUSED_FEATURES
from pytest_gpusim.deployment.settings import SETTINGS
from pytest_gpusim.providers import SimulationInputs
from pytest_gpusim.registry import builtin_registry
from pytest_gpusim.runs import read_run
from tests.factories import CPU, ENGINE, TINY, make_bundle, make_workload

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PLAIN = ("-p", "no:anyio", "-p", "no:hypothesispytest")


def blocks(page: str, language: str) -> list[str]:
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands(page: str) -> list[list[str]]:
    lines = "".join(blocks(page, "console")).splitlines()
    return [shlex.split(line[2:], comments=True) for line in lines if line.startswith("$ ")]


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
    assert len(read_run(tmp_path / "run").tokens) == 5


@pytest.mark.parametrize("page", ["deployment/model.md", "deployment/gpu.md"])
def test_the_code_on_the_pages_compiles(page):
    found = blocks(page, "python")
    assert found
    for code in found:
        compile(code, page, "exec")


def test_every_option_on_the_pages_exists():
    sys.path.insert(0, str(DOCS / "site"))
    try:
        from reference import pages
    finally:
        sys.path.pop(0)
    known = set(re.findall(r"--[a-z][a-z-]+", "".join(pages().values())))
    others = {"--save-result", "--save-detailed", "--result-filename", "--junitxml"}
    for page in (
        "quickstart.md",
        "ci.md",
        *(f"deployment/{p.name}" for p in DOCS.glob("deployment/*")),
    ):
        used = set(re.findall(r"--[a-z][a-z-]+", (DOCS / page).read_text())) - others
        assert used <= known, f"{page}: {sorted(used - known)}"


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
