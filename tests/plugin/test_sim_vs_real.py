"""A comparison as a user's test: passing, failing, replayed, reported, benchmarked."""

from __future__ import annotations

import json
import shutil
import time
from importlib.util import find_spec

import pytest

from pytest_gpusim.backends.archive import pack_recording
from tests.factories import make_bundle

TEST = """
import pytest

@pytest.mark.cpu
def test_case(sim_vs_real):
    comparison = sim_vs_real(
        model="tiny/model", workload={workload!r}, name="tiny", simulator="{simulator}"
    )
    comparison.check({tolerances})
"""


@pytest.fixture
def session(pytester, pytestconfig, monkeypatch, recording_of):
    """A test directory with a recording and a plugin that knows its model."""
    monkeypatch.setenv("PYTHONPATH", str(pytestconfig.rootpath))  # for processes of their own
    pytester.makeconftest("from tests.toyplugin import pytest_gpusim_register")

    def make(
        tolerances="ttft_p50=0.05, tpot_p50=0.05",
        simulator="reference",
        factors=(1.001, 1.01, 0.99),
    ):
        recording, workload = recording_of(factors)
        shutil.copytree(recording, pytester.path / "recordings" / "tiny")
        pytester.makepyfile(
            TEST.format(workload=str(workload), tolerances=tolerances, simulator=simulator)
        )
        return pytester

    return make


def only_comparison(pytester):
    (path,) = (pytester.path / "tmp" / "comparisons").iterdir()
    return path


BAD = """
import signal, time
from pytest_gpusim import faults
from tests import toyplugin

def bad(inputs):
    inputs.out_dir.mkdir(parents=True)
    if {hangs}:
        assert callable(signal.getsignal(signal.SIGALRM))
        faults.monotonic = lambda: time.monotonic() + 100_000
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        time.sleep(60)

def pytest_gpusim_register(registry):
    toyplugin.pytest_gpusim_register(registry)
    registry.add_simulator("bad", bad)
"""


GONE = """
import pathlib, pytest

@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_logreport(report):
    if report.when == "teardown":
        for file in pathlib.Path("tmp/comparisons").glob("*/comparison.json"):
            file.unlink()
    return (yield)
"""


@pytest.mark.parametrize(
    ("hangs", "says"),
    [
        (False, "the simulator 'bad' did not write a run as it must"),
        (True, "the simulator 'bad' has not come back after 3,600 seconds"),
    ],
)
def test_a_simulator_that_fails_is_named_and_leaves_no_folder(session, monkeypatch, hangs, says):
    monkeypatch.setattr("pytest_gpusim.faults.monotonic", time.monotonic)  # undone behind it
    pytester = session(simulator="bad")
    pytester.makeconftest(BAD.format(hangs=hangs))
    result = pytester.runpytest_inprocess()
    result.assert_outcomes(failed=1)
    assert says in result.stdout.str()
    assert "Traceback" not in result.stdout.str()
    folders = [path for path in pytester.path.rglob("tmp/**/*") if path.is_dir()]
    assert [path for path in folders if not any(path.iterdir())] == []
    assert not (pytester.path / "tmp" / "bad_runs").exists()


def test_a_plugin_that_cannot_register_is_one_line(pytester):
    pytester.makeconftest("def pytest_gpusim_register(registry):\n    raise ValueError('boom')\n")
    result = pytester.runpytest_inprocess()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: a plugin's pytest_gpusim_register failed: ValueError: b*"])


def test_a_comparison_that_holds_passes(session):
    pytester = session()
    result = pytester.runpytest_inprocess()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*simulated against real*"])
    place = only_comparison(pytester)
    document = json.loads((place / "comparison.json").read_text())
    assert document["verdict"] == "pass"
    assert document["metrics"]["ttft"]["p50"]["error"] == pytest.approx(0, abs=1e-3)
    assert document["metrics"]["ttft"]["p50"]["run_sd"] == pytest.approx(0.01, abs=1e-3)
    assert (place / "summary.md").exists()
    assert (place / "tables" / "percentiles.csv").exists()


def test_names_in_a_session_do_not_act(session):
    """Not in the failure, the details, the lines at the end, nor in JUnit's file."""
    pytester = session(tolerances="ttft_p50='0.0001:0ms'")
    shutil.copytree(pytester.path / "recordings" / "tiny" / "real", pytester.path / "given")
    for meta in pytester.path.glob("given/*/run_meta.json"):
        document = json.loads(meta.read_text())
        document["run_id"] = document["device_name"] = "r\x1b[2J\u202e[red]<b>"
        meta.write_text(json.dumps(document))
    given = 'name="tiny", real=["given/1", "given/2"], profile="recordings/tiny/profile"'
    (test,) = pytester.path.glob("test_*.py")
    test.write_text(test.read_text().replace('name="tiny"', given))
    result = pytester.runpytest_inprocess("-v", "--junitxml=j.xml", "--gpusim-report=page.html")
    result.assert_outcomes(failed=1)
    page = (pytester.path / "page.html").read_text()
    for text in (result.stdout.str(), (pytester.path / "j.xml").read_text(), page):
        assert not {"\x1b", "\u202e"} & set(text)
    assert "r\\x1b[2J\\u202e[red]" in page


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("summary", "gpusim GITHUB_STEP_SUMMARY=*none*summary.md: cannot be written: No such*"),
        ("report", "gpusim *none/page.html: cannot be written: *"),
        ("comparison", "gpusim *comparison.json: no such file*"),
    ],
)
def test_what_cannot_be_shown_is_one_line_and_no_green_session(session, monkeypatch, place, says):
    pytester = session()
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    (pytester.path / "none").write_text("a file")
    options = []
    if place == "summary":
        monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(pytester.path / "none2" / "summary.md"))
    elif place == "report":
        options = ["--gpusim-report=none/page.html"]
    else:
        with (pytester.path / "conftest.py").open("a") as conftest:
            conftest.write(GONE)
    result = pytester.runpytest_inprocess(*options)
    result.assert_outcomes(passed=1)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stdout.fnmatch_lines([says])
    assert "Traceback" not in result.stdout.str() + result.stderr.str()


def test_a_comparison_that_does_not_hold_fails_at_the_users_line(session):
    pytester = session(factors=(1.5, 1.51, 1.49))
    result = pytester.runpytest_inprocess()
    result.assert_outcomes(failed=1)
    text = result.stdout.str()
    assert "> " in text
    assert "comparison.check(ttft_p50=0.05, tpot_p50=0.05)" in text
    assert "sim_vs_real.py" not in text
    result.stdout.fnmatch_lines(["*ttft_p50*"])
    assert (
        json.loads((only_comparison(pytester) / "comparison.json").read_text())["verdict"] == "fail"
    )


def test_an_unknown_tolerance_fails_in_one_line(session):
    pytester = session(tolerances="ttft_p42=0.1")
    result = pytester.runpytest_inprocess()
    result.assert_outcomes(failed=1)
    assert "ttft_p42" in result.stdout.str()
    assert "Traceback" not in result.stdout.str()


def test_what_is_misspelt_is_said_before_anything_runs_and_without_a_warning(session):
    pytester = session()
    test = next(pytester.path.glob("test_*.py"))
    test.write_text(test.read_text().replace('name="tiny"', 'stated={"warmpu": True}'))
    result = pytester.runpytest_inprocess()
    result.assert_outcomes(failed=1)
    result.stdout.no_fnmatch_line("*PytestBenchmarkWarning*")
    result.stdout.fnmatch_lines(["cannot state 'warmpu' (did you mean warmup[?]): known are *"])
    assert not (pytester.path / "tmp").exists()


def test_an_archive_replays_like_the_folder_and_without_benchmark_too(session):
    pytester = session()
    folder = pytester.path / "recordings" / "tiny"
    pack_recording(folder)
    shutil.rmtree(folder)
    result = pytester.runpytest_inprocess("--gpusim-real", "recorded", "-p", "no:benchmark")
    result.assert_outcomes(passed=1)


def test_a_changed_recording_is_refused(session):
    pytester = session()
    table = next((pytester.path / "recordings" / "tiny" / "real" / "2").glob("request_metrics*"))
    table.write_bytes(table.read_bytes() + b"\n")
    result = pytester.runpytest_inprocess("--gpusim-real", "recorded")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*real/2: was changed after it was recorded*"])


def test_a_broken_recording_is_a_failure_not_a_skip(session):
    pytester = session()
    (pytester.path / "recordings" / "tiny" / "recording.json").write_text("{")
    result = pytester.runpytest_inprocess()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*recording.json: line 1: not JSON*"])


def test_a_named_root_stands_for_the_recorded_profile(session, tmp_path):
    pytester = session()
    root = tmp_path / "root"
    root.mkdir()
    named = ["--profiling-root", str(root)]
    result = pytester.runpytest_inprocess(*named)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*no bundle of tiny/model*"])
    make_bundle(root / "cpu" / "tiny" / "model", overhead=False)  # the recorded one has it
    result = pytester.runpytest_inprocess(*named)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*check overhead_counted failed*"])


def test_a_bundle_of_another_machine_is_refused_before_measuring(session, tmp_path):
    pytester = session()
    make_bundle(tmp_path / "root" / "cpu" / "tiny" / "model")
    result = pytester.runpytest_inprocess(
        "--gpusim-real", "live", "--profiling-root", str(tmp_path / "root")
    )
    if find_spec("vllm") is None:
        result.assert_outcomes(skipped=1)
        return
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*device_name: the bundle is of Synthetic processor, 2 cores, this machine has *"]
    )
    assert not (pytester.path / "tmp" / "real_runs").exists()


def test_another_workload_is_not_the_recorded_one(session, tmp_path):
    from tests.factories import make_workload

    pytester = session()
    other = make_workload(tmp_path / "other", [(10, 10, 0)])
    pytester.makepyfile(
        TEST.format(workload=str(other.path), tolerances="ttft_p50=0.9", simulator="reference")
    )
    result = pytester.runpytest_inprocess("--gpusim-real", "recorded", "-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*has workload *, the case *"])


@pytest.mark.skipif(find_spec("vidur") is None, reason="vidur is not installed")
def test_vidur_replays_the_recording(session):
    pytester = session(simulator="vidur")
    pytester.runpytest_inprocess().assert_outcomes(passed=1)


def test_one_page_extra_info_and_pytest_benchmarks_own_selection(session):
    pytester = session()
    options = ("--gpusim-report", "out/report.html", "--benchmark-json", "bench.json")
    pytester.runpytest_inprocess("--benchmark-only", *options).assert_outcomes(passed=1)
    page = (pytester.path / "out" / "report.html").read_text()
    assert "tiny" in page
    assert "http" not in page.replace("http://www.w3.org", "")
    (entry,) = json.loads((pytester.path / "bench.json").read_text())["benchmarks"]
    assert entry["extra_info"]["ttft_p50_error"] == pytest.approx(0, abs=1e-3)
    assert "NaN" not in (pytester.path / "bench.json").read_text()
    pytester.runpytest_inprocess("--benchmark-skip").assert_outcomes(skipped=1)


def test_under_xdist_the_summary_still_shows_the_comparison(session):
    pytester = session()
    result = pytester.runpytest_subprocess("-n", "1")  # whose worker sees this one's PYTHONPATH
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*simulated against real*"])


def test_prerequisites_of_a_recorded_case_hold(session):
    pytester = session()
    pytester.makepyfile(
        test_prereq=f"""
        import pytest

        @pytest.mark.prereq
        @pytest.mark.cpu
        def test_prerequisites(sim_vs_real):
            sim_vs_real.require_prerequisites(
                model="tiny/model", workload={str(pytester.path / "recordings/tiny/workload")!r},
                name="tiny",
            )
        """
    )
    pytester.runpytest_inprocess("-m", "prereq").assert_outcomes(passed=1, deselected=1)


def test_prerequisites_of_a_case_asked_for_fail_with_the_command(pytester):
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.prereq
        @pytest.mark.h200
        def test_prerequisites(sim_vs_real):
            sim_vs_real.require_prerequisites(model="Qwen/Qwen3-0.6B", workload="poisson")
        """
    )
    pytester.runpytest_inprocess("-m", "prereq", "-rs").assert_outcomes(skipped=1)
    result = pytester.runpytest_inprocess("-m", "prereq and h200")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*gpusim profile vllm --model Qwen/Qwen3-0.6B --hardware h200*"])
