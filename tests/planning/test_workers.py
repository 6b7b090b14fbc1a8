"""Worker processes of a sweep."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from pytest_gpusim.planning.point import Point
from pytest_gpusim.planning.workers import run_in_processes
from pytest_gpusim.registry import builtin_registry
from tests.factories import CPU, ENGINE, TINY

# What a sweep's parent does, but for its points: a worker is up, and says which process it is.
_PARENT = """
import multiprocessing, os, time
from concurrent.futures import ProcessPoolExecutor
from pytest_gpusim.planning.workers import _load
from pytest_gpusim.registry import builtin_registry

if __name__ == "__main__":
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(1, spawn, initializer=_load, initargs=(builtin_registry,))
    print(pool.submit(os.getpid).result(), flush=True)
    time.sleep(60)
"""


def test_a_worker_ends_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(_PARENT)
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        os.kill(parent.pid, signal.SIGKILL)
    deadline = time.monotonic() + 20
    while _lives(worker):
        assert time.monotonic() < deadline, "the worker outlives its parent"
        time.sleep(0.05)


class Deadly:
    """Ends the process that unpacks it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (1,)


def test_a_point_that_ends_its_process_takes_no_other_with_it(tmp_path: Path) -> None:
    # These end at once: their workload is nowhere.
    points = [
        Point(key, "reference", TINY, CPU, tmp_path / key, tmp_path, ENGINE, params)
        for key, params in (("a", {}), ("deadly", {"x": Deadly()}), ("b", {}), ("c", {}))
    ]
    found = {
        each.key: each.reason for each in run_in_processes(points, builtin_registry, tmp_path, 2)
    }
    assert found.pop("deadly") == "its worker process died 3 times"
    assert sorted(found) == ["a", "b", "c"]
    assert all("no such workload" in reason for reason in found.values()), found


def _lives(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
