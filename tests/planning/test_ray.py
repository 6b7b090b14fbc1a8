"""Sweeps on a real Ray cluster: two nodes on loopback, one of which is killed half way."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_gpusim.errors import EngineError
from pytest_gpusim.planning.ray_cluster import run_on_ray
from pytest_gpusim.planning.sweep import run_sweep
from pytest_gpusim.planning.workers import Outcome, run_here
from tests.planning.grids import csv_bytes, registry, write_grid

ray = pytest.importorskip("ray", reason="ray is not installed")
# A node of 80 MB of objects and one worker, in an environment without the host's proxies.
NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    root = Path(__file__).parents[2]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    made = Cluster(initialize_head=True, head_node_args=NODE)
    try:
        yield made
    finally:
        ray.shutdown()
        made.shutdown()


def test_a_killed_node_and_local_bytes(cluster: Any, tmp_path: Path) -> None:
    second = cluster.add_node(**{k: v for k, v in NODE.items() if k != "include_dashboard"})
    cluster.wait_for_nodes()
    rates = "[2.0, 1000.0, 4000.0, 9000.0]"
    grid, known = write_grid(tmp_path, rates=rates, seqs="[1, 2, 4, 8]"), registry()

    def killed_half_way(points: Any, out: Path) -> Iterator[Outcome]:
        for number, outcome in enumerate(run_on_ray(points, registry, out, cluster.address)):
            if number == len(points) // 4:
                cluster.remove_node(second, allow_graceful=False)
            yield outcome

    sweep = run_sweep(grid, known, tmp_path / "ray", killed_half_way)
    assert {row.status for row in sweep.rows} == {"done"}
    run_sweep(grid, known, tmp_path / "here", lambda points, out: run_here(points, known, out))
    assert csv_bytes(tmp_path / "ray") == csv_bytes(tmp_path / "here")


def test_no_cluster_is_said() -> None:
    with pytest.raises(EngineError, match="no cluster there"):
        next(run_on_ray([], registry, Path(), "127.0.0.1:1"))
