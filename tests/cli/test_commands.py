"""The commands in the order of a user's work, on synthetic parts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tarfile
import time

import pytest

from pytest_gpusim.__main__ import interrupted_elsewhere
from pytest_gpusim.cli import main
from tests.case.recording import make_recording
from tests.factories import TINY


@pytest.fixture
def parts(tmp_path):
    make_recording(tmp_path / "case", tmp_path / "scratch")
    return tmp_path


def gpusim(capsys, *arguments):
    code = main(["-p", "tests.toyplugin", *map(str, arguments)])
    return code, capsys.readouterr().out


def simulate(capsys, parts, simulator, out):
    return gpusim(
        capsys,
        *("simulate", "--model", TINY.name, "--hardware", "cpu", "--simulator", simulator),
        *(
            "--workload",
            parts / "case" / "workload",
            "--profiling-root",
            parts / "case" / "profile",
        ),
        *("--engine", parts / "case" / "real" / "1", "--out", out),
    )


@pytest.mark.parametrize("simulator", ["reference", "vidur"])
def test_simulate_then_compare(capsys, parts, simulator):
    code, out = simulate(capsys, parts, simulator, parts / "sim")
    assert (code, out.splitlines()[-1]) == (0, str(parts / "sim"))
    real = sorted((parts / "case" / "real").iterdir())
    code, out = gpusim(
        capsys, "compare", *real, parts / "sim", "--check", "ttft_p50=0.05,tpot_p50=0.05",
        "--out", parts / "comparison",
    )  # fmt: skip
    assert (code, out.splitlines()[-1]) == (0, str(parts / "comparison"))
    assert (parts / "comparison" / "report.html").exists()


def test_simulation_gives_the_same_bytes_twice(capsys, parts):
    for name in ("first", "second"):
        assert simulate(capsys, parts, "vidur", parts / name)[0] == 0
    for table in ("request_metrics.csv", "token_metrics.csv", "step_metrics.csv"):
        assert (parts / "first" / table).read_bytes() == (parts / "second" / table).read_bytes()


def test_compare_that_does_not_hold_exits_1(capsys, tmp_path):
    make_recording(tmp_path / "case", tmp_path / "scratch", factors=(2.0, 2.0))
    simulate(capsys, tmp_path, "reference", tmp_path / "sim")
    code, out = gpusim(
        capsys, "compare", *sorted((tmp_path / "case" / "real").iterdir()), tmp_path / "sim",
        "--check", "tpot_p50=0.05", "--json", "--out", tmp_path / "comparison",
    )  # fmt: skip
    assert code == 1
    assert json.loads(out)["verdict"] == "fail"


def test_generate_is_byte_identical(capsys, tmp_path):
    arguments = [
        "workload",
        "generate",
        "--arrivals",
        "poisson",
        "--requests",
        "9",
        "--rate",
        "2",
        "--seed",
        "5",
    ]
    arguments += ["--prefill", "8:64", "--decode", "4"]
    for name in ("first", "second"):
        assert gpusim(capsys, *arguments, "--out", tmp_path / name)[0] == 0
    for file in ("trace_lengths.csv", "trace_intervals.csv", "prompts.jsonl"):
        first, second = ((tmp_path / name / file).read_bytes() for name in ("first", "second"))
        assert first == second


def test_generate_files_a_workload_under_its_id(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = [
        "workload",
        "generate",
        "--arrivals",
        "fixed",
        "--requests",
        "2",
        "--rate",
        "2",
        "--seed",
        "5",
    ]
    arguments += ["--prefill", "8", "--decode", "4"]
    first = gpusim(capsys, *arguments)[1].splitlines()[-1]
    second = gpusim(capsys, *arguments)[1].splitlines()[-1]
    assert first == second
    meta = json.loads((tmp_path / first / "workload_meta.json").read_text())
    assert first == f"tmp/workloads/fixed-{meta['digest'][:12]}"


def test_record_then_replay(capsys, parts):
    code, out = gpusim(
        capsys, "record", "--workload", parts / "case" / "workload",
        "--profile", parts / "case" / "profile", *sorted((parts / "case" / "real").iterdir()),
        "--out", parts / "again",
    )  # fmt: skip
    assert (code, out.splitlines()[-1]) == (0, str(parts / "again"))
    recording = json.loads((parts / "again" / "recording.json").read_text())
    assert sorted(recording["runs"]) == ["1", "2", "3"]
    assert str(parts) not in (parts / "again" / "real" / "1" / "run_meta.json").read_text()
    with tarfile.open(parts / "again.tar.xz") as archive:
        assert "again/real/3/run_meta.json" in archive.getnames()


def test_check_of_a_good_bundle(capsys, parts):
    code, out = gpusim(
        capsys, "check", parts / "case" / "profile", "--model", TINY.name, "--hardware", "cpu",
        "--workload", parts / "case" / "workload", "--engine", parts / "case" / "real" / "1",
        "--json",
    )  # fmt: skip
    document = json.loads(out)
    assert code == 0, document
    assert document["ok"] is True
    assert {check["status"] for check in document["checks"]} <= {"pass", "warn", "skip"}


def test_doctor_says_what_can_run(capsys):
    code, out = gpusim(capsys, "doctor", "--json")
    document = json.loads(out)
    assert code == 0
    assert document["hardware"]["cpu"]
    assert document["can"]["replay recordings with vidur"]["ok"] is document["vidur"]["supported"]


def test_an_interrupt_exits_130(tmp_path):
    code = (
        "import pytest_gpusim.cli.system as s\n"
        "def stop(*a): raise KeyboardInterrupt\n"
        "s._doctor = stop\n"
        "import sys, pytest_gpusim.cli as c\n"
        "sys.exit(c.main(['doctor']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 130
    assert done.stderr.strip() == "gpusim: interrupted"


INTERRUPT_AT_AN_IMPORT = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job of a shell ignores it
left = int(os.environ["AT_IMPORT"])

def look(event, arguments):
    global left
    if event == "import" and (left < int(os.environ["AT_IMPORT"]) or "gpusim" in arguments[0]):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGINT)

sys.addaudithook(look)
"""


def test_an_interrupt_is_quiet_whenever_it_comes(tmp_path, pytestconfig):
    """At the first import of ours, at the first that it makes, and far into them."""
    (tmp_path / "sitecustomize.py").write_text(INTERRUPT_AT_AN_IMPORT)
    path = f"{tmp_path}{os.pathsep}{pytestconfig.rootpath}"
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "pytest_gpusim", "doctor"],
            env={**os.environ, "PYTHONPATH": path, "AT_IMPORT": str(at)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
        )
        for at in (3, 4, 9, 60)
    ]  # fmt: skip
    for process in started:
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out) == (130, "")
        assert err == "gpusim: interrupted\n"


def test_an_interrupt_that_nothing_can_raise_comes_again(monkeypatch):
    class Dies:
        def __del__(self):
            raise KeyboardInterrupt

    def wait():  # in pieces: it ends no sleep
        for _ in range(1000):
            time.sleep(0.01)

    monkeypatch.setattr(sys, "unraisablehook", interrupted_elsewhere)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # as above
    try:
        Dies()
        with pytest.raises(KeyboardInterrupt):
            wait()
    finally:
        signal.signal(signal.SIGINT, before)
