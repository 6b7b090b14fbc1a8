"""Fixtures for grids of simulations and the decisions taken from them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_gpusim.planning.decision import Decision
    from pytest_gpusim.planning.sweep import Sweep
    from pytest_gpusim.registry import Registry


@pytest.fixture
def gpusim_sweep(gpusim_registry: Registry, gpusim_artifacts: Path) -> Callable[..., Sweep]:
    """Call with a grid file: runs what is not done of it, in this process; returns the `Sweep`.

    ``out`` is its directory; by default it is named after the file, below the artifacts.
    """

    def run(grid: Path | str, *, out: Path | None = None) -> Sweep:
        from pytest_gpusim.planning.grid import read_grid
        from pytest_gpusim.planning.sweep import run_sweep
        from pytest_gpusim.planning.workers import run_here

        path = Path(grid)
        return run_sweep(
            read_grid(path),
            gpusim_registry,
            out or gpusim_artifacts / "sweeps" / path.stem,
            lambda points, place: run_here(points, gpusim_registry, place),
        )

    return run


@pytest.fixture
def gpusim_decisions(
    gpusim_registry: Registry, gpusim_artifacts: Path
) -> Callable[[Path | str], list[Decision]]:
    """Call with a decision file: a `Decision` by each objective, whose ``check`` judges regret."""

    def read(path: Path | str) -> list[Decision]:
        from pytest_gpusim.planning.decision_file import read_question

        store = gpusim_artifacts / "real_runs"
        return read_question(Path(path), gpusim_registry, store).decisions()

    return read
