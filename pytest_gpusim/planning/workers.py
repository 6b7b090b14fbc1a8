"""Points on this machine: in this process, or in several."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from itertools import islice
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

    Where a process dies (for want of memory, say), the points that were under way run again, each
    alone, and one fails whose own process has died so many times; the others go on.

    Args:
        points: What to run.
        registry: Makes the registry in each process; a function of a module, or a partial of one.
        out: Each run directory is ``out / key``.
        workers: How many processes.
    """
    left = {point.key: point for point in points}
    while left:
        try:
            for outcome in _pool(list(left.values()), registry, out, workers):
                del left[outcome.key]
                yield outcome
        except _ProcessDied as died:
            for key in died.under_way:
                yield _alone(left.pop(key), registry, out)


def _alone(point: Point, registry: Callable[[], Registry], out: Path) -> Outcome:
    for _ in range(_TRIES):
        with suppress(_ProcessDied):
            return next(_pool([point], registry, out, 1))
    return Outcome(point.key, f"its worker process died {_TRIES} times")


class _ProcessDied(Exception):
    def __init__(self, under_way: list[str]) -> None:
        super().__init__()
        self.under_way = under_way


def _pool(
    points: Sequence[Point], registry: Callable[[], Registry], out: Path, workers: int
) -> Iterator[Outcome]:
    # A fresh interpreter each: a copy of this one would share its threads' locks.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(
        min(workers, len(points)), context, initializer=_load, initargs=(registry,)
    )
    waiting = iter(points)
    running: dict[Future[Outcome], str] = {}
    try:
        while True:
            # One more than there are workers, so that none waits for the next.
            for point in islice(waiting, workers + 1 - len(running)):
                running[pool.submit(_run, point, out)] = point.key
            if not running:
                return
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                outcome = future.result()
                del running[future]
                yield outcome
    except BrokenProcessPool:
        raise _ProcessDied(list(running.values()) or [points[0].key]) from None
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
