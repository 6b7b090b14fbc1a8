"""What the plugin knows in one session, and where a session finds its profiles."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from pytest_gpusim.registry import Registry

ENV_PROFILING_ROOT = "GPUSIM_PROFILING_ROOT"
DEFAULT_PROFILING_ROOT = "vidur_profiling"
COMPARISON_PROPERTY = "gpusim_comparison"


@dataclass
class State:
    """What the plugin knows in one session; kept in the config's stash."""

    registry: Registry
    artifacts: Path


STATE = pytest.StashKey[State]()


def find_profiling_root(config: pytest.Config) -> tuple[Path, str]:
    """The profiling root and where it was named: option, ini, environment, default."""
    here = config.invocation_params.dir
    if option := config.getoption("--profiling-root"):
        return here / option, "--profiling-root"
    if ini := config.getini("gpusim_profiling_root"):
        return config.rootpath / str(ini), "gpusim_profiling_root"
    if variable := os.environ.get(ENV_PROFILING_ROOT):
        return here / variable, ENV_PROFILING_ROOT
    return config.rootpath / "tmp" / DEFAULT_PROFILING_ROOT, "default"
