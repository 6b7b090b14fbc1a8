"""``pytest -m prereq``: light, and honest about a root that was named."""

from __future__ import annotations

import json
import os
import re
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
ROOT_FILE = "tests/test_vidur_sim_prereqs.py"
# Sessions one after another in a process that imported nothing before.
SESSIONS = """
import contextlib, io, json, os, sys
import pytest
heavy = ("torch", "vllm", "vidur.simulator")
found = {}
for name, (arguments, environment) in json.loads(sys.argv[1]).items():
    os.environ.update(environment)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        code = pytest.main(["-m", "prereq", "-q", "-p", "no:cacheprovider", *arguments])
    for key in environment:
        del os.environ[key]
    found[name] = [int(code), sorted({n for n in heavy if n in sys.modules}), said.getvalue()]
print(json.dumps(found))
"""
NAMED_BY = {
    "--profiling-root": lambda root: (["--profiling-root", root], {}),
    "ini": lambda root: (["-o", f"gpusim_profiling_root={root}"], {}),
    "environment": lambda root: ([], {"GPUSIM_PROFILING_ROOT": root}),
}


@pytest.fixture(scope="module")
def sessions(tmp_path_factory):
    """Exit code, heavy modules that were imported so far, and the output, of sessions by name."""
    place = tmp_path_factory.mktemp("roots")
    for root in ("good", "changed"):
        make_bundle(place / root / "cpu" / "tiny" / "model", meta={"source": "vllm"})
    change = scale_cell("mlp.csv", 0, "time_stats.emb.median", 2)
    change(place / "changed" / "cpu" / "tiny" / "model")
    (place / "empty").mkdir()
    asked = {"all": ([], {})}
    judged = [(by, root) for by in NAMED_BY for root in ("good", "changed")]
    for by, root in [*judged, ("--profiling-root", "empty")]:
        arguments, environment = NAMED_BY[by](str(place / root))
        asked[f"{by} {root}"] = [ROOT_FILE, "-k", "profiling_root", *arguments], environment
    done = subprocess.run(
        [sys.executable, "-c", SESSIONS, json.dumps(asked)],
        capture_output=True,
        text=True,
        check=True,
        cwd=REPOSITORY,
        env={name: value for name, value in os.environ.items() if "GPUSIM" not in name},
    )
    return json.loads(done.stdout.splitlines()[-1])


def test_they_import_neither_engine_nor_simulator(sessions):
    # All that is marked, whatever this machine has: what fails here is not the point.
    _, heavy, output = sessions["all"]
    assert "passed" in output
    assert heavy == []


@pytest.mark.parametrize("named_by", NAMED_BY)
def test_a_named_root_is_judged(sessions, named_by):
    assert sessions[f"{named_by} good"][:2] == [0, []]
    code, _, output = sessions[f"{named_by} changed"]
    assert code == 1
    assert "digest: " in output
    assert "make it again with 'gpusim profile vllm --model tiny/model --hardware cpu" in output


def test_a_named_root_that_is_empty_fails_with_the_command(sessions):
    code, _, output = sessions["--profiling-root empty"]
    assert code == 1
    assert re.search(r"--profiling-root: \S+/empty: has no bundle", output)
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
