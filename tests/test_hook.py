"""The hook: what a plugin registers is used by name, from pytest and from a shell."""

from __future__ import annotations

from pytest_gpusim.cli import main
from pytest_gpusim.runs import read_run
from tests.factories import TINY, make_bundle, make_workload
from tests.toyplugin import STEP_NS


def test_a_registered_simulator_runs_in_a_session(pytester, tmp_path):
    make_bundle(tmp_path / "bundle")
    make_workload(tmp_path / "workload", [(10, 3, 0), (5, 2, 7)])
    pytester.makeconftest("from tests.toyplugin import pytest_gpusim_register")
    pytester.makepyfile(
        f"""
        def test_toy(vidur_runner, gpusim_registry):
            run = vidur_runner(
                model="{TINY.name}", hardware="cpu", simulator="toy",
                workload={str(tmp_path / "workload")!r},
            )
            assert run.requests["ttft_ns"].tolist() == [{STEP_NS}, {STEP_NS}]
            assert "toy" in gpusim_registry.run_importers.names()
        """
    )
    result = pytester.runpytest_inprocess("--profiling-root", str(tmp_path / "bundle"))
    result.assert_outcomes(passed=1)


def test_a_registered_simulator_runs_from_a_shell(tmp_path, capsys):
    make_bundle(tmp_path / "bundle")
    make_workload(tmp_path / "workload", [(10, 3, 0)])
    code = main(
        [
            *("-p", "tests.toyplugin", "simulate", "--model", TINY.name, "--hardware", "cpu"),
            *("--simulator", "toy", "--workload", str(tmp_path / "workload")),
            *("--profiling-root", str(tmp_path / "bundle"), "--out", str(tmp_path / "out")),
        ]
    )
    assert code == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "out")
    assert read_run(tmp_path / "out").tokens["token_time_ns"].tolist() == [
        STEP_NS,
        2 * STEP_NS,
        3 * STEP_NS,
    ]


def test_a_registered_importer_runs_from_a_shell(tmp_path, capsys):
    (tmp_path / "result.txt").write_text("0 10 30\n5 25 35\n")
    code = main(
        [
            *("-p", "tests.toyplugin", "import-run", "toy", str(tmp_path / "result.txt")),
            *("--out", str(tmp_path / "run")),
        ]
    )
    assert code == 0
    run = read_run(tmp_path / "run")
    assert run.requests["ttft_ns"].tolist() == [10, 20]
    assert run.tokens is None


def test_a_registered_importer_is_used_from_a_session(pytester):
    (pytester.path / "result.txt").write_text("0 10 30\n5 25 35\n")
    pytester.makeconftest("from tests.toyplugin import pytest_gpusim_register")
    pytester.makepyfile(
        """
        from pathlib import Path
        from pytest_gpusim.runs import read_run

        def test_toy(gpusim_registry, gpusim_artifacts):
            out = gpusim_artifacts / "real_runs" / "toy"
            gpusim_registry.run_importers.get("toy")([Path("result.txt")], out)
            assert read_run(out).requests["ttft_ns"].tolist() == [10, 20]
        """
    )
    pytester.runpytest_inprocess().assert_outcomes(passed=1)


def test_a_conftest_of_a_subdirectory_registers_too(pytester):
    folder = pytester.mkdir("inner")
    (folder / "conftest.py").write_text("from tests.toyplugin import pytest_gpusim_register\n")
    (folder / "test_inner.py").write_text(
        "def test_toy(gpusim_registry):\n    assert 'toy' in gpusim_registry.simulators.names()\n"
    )
    pytester.runpytest_inprocess().assert_outcomes(passed=1)


def test_a_name_registered_twice_is_a_usage_error(pytester):
    pytester.makeconftest(
        """
        def pytest_gpusim_register(registry):
            registry.add_simulator("vidur", "somewhere:else")
        """
    )
    pytester.makepyfile("def test_nothing(): pass")
    result = pytester.runpytest_inprocess()
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*simulator 'vidur' is registered twice"])


def test_a_missing_plugin_module_is_a_usage_error(capsys):
    assert main(["-p", "no_such_module", "doctor"]) == 2
    assert capsys.readouterr().err.startswith("gpusim: -p no_such_module: cannot be imported")


def test_a_plugin_given_as_a_file_is_told_what_to_name(capsys):
    assert main(["-p", "plugins/mine.py", "doctor"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("name the module, with its folder on PYTHONPATH: -p mine")


def test_a_broken_plugin_module_is_a_usage_error(capsys, tmp_path, monkeypatch):
    (tmp_path / "broken_plugin.py").write_text("def f(:\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["-p", "broken_plugin", "doctor"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("gpusim: -p broken_plugin: cannot be imported: SyntaxError")
