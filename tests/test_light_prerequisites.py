"""``pytest -m prereq``: light, and honest about a root that was named."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_gpusim.case import Case, Settings, failing_prerequisites
from pytest_gpusim.registry import builtin_registry
from tests.bundle_checks.planting import scale_cell
from tests.factories import TINY, make_bundle, make_workload

OTHER = "Synthetic processor, 2 cores"
REPOSITORY = Path(__file__).parents[1]
SESSION = """
import json, sys
import pytest
code = pytest.main(["-m", "prereq", "-q", "-p", "no:cacheprovider", *sys.argv[1:]])
heavy = ("torch", "vllm", "vidur.simulator")
print(json.dumps([int(code), sorted({n for n in heavy if n in sys.modules})]))
"""


def prerequisites(*arguments, **environment):
    """Exit code, heavy modules that were imported, and the output, of a session of its own."""
    clean = {name: value for name, value in os.environ.items() if "GPUSIM" not in name}
    done = subprocess.run(
        [sys.executable, "-c", SESSION, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=REPOSITORY,
        env={**clean, **environment},
    )
    return *json.loads(done.stdout.splitlines()[-1]), done.stdout


def test_they_import_neither_engine_nor_simulator():
    # All that is marked, whatever this machine has: what fails here is not the point.
    _, heavy, output = prerequisites()
    assert "passed" in output
    assert heavy == []


@pytest.mark.parametrize("named_by", ["--profiling-root", "ini", "environment"])
def test_a_named_root_is_judged(tmp_path, named_by):
    file = "tests/test_vidur_sim_prereqs.py"
    make_bundle(tmp_path / "root" / "cpu" / "tiny" / "model", meta={"source": "vllm"})
    arguments, environment = [file, "-k", "profiling_root"], {}
    if named_by == "environment":
        environment["GPUSIM_PROFILING_ROOT"] = str(tmp_path / "root")
    elif named_by == "ini":
        arguments += ["-o", f"gpusim_profiling_root={tmp_path / 'root'}"]
    else:
        arguments += ["--profiling-root", tmp_path / "root"]
    assert prerequisites(*arguments, **environment)[:2] == (0, [])
    bundle = tmp_path / "root" / "cpu" / "tiny" / "model"
    scale_cell("mlp.csv", 0, "time_stats.emb.median", 2)(bundle)
    code, _, output = prerequisites(*arguments, **environment)
    assert code == 1
    assert "digest: " in output
    assert "make it again with 'gpusim profile vllm --model tiny/model --hardware cpu" in output


def test_a_named_root_that_is_empty_fails_with_the_command(tmp_path):
    file = "tests/test_vidur_sim_prereqs.py"
    code, _, output = prerequisites(file, "-k", "profiling_root", "--profiling-root", tmp_path)
    assert code == 1
    assert f"--profiling-root: {tmp_path}: has no bundle" in output
    assert "gpusim profile vllm --model MODEL --hardware HARDWARE" in output


@pytest.mark.parametrize("of", ["this machine", "another"])
def test_a_live_case_needs_a_bundle_of_this_very_processor(tmp_path, of):
    registry = builtin_registry()
    cpu = registry.hardware.get("cpu")
    meta = {"source": "vllm"}
    if of == "this machine":
        meta["device_name"] = cpu.present_device()
    make_bundle(tmp_path / "root" / "cpu" / "tiny" / "model", meta=meta)
    workload = make_workload(tmp_path / "workload", [(100, 10, 0)])
    case = Case(model=TINY, hardware=cpu, workload=workload.path)
    settings = Settings(registry, tmp_path / "artifacts", tmp_path / "root", real="live")
    found = failing_prerequisites(case, settings, asked_for=True)
    if of == "this machine":
        assert found == []
    else:
        (check,) = found
        assert check.name == "match"
        assert f"device_name: the bundle is of {OTHER!r}, asked for is" in check.detail
        assert "'gpusim profile vllm --model tiny/model --hardware cpu" in check.detail
