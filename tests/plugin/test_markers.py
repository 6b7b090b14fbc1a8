"""Hardware markers select cases; what cannot run here skips, saying why."""

from __future__ import annotations

import pytest

CASE = """
import pytest

@pytest.mark.{marker}
def test_case(sim_vs_real):
    sim_vs_real(model="Qwen/Qwen3-0.6B", workload="poisson")
"""


def test_markers_are_registered(pytester):
    result = pytester.runpytest_inprocess("--markers")
    result.stdout.fnmatch_lines(
        ["*@pytest.mark.prereq*", "*@pytest.mark.sim_vs_real*", "*@pytest.mark.a100*"]
    )


def test_missing_hardware_skips_with_the_reason(pytester):
    pytester.makepyfile(CASE.format(marker="h200"))
    result = pytester.runpytest_inprocess("-rs", "-m", "h200")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*no h200 in this machine*"])


def test_a_marker_selects(pytester):
    pytester.makepyfile(CASE.format(marker="h200"))
    result = pytester.runpytest_inprocess("-m", "a100")
    result.assert_outcomes(deselected=1)


def test_tests_that_compare_are_marked(pytester):
    pytester.makepyfile(CASE.format(marker="h200") + "\ndef test_other(): pass")
    result = pytester.runpytest_inprocess("-m", "sim_vs_real")
    result.assert_outcomes(skipped=1, deselected=1)


def test_two_hardware_markers_are_a_usage_error(pytester):
    pytester.makepyfile(CASE.format(marker="h200").replace("def ", "@pytest.mark.a100\ndef "))
    result = pytester.runpytest_inprocess()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*test_case: two hardware markers, a100 and h200; keep one*"])


def test_no_hardware_is_an_error_that_names_the_known_ones(pytester):
    pytester.makepyfile(
        """
        def test_case(sim_vs_real):
            sim_vs_real(model="Qwen/Qwen3-0.6B", workload="poisson")
        """
    )
    result = pytester.runpytest_inprocess()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*test_case: sim_vs_real needs a hardware marker or hardware= (one of a100,*"]
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            'model="no/such", workload="poisson"',
            "unknown model 'no/such'; known are *Qwen/Qwen3-0.6B*",
        ),
        (
            'model="Qwen/Qwen3-0.6B", workload="weekly"',
            "unknown workload 'weekly'; known are spaced,*",
        ),
        (
            'model="Qwen/Qwen3-0.6B", workload="poisson", simulator="crystal ball"',
            "unknown simulator 'crystal ball'; known are reference, vidur",
        ),
        (
            'model="Qwen/Qwen3-0.6B", workload="poisson", engine={"max_sequences": 3}',
            "*max_sequences: unknown engine setting; known are *max_num_seqs*",
        ),
    ],
)
def test_unknown_names_fail_in_one_line(pytester, arguments, message):
    pytester.makepyfile(
        f"""
        import pytest

        @pytest.mark.cpu
        def test_case(sim_vs_real):
            sim_vs_real({arguments})
        """
    )
    pytester.mkdir("recordings")
    result = pytester.runpytest_inprocess()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([message])
    assert "Traceback" not in result.stdout.str()
