"""Fixtures for data that others measured, and how property tests draw their examples."""

from __future__ import annotations

import importlib
import importlib.util
import os
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

import pytest_gpusim.simulators
from tests.vllm_forks import Forks, vllm_forks_in

# The same examples in every run, so that a change fails by its own fault alone; GPUSIM_TESTS_DRAW=N
# draws N new ones, to look for what is still wrong.
settings.register_profile("same", derandomize=True, deadline=None)
if drawn := os.environ.get("GPUSIM_TESTS_DRAW"):
    settings.register_profile("drawn", max_examples=int(drawn), deadline=None)
settings.load_profile("drawn" if drawn else "same")


# What sessions in this process would load: pytester unloads the modules that a session imported
# first, and some, numpy and Vidur's among them, do not even load twice.
_LOADED_ONCE = (
    "jinja2",
    "jsonschema",
    "matplotlib.backends.backend_svg",
    "matplotlib.figure",
    "pandas",
    "rich.table",
    "scipy.stats",
    "vidur.simulator",
    "pytest_gpusim.api",
    "pytest_gpusim.backends.archive",
    "pytest_gpusim.backends.recorded",
    "pytest_gpusim.bundle_checks.checks",
    "pytest_gpusim.report.charts",
    "pytest_gpusim.report.html",
    "pytest_gpusim.report.terminal",
)


@pytest.fixture(scope="session", autouse=True)
def no_columns() -> Iterator[None]:
    """Print as into a pipe: readline sets ``COLUMNS`` for children, xdist's workers among them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("COLUMNS", raising=False)
        yield


@pytest.fixture(scope="session")
def loaded_once() -> None:
    """Load `_LOADED_ONCE`, and what registers itself with Vidur."""
    simulators = pkgutil.walk_packages(
        pytest_gpusim.simulators.__path__, "pytest_gpusim.simulators."
    )
    vidur = importlib.util.find_spec("vidur") is not None
    for name in (*_LOADED_ONCE, *(module.name for module in simulators)):
        if vidur or "vidur" not in name.split("."):
            importlib.import_module(name)


@pytest.fixture
def pytester(
    loaded_once: None, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> pytest.Pytester:
    """pytest's own, made once `_LOADED_ONCE` is loaded; its sessions are no worker's of xdist."""
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    return pytester


@pytest.fixture(scope="session")
def vllm_forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    """A process in whose forks vLLM is imported; skips without vLLM."""
    if importlib.util.find_spec("vllm") is None:
        pytest.skip("vllm is not installed")
    with vllm_forks_in(tmp_path_factory.mktemp("vllm")) as forks:
        yield forks


def _shared_directory(variable: str, holds: str) -> Path:
    """The directory that ``variable`` names; skips without it (CI turns that into a failure)."""
    value = os.environ.get(variable)
    if value and Path(value).is_dir():
        return Path(value)
    reason = f"{variable} is {value or 'not set'}: set it to the directory that holds {holds}"
    pytest.skip(reason)


@pytest.fixture(scope="session")
def trace_data() -> Path:
    """The directory of public workload traces, ``GPUSIM_TRACE_DATA``."""
    return _shared_directory("GPUSIM_TRACE_DATA", "azure_llm_2023_conv.csv")


@pytest.fixture(scope="session")
def published_data() -> Path:
    """The directory of published runs, ``GPUSIM_PUBLISHED_DATA``."""
    return _shared_directory("GPUSIM_PUBLISHED_DATA", "rtx4090_llama-3.1-8b")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The directory with ``data`` and ``cases``, ``GPUSIM_SHARED_DATA``."""
    return _shared_directory("GPUSIM_SHARED_DATA", "cases")
