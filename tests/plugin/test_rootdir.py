"""An option's value that is a path does not move pytest's rootdir."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.mark.parametrize("form", ["{option}={place}", "{option} {place}"])
@pytest.mark.parametrize("option", ["--profiling-root", "--gpusim-artifacts"])
def test_the_rootdir_is_that_of_the_tests(
    pytester: pytest.Pytester, tmp_path_factory: pytest.TempPathFactory, option: str, form: str
) -> None:
    outside = tmp_path_factory.mktemp("outside")
    tests = pytester.mkdir("tests")
    (tests / "test_x.py").write_text("def test_x():\n    pass\n")
    arguments = form.format(option=option, place=outside).split(" ")
    result = pytester.runpytest("tests", *arguments)
    result.stdout.fnmatch_lines([f"rootdir: {pytester.path}"])
    result.assert_outcomes(passed=1)


def test_another_projects_configuration_is_said(
    pytester: pytest.Pytester, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (Path(outside) / "pytest.ini").touch()
    (pytester.mkdir("tests") / "test_x.py").write_text("def test_x():\n    pass\n")
    result = pytester.runpytest("tests", "--profiling-root", str(outside))
    result.stderr.fnmatch_lines([f"ERROR: --profiling-root {outside}: pytest took *pytest.ini*"])
    assert result.ret == 4


def test_another_plugin_with_our_option_is_said(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        other="def pytest_addoption(parser):\n    parser.addoption('--profiling-root')\n"
    )
    result = pytester.runpytest_subprocess("-p", "other")
    assert result.ret != 0
    said = result.stderr.str() + result.stdout.str()
    assert "another pytest plugin has an option --profiling-root, too" in said
    assert "Traceback" not in said
