"""Names that a user types, and what a plugin may add to them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pytest_gpusim.deployment import Hardware
from pytest_gpusim.errors import EngineError, UsageError
from pytest_gpusim.providers import SimulationInputs
from pytest_gpusim.registry import Registry, builtin_registry
from tests.factories import TINY


def test_looking_at_the_registry_imports_nothing_heavy() -> None:
    code = (
        "import sys; from pytest_gpusim.registry import builtin_registry; builtin_registry();"
        "print(sorted({'pandas', 'numpy', 'torch', 'vidur', 'vllm'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("table", "known"),
    [
        ("simulators", "reference, vidur"),
        ("backends", "vllm"),
        ("hardware", "a100"),
        ("profile_sources", "vllm"),
        ("workload_importers", "azure"),
    ],
)
def test_an_unknown_name_is_told_the_known_ones(table: str, known: str) -> None:
    with pytest.raises(UsageError, match=r"unknown .* 'nonesuch'; known are ") as caught:
        getattr(builtin_registry(), table).get("nonesuch")
    assert known in str(caught.value)


def test_every_builtin_workload_importer_resolves() -> None:
    registry = builtin_registry()
    for kind in registry.workload_importers.names():
        assert callable(registry.workload_importers.get(kind))


def test_what_a_plugin_registers_is_found() -> None:
    def simulate(inputs: SimulationInputs) -> None:
        inputs.out_dir.mkdir()

    def import_trace(file: Path, out: Path, options: Mapping[str, Any]) -> None:
        out.write_text(file.read_text())

    registry = builtin_registry()
    registry.add_simulator("toy", simulate)
    registry.add_importer("toy", import_trace, produces="workload")
    registry.add_importer("toy", lambda files, out: None)
    registry.add_hardware(Hardware("abacus", "cpu", "abacus", memory_gb=1, fp16_tflops=1))
    registry.add_model(TINY)
    assert registry.simulators.get("toy").load() is simulate
    assert registry.workload_importers.get("toy") is import_trace
    assert registry.run_importers.get("toy") is not import_trace
    assert registry.hardware.get("abacus").name == "abacus"
    assert registry.model("tiny/model") is TINY


def test_a_path_is_resolved_on_first_use() -> None:
    registry = Registry()
    registry.add_simulator("dumps", "json:dumps")
    assert registry.simulators.get("dumps").load() is json.dumps


@pytest.mark.parametrize("path", ["no_such_module:x", "json:no_such_attribute"])
def test_a_path_that_leads_nowhere_is_one_line(path: str) -> None:
    registry = Registry()
    registry.add_simulator("broken", path)
    with pytest.raises(EngineError, match="simulator 'broken' cannot be loaded"):
        registry.simulators.get("broken").load()


def test_a_name_is_registered_once() -> None:
    registry = builtin_registry()
    with pytest.raises(UsageError, match="simulator 'vidur' is registered twice"):
        registry.add_simulator("vidur", lambda inputs: None)
    with pytest.raises(UsageError, match="produces is 'run' or 'workload'"):
        registry.add_importer("x", lambda files, out: None, produces="both")  # type: ignore[arg-type]


def test_a_model_goes_by_name_or_by_path(tmp_path: Path) -> None:
    registry = builtin_registry()
    assert registry.model("Qwen/Qwen3-0.6B").head_dim == 128
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(TINY.to_hf_config()))
    assert registry.model(str(folder)).num_layers == TINY.num_layers
    assert registry.model(str(folder / "config.json")).name == "mine"
    with pytest.raises(UsageError, match=r"unknown model 'nobody/nothing'; known are .*Qwen3-0.6B"):
        registry.model("nobody/nothing")
    with pytest.raises(UsageError, match=r"model no/config.json: no such file"):
        registry.model("no/config.json")


def test_a_name_that_no_file_can_have_is_no_model() -> None:
    with pytest.raises(UsageError, match="unknown model '999"):
        builtin_registry().model("9" * 5000)
