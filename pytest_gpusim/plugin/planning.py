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
    """Call it as ``gpusim_sweep(grid, out=None)`` with the path of a grid file: runs the points
    that are not done yet in this process and returns the sweep (``rows``, ``failed``, ``path``).
    ``out`` is its directory, by default ``sweeps/<name of the file>`` below the artifacts.
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
    """Call it as ``gpusim_decisions(file)`` with the path of a decision file: returns a list with
    one decision per objective and load, each with ``verdict``, ``regret`` and ``check(regret=…)``.
    """

    def read(path: Path | str) -> list[Decision]:
        from pytest_gpusim.planning.decision_file import read_question

        store = gpusim_artifacts / "real_runs"
        return read_question(Path(path), gpusim_registry, store).decisions()

    return read
