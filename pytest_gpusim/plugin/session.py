"""What the plugin knows in one session, and where a session finds its profiles."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from pytest_gpusim.places import ProfilingRoot, find_profiling_root
from pytest_gpusim.registry import Registry

COMPARISON_PROPERTY = "gpusim_comparison"


@dataclass
class State:
    """What the plugin knows in one session; kept in the config's stash."""

    registry: Registry
    artifacts: Path


STATE = pytest.StashKey[State]()


def profiling_root_of(config: pytest.Config) -> ProfilingRoot:
    """The session's profiling root, and where it was named."""
    return find_profiling_root(
        config.getoption("--profiling-root"),
        ini=str(config.getini("gpusim_profiling_root")),
        here=config.invocation_params.dir,
        base=config.rootpath,
    )
