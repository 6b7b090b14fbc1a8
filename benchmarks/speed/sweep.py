"""``python -m benchmarks.speed.sweep``: a sweep in several processes against one.

Runs the same grid in this process and in ``--workers`` ones, in pairs, each time from nothing, and
prints the median of the pairs' ratios. Reads no clock but its own: run it on an idle machine.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

from pytest_gpusim.planning.grid import Grid, read_grid
from pytest_gpusim.planning.sweep import Execute, run_sweep
from pytest_gpusim.planning.workers import run_here, run_in_processes
from tests.factories import ENGINE, TINY, make_bundle
from tests.planning.grids import registry


def main() -> None:
    """Print seconds of each pair, and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=200)
    parser.add_argument("--requests", type=int, default=400, help="of each point")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=3)
    options = parser.parse_args()
    known, ratios = registry(), []
    with tempfile.TemporaryDirectory() as scratch:
        grid = _grid(Path(scratch), options.points, options.requests)
        for pair in range(options.pairs):
            one = _seconds(
                grid, Path(scratch) / f"one{pair}", lambda points, out: run_here(points, known, out)
            )
            several = _seconds(
                grid,
                Path(scratch) / f"several{pair}",
                lambda points, out: run_in_processes(points, registry, out, options.workers),
            )
            ratios.append(one / several)
            print(f"{one:8.1f} s in one process, {several:8.1f} s in {options.workers}")
    print(f"{options.points} points: {median(ratios):.2f} times as fast, median of {len(ratios)}")


def _seconds(grid: Grid, out: Path, execute: Execute) -> float:
    start = time.perf_counter()
    sweep = run_sweep(grid, registry(), out, execute)
    assert not sweep.failed
    return time.perf_counter() - start


def _grid(folder: Path, points: int, requests: int) -> Grid:
    """Rates times seats: half of the points wait, half do not."""
    make_bundle(folder / "bundle")
    rates = [round(50 * 1.05**k, 3) for k in range(points // 2)]
    settings = {k: v for k, v in ENGINE.to_json().items() if k != "max_num_seqs"}
    engine = "\n".join(f"{key} = {_toml(value)}" for key, value in settings.items())
    (folder / "grid.toml").write_text(
        f'model = "{TINY.name}"\nhardware = "cpu"\nsimulator = "reference"\nprofile = "bundle"\n'
        f'[load]\narrivals = "poisson"\nrequests = {requests}\nrate = {rates}\n'
        f'prefill = "16:200"\ndecode = "8:40"\n[engine]\n{engine}\nmax_num_seqs = [4, 16]\n'
    )
    return read_grid(folder / "grid.toml")


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)


if __name__ == "__main__":
    main()
