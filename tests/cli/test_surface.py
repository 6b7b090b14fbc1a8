"""What the command line says of itself: help of every option, version, completion; and clean."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import time
from collections.abc import Iterator

import pytest

from pytest_gpusim.cli import command_parser, main
from pytest_gpusim.places import point_to_latest
from pytest_gpusim.registry import builtin_registry

PARSERS = (argparse._SubParsersAction,)


def all_parsers() -> Iterator[argparse.ArgumentParser]:
    open_ones = [command_parser(builtin_registry())]
    while open_ones:
        one = open_ones.pop()
        yield one
        for action in one._actions:
            if isinstance(action, PARSERS):
                open_ones += action.choices.values()


def test_every_option_has_a_line_of_help():
    silent = [
        f"{parser.prog} {action.dest}"
        for parser in all_parsers()
        for action in parser._actions
        if not action.help and not isinstance(action, PARSERS)
    ]
    assert silent == []


def test_defaults_are_shown(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["measure", "--help"])
    assert ended.value.code == 0
    out = capsys.readouterr().out
    assert "(default: vllm)" in out
    assert "(default: 1)" in out
    assert "None" not in out


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [([], "COMMAND"), (["workload"], "generate"), (["profile"], "aiconfigurator")],
)
def test_without_a_command_the_help_is_shown(capsys, arguments, shown):
    assert main(arguments) == 0
    assert shown in capsys.readouterr().out


def test_version(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("gpusim ")


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_knows_the_commands(capsys, shell):
    with pytest.raises(SystemExit):
        main(["--print-completion", shell])
    out = capsys.readouterr().out
    assert "import-run" in out
    assert "--profiling-root" in out


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_a_shell_completes_commands_options_and_files(tmp_path, capsys):
    (tmp_path / "results").mkdir()
    (tmp_path / "result.json").touch()
    with pytest.raises(SystemExit):
        main(["--print-completion", "bash"])
    words = {
        "workl": "workload",
        "workload imp": "import",
        "compare --acc": "--accept",
        "simulate --router rou": "round_robin",
        "compare res": "result.json results",
        "simulate --workload res": "results",
        "measure --engine result.": "result.json",
    }
    script = "compopt() { :; }\n" + capsys.readouterr().out
    script += """
    complete_last() {
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
        _shtab_gpusim gpusim "${COMP_WORDS[COMP_CWORD]}"
        echo $(printf '%s\\n' "${COMPREPLY[@]}" | sort -u)
    }
    """
    script += "\n".join(f"complete_last gpusim {line}" for line in words)
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.splitlines() == list(words.values())


@pytest.mark.parametrize("width", [80, 200])
def test_help_fits_the_terminal(monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    lines = [line for parser in all_parsers() for line in parser.format_help().splitlines()]
    assert [line for line in lines if len(line) > width] == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("compar", "unknown 'compar' (did you mean compare?); known are workload, "),
        ("workload genrate", "unknown 'genrate' (did you mean generate?)"),
        ("workload generate --arrivals poison", "unknown 'poison' (did you mean poisson?)"),
        (
            "simulate --moddel x",
            "--workload; unrecognized is --moddel (did you mean --model?)",
        ),
        ("simulate --mod x", "are required: --hardware, --workload; see 'gpusim simulate --help'"),
    ],
)
def test_a_word_that_is_misspelt_is_met_with_the_nearest_one(capsys, words, said):
    with pytest.raises(SystemExit) as ended:
        main(words.split())
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


@pytest.fixture
def artifacts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("comparisons/old", "comparisons/new", "toy_runs/1", "recordings/case", "mine/x"):
        (tmp_path / "tmp" / name).mkdir(parents=True)
        (tmp_path / "tmp" / name / "file").write_text("x" * 1000)
    day_ago = time.time() - 86_400 * 1.5
    os.utime(tmp_path / "tmp" / "comparisons" / "old", (day_ago, day_ago))
    point_to_latest(tmp_path / "tmp" / "comparisons" / "new", tmp_path / "tmp")
    return tmp_path / "tmp"


def left_in(artifacts):
    return sorted(path.parent.relative_to(artifacts).as_posix() for path in artifacts.rglob("file"))


def test_latest_is_the_newest(artifacts):
    assert (artifacts / "latest" / "file").exists()
    assert (artifacts / "latest").readlink().as_posix() == "comparisons/new"
    point_to_latest(artifacts / "comparisons" / "old", artifacts)
    assert (artifacts / "latest").readlink().as_posix() == "comparisons/old"


def test_clean_keeps_what_took_long_and_what_is_not_its_own(artifacts, capsys):
    assert main(["clean"]) == 0
    assert left_in(artifacts) == ["mine/x", "recordings/case"]
    assert not (artifacts / "latest").is_symlink()
    assert capsys.readouterr().out.splitlines()[-1] == "freed 0.0 MB below tmp"


def test_clean_all_takes_recordings_too(artifacts):
    assert main(["clean", "--all"]) == 0
    assert left_in(artifacts) == ["mine/x"]


def test_clean_by_age(artifacts):
    assert main(["clean", "--older-than", "1"]) == 0
    assert left_in(artifacts) == ["comparisons/new", "mine/x", "recordings/case", "toy_runs/1"]


def test_a_dry_run_removes_nothing(artifacts, capsys):
    before = left_in(artifacts)
    assert main(["clean", "--dry-run"]) == 0
    assert left_in(artifacts) == before
    assert "tmp/comparisons/old" in capsys.readouterr().out
