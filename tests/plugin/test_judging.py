"""How a session judges: tolerances, accepting, unchecked comparisons, requirements, history."""

from __future__ import annotations

import json
import re
import shutil
import xml.etree.ElementTree as ElementTree

import pytest

TEST = """
import pytest

@pytest.mark.cpu
{marks}
def test_case(sim_vs_real):
    comparison = sim_vs_real(
        model="tiny/model", workload={workload!r}, name="tiny", simulator="reference"
    )
    {check}
"""


@pytest.fixture
def session(pytester, monkeypatch, pytestconfig, recording_of):
    """A test directory with a recording, its test, and what the test checks."""
    monkeypatch.setenv("PYTHONPATH", str(pytestconfig.rootpath))
    pytester.makeconftest("from tests.toyplugin import pytest_gpusim_register")

    def make(check="comparison.check()", marks="", factors=(1.001, 1.01, 0.99)):
        recording, workload = recording_of(factors)
        place = pytester.path / "recordings" / "tiny"
        if not place.exists():
            shutil.copytree(recording, place)
        pytester.makepyfile(TEST.format(workload=str(workload), check=check, marks=marks))
        return pytester

    return make


def documents(pytester):
    return [
        json.loads((path / "comparison.json").read_text())
        for path in sorted((pytester.path / "tmp" / "comparisons").iterdir())
    ]


def test_check_without_arguments_judges_the_defaults_and_junit_has_them(session):
    pytester = session()
    pytester.runpytest_inprocess("--junit-xml", "junit.xml").assert_outcomes(passed=1)
    (document,) = documents(pytester)
    assert [item["name"] for item in document["judgements"]] == [
        "ttft_p50", "ttft_p90", "tpot_p50", "tpot_p90", "e2e_p50", "e2e_p90",
    ]  # fmt: skip
    tree = ElementTree.parse(pytester.path / "junit.xml")
    properties = {each.get("name"): each.get("value") for each in tree.iter("property")}
    assert properties["gpusim_verdict"] == "pass"
    assert re.match(r"pass: error [+-]0\.\d% \[", properties["gpusim_ttft_p50"])


def test_a_comparison_that_is_never_checked_warns_or_fails(session):
    pytester = session(check="pass")
    result = pytester.runpytest_inprocess()
    # Other warnings are other packages'.
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*check() was never called: nothing was judged*"])
    assert documents(pytester)[0]["verdict"] == "not_judged"
    (place,) = (pytester.path / "tmp" / "comparisons").iterdir()
    assert {"requests_ttft", "errors_ttft", "over_time_ttft"} <= {
        path.stem for path in (place / "figures").iterdir()
    }
    pytester.runpytest_inprocess("--gpusim-unchecked", "fail").assert_outcomes(failed=1)


def test_a_failed_needed_check_is_not_green_by_forgetting_check(session):
    # Three runs of one factor are one run given three times.
    result = session(check="pass", factors=(1.01, 1.01, 1.01)).runpytest_inprocess()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*check roles failed*one run, given twice*"])


def test_an_inconclusive_check_fails_or_is_expected_to(session):
    pytester = session(factors=(0.9, 1.0001, 1.1))
    result = pytester.runpytest_inprocess()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*simulated against real: inconclusive*", "*runs would decide*"])
    result = pytester.runpytest_inprocess("--gpusim-inconclusive", "xfail", "-rx")
    result.assert_outcomes(xfailed=1)
    result.stdout.fnmatch_lines(["XFAIL*simulated against real: inconclusive: *e2e_p50 *% [[]*"])
    pytester = session(check="comparison.check(e2e_p50='0.004:0ms')")
    wide = pytester.runpytest_inprocess("--gpusim-inconclusive", "xfail")
    wide.assert_outcomes(xfailed=1)


def test_tolerances_of_call_marker_and_file(session):
    def judged(pytester, *arguments):
        pytester.runpytest_inprocess(*arguments)
        return [item["name"] for item in documents(pytester)[-1]["judgements"]]

    pytester = session()
    (pytester.path / "t.toml").write_text("[tolerances]\ne2e_p50 = 0.2\n")
    assert judged(pytester, "--gpusim-tolerances", "t.toml") == ["e2e_p50"]
    pytester = session(marks="@pytest.mark.gpusim_tolerances(tpot_p50='10%:1ms')")
    assert judged(pytester, "--gpusim-tolerances", "t.toml") == ["tpot_p50"]
    pytester = session(
        marks="@pytest.mark.gpusim_tolerances(tpot_p50=0.1)", check="comparison.check(itl_p50=0.1)"
    )
    assert judged(pytester) == ["itl_p50"]
    (pytester.path / "t.toml").write_text("[tolerances]\ne2e_p42 = 0.2\n")
    result = pytester.runpytest_inprocess("--gpusim-tolerances", "t.toml")
    assert result.ret == pytest.ExitCode.USAGE_ERROR


def test_goodput_and_a_percentile_that_is_not_carried(session):
    pytester = session(check="comparison.check(goodput='5%:0.05', slo={'ttft': '1s'})")
    pytester.runpytest_inprocess().assert_outcomes(passed=1)
    assert documents(pytester)[-1]["goodput"]["limits_ns"] == {"ttft": 1e9}
    result = session(check="comparison.check(ttft_p99=0.1)").runpytest_inprocess()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*ttft_p99: 24 values cannot carry p99*"])


def test_what_cannot_be_accepted_is_a_usage_error(session):
    result = session().runpytest_inprocess("--gpusim-accept", "roles")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*'roles' cannot be accepted*"])


def test_a_case_that_would_skip_fails_where_it_is_required(session):
    pytester = session()
    arguments = ("--gpusim-real", "recorded", "--gpusim-recordings", ".")
    pytester.runpytest_inprocess(*arguments).assert_outcomes(skipped=1)
    result = pytester.runpytest_inprocess(*arguments, "--gpusim-require")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*required (--gpusim-require): no recording at*"])


def test_a_history_finds_what_became_worse_and_what_got_lost(session):
    pytester = session()
    history = ("--gpusim-history", "history", "--gpusim-fail-on-regression")
    for _ in range(2):
        pytester.runpytest_inprocess(*history).assert_outcomes(passed=1)
    files = list((pytester.path / "history").iterdir())
    assert len(files) == 2
    # The same case, its simulation 8% slower: still within 10%, and worse than it was.
    pytester.makeconftest(
        """
        from dataclasses import replace
        from tests.toyplugin import pytest_gpusim_register
        from pytest_gpusim import case
        real_simulate = case.simulate

        def slower(*arguments):
            run = real_simulate(*arguments)
            rows = run.requests
            later = rows[["first_token_time_ns", "completion_time_ns"]].sub(
                rows["arrival_time_ns"], axis=0)
            rows = rows.assign(ttft_ns=0, **{
                name: rows["arrival_time_ns"] + (later[name] * 1.06).astype("int64")
                for name in later})
            return replace(run, requests=rows, tokens=None)

        case.simulate = slower

        def pytest_unconfigure():
            case.simulate = real_simulate
        """
    )
    result = pytester.runpytest_inprocess(*history)
    result.stdout.fnmatch_lines(["*gpusim history: worse: tiny: ttft_p50 is off by +6.*"])
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    pytester.makepyfile(
        test_a_history_finds_what_became_worse_and_what_got_lost="""
        import pytest
        def test_case():
            pytest.skip("not today")
    """
    )
    result = pytester.runpytest_inprocess(*history)
    result.stdout.fnmatch_lines(["*gpusim history: lost: tiny is not compared any more*"])
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_a_history_that_cannot_be_read_is_one_line_at_the_end(pytester):
    (pytester.path / "history").mkdir()
    (pytester.path / "history" / "cut.jsonl").write_text('{"schema_version": 1, "case": "ti')
    pytester.makepyfile("def test_nothing(): pass")
    result = pytester.runpytest_inprocess("--gpusim-history", "history")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stdout.fnmatch_lines(["gpusim history: *cut.jsonl: line 1*"])
    result.stdout.no_fnmatch_line("*INTERNALERROR*")
