"""``gpusim sweep``: many simulations, and what to decide from them."""

from __future__ import annotations

import argparse
import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_gpusim.artifacts import DEFAULT_ROOT
from pytest_gpusim.cli.common import Subparsers, add_json, print_json
from pytest_gpusim.errors import UsageError
from pytest_gpusim.registry import Registry

if TYPE_CHECKING:
    from pytest_gpusim.planning.sweep import Execute


def add_commands(commands: Subparsers, registry: Registry) -> None:
    """Declare the commands of this module."""
    sweep = commands.add_parser("sweep", help="a grid of simulations, as one table")
    sweep.add_argument("grid", type=Path, metavar="GRID.toml", help="every list in it is an axis")
    add_workers(sweep)
    sweep.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help=f"absent, or a sweep to add to (default: by the grid's name, below {_ROOT})",
    )
    add_json(sweep)
    sweep.set_defaults(run=_sweep)


_ROOT = DEFAULT_ROOT / "sweeps"


def add_workers(parser: argparse.ArgumentParser) -> None:
    """``--workers`` and ``--ray``."""
    parser.add_argument(
        "--workers", type=int, metavar="N", help="processes here (default: one a core)"
    )
    parser.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="run on a Ray cluster instead (auto, HOST:PORT, ray://…); needs pytest-gpusim[ray]",
    )


def executor(options: argparse.Namespace, registry: Registry) -> Execute:
    """How points are run, by ``--workers`` and ``--ray``."""
    from pytest_gpusim.cli.plugins import load_registry
    from pytest_gpusim.planning.workers import run_here, run_in_processes

    make = partial(load_registry, tuple(options.plugins))
    if options.ray:
        if options.workers is not None:
            raise UsageError("--workers and --ray: give one of them")
        from pytest_gpusim.planning.ray_cluster import run_on_ray

        return lambda points, out: run_on_ray(points, make, out, options.ray)
    workers = options.workers if options.workers is not None else os.cpu_count() or 1
    if workers < 1:
        raise UsageError(f"--workers {workers}: expected at least 1")
    if workers == 1:
        return lambda points, out: run_here(points, registry, out)
    return lambda points, out: run_in_processes(points, make, out, workers)


def _sweep(options: argparse.Namespace, registry: Registry) -> int:
    from pytest_gpusim.planning.grid import read_grid
    from pytest_gpusim.planning.sweep import TABLE, run_sweep

    grid = read_grid(options.grid)
    out = options.out or _ROOT / options.grid.stem
    sweep = run_sweep(
        grid,
        registry,
        out,
        executor(options, registry),
        say=lambda line: print(line, file=sys.stderr, flush=True),
    )
    for row in sweep.failed:
        place = ", ".join(f"{name}={value}" for name, value in row.place.items())
        print(f"gpusim: {place or 'the point'}: {row.reason}", file=sys.stderr)
    if options.json:
        print_json(sweep.to_json())
    else:
        print((out / TABLE).read_text(encoding="utf-8"), end="")
        print(out)
    return 1 if sweep.failed else 0
