"""What a user's session shows for right and wrong options."""

from __future__ import annotations

import subprocess
import sys

import pytest

PASSING = "def test_nothing(): pass"


def test_header_names_where_things_are(pytester):
    pytester.makepyfile(PASSING)
    result = pytester.runpytest_inprocess()
    result.stdout.fnmatch_lines(
        ["gpusim: artifacts */tmp, profiling root */tmp/vidur_profiling (default)"]
    )


@pytest.mark.parametrize("source", ["option", "ini", "environment"])
def test_profiling_root_order(pytester, monkeypatch, source):
    for name in ("option", "ini", "environment"):
        pytester.mkdir(name)
    monkeypatch.setenv("GPUSIM_PROFILING_ROOT", "environment")
    arguments = []
    if source in ("option", "ini"):
        pytester.makeini("[pytest]\ngpusim_profiling_root = ini")
    if source == "option":
        arguments = ["--profiling-root", "option"]
    pytester.makepyfile(
        f"""
        def test_root(profiling_root):
            assert profiling_root.name == {source!r}
        """
    )
    pytester.runpytest_inprocess(*arguments).assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--profiling-root", "nowhere"], "--profiling-root nowhere: no such directory"),
        (["--gpusim-recordings", "nowhere"], "--gpusim-recordings nowhere: no such directory"),
        (["--gpusim-repeat", "0"], "--gpusim-repeat 0: expected at least 1"),
        (["--gpusim-real", "imagined"], "invalid choice: 'imagined'"),
        (["--gpusim-report", "."], "--gpusim-report .: is a directory"),
        (["--gpusim-artifacts", "a_file"], "--gpusim-artifacts a_file: exists and is not a dir"),
    ],
)
def test_wrong_options_are_usage_errors(pytester, arguments, message):
    pytester.makepyfile(PASSING)
    (pytester.path / "a_file").touch()
    result = pytester.runpytest_inprocess(*arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert message in result.stderr.str()
    assert "Traceback" not in result.stderr.str() + result.stdout.str()


def test_artifacts_option(pytester):
    pytester.makepyfile(
        """
        def test_place(gpusim_artifacts, profiling_root):
            assert gpusim_artifacts.name == "elsewhere"
            assert profiling_root.parts[-2:] == ("tmp", "vidur_profiling")
        """
    )
    pytester.runpytest_inprocess("--gpusim-artifacts", "elsewhere").assert_outcomes(passed=1)


def test_a_report_without_comparisons_is_said_not_to_be(pytester):
    pytester.makepyfile(PASSING)
    result = pytester.runpytest_inprocess("--gpusim-report", "page.html")
    result.stdout.fnmatch_lines(["no comparison was made, so no page.html"])
    assert not (pytester.path / "page.html").exists()


def test_loading_the_plugin_imports_nothing_heavy():
    heavy = "numpy pandas torch vllm vidur scipy matplotlib sklearn"
    code = (
        "import sys, pytest_gpusim.plugin, pytest_gpusim.cli\n"
        f"found = [m for m in {heavy!r}.split() if m in sys.modules]\n"
        "assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
