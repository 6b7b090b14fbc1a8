"""Points on this machine: in this process, or in several."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import NamedTuple

from pytest_gpusim.errors import InputError
from pytest_gpusim.planning.figures import run_figures
from pytest_gpusim.planning.point import Point, run_point
from pytest_gpusim.registry import Registry

_TRIES = 3


class Outcome(NamedTuple):
    """What became of a point.

    Attributes:
        key: Its key.
        reason: Why it failed; empty where it did not.
        figures: See `figures.FIGURES`, where who ran it has read them; None: read them of the run.
    """

    key: str
    reason: str = ""
    figures: Mapping[str, float | int | None] | None = None


def run_here(points: Sequence[Point], registry: Registry, out: Path) -> Iterator[Outcome]:
    """Run points one after another; each run directory is ``out / key``."""
    for point in points:
        yield Outcome(point.key, run_point(point, registry, out / point.key))


def run_in_processes(
    points: Sequence[Point], registry: Callable[[], Registry], out: Path, workers: int
) -> Iterator[Outcome]:
    """Run points in ``workers`` processes, in any order.

    Where a process dies (for want of memory, say), what had not ended runs again in new ones, and
    fails after so many deaths.

    Args:
        points: What to run.
        registry: Makes the registry in each process; a function of a module, or a partial of one.
        out: Each run directory is ``out / key``.
        workers: How many processes.
    """
    left = {point.key: point for point in points}
    for _ in range(_TRIES if left else 0):
        try:
            for outcome in _pool(list(left.values()), registry, out, workers):
                del left[outcome.key]
                yield outcome
            return
        except BrokenProcessPool:
            continue
    for key in left:
        yield Outcome(key, f"a worker process died {_TRIES} times over it or its neighbours")


def _pool(
    points: Sequence[Point], registry: Callable[[], Registry], out: Path, workers: int
) -> Iterator[Outcome]:
    # A fresh interpreter each: a copy of this one would share its threads' locks.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(
        min(workers, len(points)), context, initializer=_load, initargs=(registry,)
    )
    try:
        running: set[Future[Outcome]] = {pool.submit(_run, point, out) for point in points}
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_registry: Registry | None = None


def _load(registry: Callable[[], Registry]) -> None:
    global _registry
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _registry = registry()


def _end_with_parent() -> None:
    """A pool's workers hold both ends of its queue: of a parent that was killed they never hear."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)


def _run(point: Point, out: Path) -> Outcome:
    assert _registry is not None
    reason = run_point(point, _registry, out / point.key)
    # Read here, where others run beside it.
    return Outcome(point.key, reason, None if reason else _figures(out / point.key))


def _figures(run: Path) -> Mapping[str, float | int | None] | None:
    try:
        return run_figures(run)
    except InputError:
        return None  # whoever asks for them is told
