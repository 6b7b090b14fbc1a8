"""What a simulation with Vidur needs, judged without a GPU, a network or Vidur's simulator."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

from extern.upstream import UPSTREAM_CHECKOUT, upstream_state
from pytest_gpusim.artifacts import package_version
from pytest_gpusim.errors import GpusimError
from pytest_gpusim.plugin.session import profiling_root_of
from pytest_gpusim.simulators.vidur.package import SUPPORTED_VERSIONS

pytestmark = pytest.mark.prereq


def test_vidur_is_installed_at_a_supported_version():
    assert find_spec("vidur") is not None, (
        "Vidur is not installed; pip install 'pytest-gpusim[vidur]'"
    )
    found = package_version("vidur")
    assert found in SUPPORTED_VERSIONS, (
        f"Vidur {found} is installed, supported is {', '.join(SUPPORTED_VERSIONS)}; "
        "pip install 'pytest-gpusim[vidur]'"
    )


def test_model_is_registered(gpusim_registry):
    shape = gpusim_registry.model("Qwen/Qwen3-0.6B")
    assert (shape.num_layers, shape.head_dim) == (28, 128)


def test_vidurs_configuration_can_be_imported():
    # Its simulator comes with torch's weight of packages; the configuration is a fraction of that.
    names = set(dir(import_module("vidur.config")))
    assert names >= {"SimulationConfig", "ReplicaConfig", "BaseModelConfig", "BaseDeviceSKUConfig"}


def test_profiling_root_is_usable(pytestconfig, gpusim_registry):
    from pytest_gpusim.bundle_checks.checks import check_root

    root = profiling_root_of(pytestconfig)
    if not root.is_named and not root.path.is_dir():
        pytest.skip(f"no profiling root was named, and the default {root.path} is absent")
    try:
        checks = check_root(root.path, registry=gpusim_registry)
    except GpusimError as error:
        pytest.fail(f"{root.source}: {error}", pytrace=False)
    failures = [f"{check.name}: {check.detail}" for check in checks if check.status == "fail"]
    if failures:
        pytest.fail("\n".join(failures), pytrace=False)


def test_generated_workload_is_valid(tmp_path):
    from pytest_gpusim.workload import read_workload
    from pytest_gpusim.workload.generate import generate_workload
    from pytest_gpusim.workload.presets import preset

    generate_workload(preset("poisson", "cpu"), tmp_path / "workload")
    assert len(read_workload(tmp_path / "workload").requests) == 24


def test_vidur_checkout_has_no_local_changes(pytestconfig):
    checkout = Path(pytestconfig.rootpath) / UPSTREAM_CHECKOUT
    state = upstream_state(checkout)
    if state in ("absent", "not checked out"):
        pytest.skip(f"{UPSTREAM_CHECKOUT}: {state}; 'make vidur-upstream' makes it")
    assert state.startswith("clean"), f"{UPSTREAM_CHECKOUT}: {state}; restore it with git checkout"
