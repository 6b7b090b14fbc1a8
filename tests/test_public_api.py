"""The names that users import, and a simulation and a comparison by them alone."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import pytest_gpusim
from pytest_gpusim import compare_results, read_run, simulate
from tests.case.bench import write_bench
from tests.case.recording import REQUESTS
from tests.factories import TINY, make_bundle, make_workload


def test_every_name_is_there_and_documented():
    assert len(pytest_gpusim.__all__) > 30
    for name in pytest_gpusim.__all__:
        found = getattr(pytest_gpusim, name)
        assert (found.__doc__ or "").strip(), name
        assert type(found).__name__ != "module", f"{name} is hidden by a module of that name"


@pytest.mark.parametrize("folder", ["", "deployment"])
def test_the_list_of_names_exports_each_by_as(folder):
    # Jedi, which completes in IPython and many editors, takes other names of a stub for private.
    stub = Path(pytest_gpusim.__file__).parent / folder / "__init__.pyi"
    imports = [
        each for each in ast.parse(stub.read_text()).body if isinstance(each, ast.ImportFrom)
    ]
    names = [(alias.name, alias.asname) for each in imports for alias in each.names]
    assert len(names) > 3
    assert [name for name, exported in names if exported != name] == []


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nothing"):
        pytest_gpusim.nothing  # noqa: B018


def test_importing_the_package_imports_nothing_of_it():
    code = (
        "import sys, pytest_gpusim\n"
        "print([m for m in sys.modules if m.startswith('pytest_gpusim.')])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_simulate_and_compare(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # what is imported goes below its tmp/
    workload = make_workload(tmp_path / "workload", REQUESTS)
    bundle = make_bundle(tmp_path / "profile")
    run = simulate(workload.path, bundle.path, simulator="reference", out=tmp_path / "run")
    assert read_run(tmp_path / "run").run_id == run.run_id
    result = write_bench(run, tmp_path / "result.json", TINY.name)
    found = compare_results(
        [str(result)], run, tolerances={"ttft_p50": 0.1}, out=tmp_path / "comparison"
    )
    assert [item.name for item in found.judgements] == ["ttft_p50"]
    assert (tmp_path / "comparison" / "report.html").exists()
