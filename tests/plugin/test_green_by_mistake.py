"""Tests that end green although their comparison does not hold: none does without being told."""

from __future__ import annotations

import json
import shutil

import pytest

from pytest_gpusim.compare import compare_runs
from pytest_gpusim.compare.judging.verdict import Verdict
from tests.compare.planted import RIGHT, Planted, slowed

CONFTEST = """
import pytest
from tests.toyplugin import pytest_gpusim_register

CASE = dict(
    model="tiny/model", hardware="cpu", workload={workload!r}, name="tiny", simulator="reference"
)

@pytest.fixture
def compared(sim_vs_real):
    return sim_vs_real(**CASE)
"""
TESTS = """
import unittest
import pytest
from conftest import CASE

STRICT = dict(e2e_p50="0.004:0ms", ttft_p50="0.001:0ms")

def test_caught(compared):
    try:
        compared.check(**STRICT)
    except AssertionError:
        pass

def test_caught_by_raises(compared):
    with pytest.raises(AssertionError):
        compared.check(**STRICT)

def test_in_a_fixture(compared):
    pass

def test_asked_for_late(request):
    request.getfixturevalue("sim_vs_real")(**CASE)

class TestUnit(unittest.TestCase):
    @pytest.fixture(autouse=True)
    def _given(self, compared):
        self.compared = compared

    def test_unit(self):
        pass

def test_judged_again_and_wider(compared):
    try:
        compared.check(**STRICT)
    except AssertionError:
        compared.check(e2e_p50=0.5)

def test_judged_in_two_parts(compared):
    compared.check(e2e_p50=0.1)
    compared.check(tpot_p50=0.1)
"""


@pytest.fixture
def session(pytester, monkeypatch, pytestconfig, recording_of):
    monkeypatch.setenv("PYTHONPATH", str(pytestconfig.rootpath))
    recording, workload = recording_of((0.9, 1.0001, 1.1))
    shutil.copytree(recording, pytester.path / "recordings" / "tiny")
    pytester.makeconftest(CONFTEST.format(workload=str(workload)))
    pytester.makepyfile(test_green=TESTS)
    return pytester


def test_a_test_that_goes_on_warns_or_fails(session):
    result = session.runpytest_inprocess("--gpusim-unchecked", "fail", "-p", "no:xdist")
    lines = result.stdout.str()
    # The last one is inconclusive: its real runs differ by 10%.
    result.assert_outcomes(failed=7)
    caught, never = "the test caught what check() raised", "check() was never called"
    for name, why in (
        ("test_caught", caught),
        ("test_caught_by_raises", caught),
        ("test_in_a_fixture", never),
        ("test_asked_for_late", never),
        ("TestUnit::test_unit", never),
    ):
        assert f"::{name}: sim_vs_real() compared and {why}" in " ".join(
            lines.replace("its verdict is inconclusive: ", "")
            .replace("its verdict is fail: ", "")
            .split()
        ), name
    documents = {
        path: json.loads((path / "comparison.json").read_text())
        for path in sorted((session.path / "tmp" / "comparisons").iterdir())
    }
    assert "pass" not in {document["verdict"] for document in documents.values()}


RERUNS = """
import pytest
from _pytest.runner import runtestprotocol

@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
    for attempt in range(2):  # as pytest-rerunfailures does
        for report in runtestprotocol(item, nextitem=nextitem, log=False):
            if attempt == 0 and report.failed:
                report.outcome = "rerun"
            item.ihook.pytest_runtest_logreport(report=report)
        item._initrequest()
    return True
"""


def test_a_rerun_that_turns_green_is_said_and_counted_once(session):
    with (session.path / "conftest.py").open("a") as conftest:
        conftest.write(RERUNS)
    session.makepyfile(
        test_again="""
        from pathlib import Path

        def test_it(compared):
            first = not Path("was_here").exists()
            Path("was_here").touch()
            compared.check(e2e_p50="0.00001:0ms" if first else 0.5)
        """
    )
    result = session.runpytest_inprocess("test_again.py", "--gpusim-history=h", "-p", "no:xdist")
    result.stdout.fnmatch_lines(["gpusim: *::test_it was run again: its comparisons came to *, *"])
    (history,) = (session.path / "h").glob("*.jsonl")
    figures = [json.loads(line)["figure"] for line in history.read_text().splitlines()]
    assert figures.count("e2e_p50") == 2


def test_a_caught_failure_warns_where_nobody_asks_for_more(session):
    result = session.runpytest_inprocess("-k", "test_caught_by_raises")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*UncheckedComparison: *the test caught what check() raised*"])


def test_required_cases_do_not_skip_whoever_skips_them(pytester):
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.skipif(True, reason="not on this machine")
        def test_marked(sim_vs_real): ...

        def test_by_itself(sim_vs_real):
            pytest.importorskip("no_such_module")

        @pytest.mark.xfail(run=False)
        def test_expected(sim_vs_real): ...

        @pytest.mark.skip
        def test_no_case(): ...
        """
    )
    pytester.runpytest_inprocess().assert_outcomes(skipped=3, xfailed=1)
    result = pytester.runpytest_inprocess("--gpusim-require")
    result.assert_outcomes(failed=1, errors=1, skipped=1, xfailed=1)  # the mark acts at setup
    result.stdout.fnmatch_lines(["required (--gpusim-require): not on this machine"])


@pytest.mark.parametrize(
    ("first", "then", "verdict"),
    [
        ({"ttft_p50": 0.01}, {"ttft_p50": 0.2}, "fail"),
        ({"ttft_p50": 0.2}, {"ttft_p50": 0.01}, "fail"),
        ({"ttft_p50": 0.01}, {"tpot_p50": 0.2}, "fail"),
        ({"ttft_p50": 0.2}, {"tpot_p50": 0.2}, "pass"),
        ({"ttft_p50": 0.2}, {}, "pass"),
        (None, {"ttft_p50": 0.2}, "pass"),
    ],
)
def test_what_was_judged_stays_judged(first: dict, then: dict, verdict: Verdict) -> None:
    comparison = compare_runs(*Planted(sim=slowed(RIGHT, 1.05)).runs())
    assert comparison.judged(first).judged(then).verdict == verdict
