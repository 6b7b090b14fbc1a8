"""``gpusim sweep``: many simulations, and what to decide from them."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_gpusim.artifacts import DEFAULT_ROOT, new_id
from pytest_gpusim.cli.common import (
    Subparsers,
    add_engine,
    add_fleet,
    add_json,
    add_model_and_hardware,
    add_params,
    add_profiling_root,
    engine_of,
    model_of,
    params_of,
    print_json,
)
from pytest_gpusim.errors import UsageError
from pytest_gpusim.json_documents import write_json
from pytest_gpusim.places import find_profiling_root
from pytest_gpusim.printing import print_lines, printed_width, terminal_width
from pytest_gpusim.registry import Registry

if TYPE_CHECKING:
    from pytest_gpusim.planning.capacity import MakePoint
    from pytest_gpusim.planning.search import Axis
    from pytest_gpusim.planning.sweep import Execute, Row
    from pytest_gpusim.workload.generate import WorkloadSpec


def add_commands(commands: Subparsers, registry: Registry) -> None:
    """Declare the commands of this module."""
    sweep = commands.add_parser("sweep", help="run a grid of simulations into one table")
    sweep.add_argument(
        "grid", type=Path, metavar="GRID.toml", help="the grid; every list in it is an axis"
    )
    add_workers(sweep)
    sweep.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help=f"absent, or a sweep to add to (default: by the grid's name, below {_ROOT})",
    )
    add_json(sweep)
    sweep.set_defaults(run=_sweep)

    capacity = commands.add_parser(
        "capacity", help="find the highest load at which latency limits hold"
    )
    add_model_and_hardware(capacity)
    add_profiling_root(capacity)
    capacity.add_argument(
        "--profile", type=Path, metavar="BUNDLE", help="one bundle, instead of a profiling root"
    )
    add_engine(capacity)
    capacity.add_argument(
        "--slo",
        required=True,
        metavar="NAME=TIME,…",
        help="limits, such as ttft_p90=500ms,tpot_p90=40ms; without statistics, of each request",
    )
    capacity.add_argument(
        "--share",
        type=float,
        metavar="F",
        help="share of requests within limits (default: 0.9)",
    )
    load = capacity.add_argument_group("the load, at any rate or from any number of clients")
    load.add_argument(
        "--workload", type=Path, metavar="DIR", help="an existing workload, at other rates"
    )
    load.add_argument(
        "--arrivals",
        choices=("poisson", "burst", "fixed", "closed"),
        help="how requests arrive (default: poisson); closed: from clients that wait for answers, "
        "and their number is searched",
    )
    load.add_argument(
        "--max-clients",
        type=int,
        metavar="N",
        help="most clients of --arrivals closed (default: --requests)",
    )
    load.add_argument("--requests", type=int, metavar="N", help="requests of each simulation")
    load.add_argument("--prefill", metavar="N|MIN:MAX", help="prompt tokens")
    load.add_argument("--decode", metavar="N|MIN:MAX", help="output tokens, the first included")
    load.add_argument(
        "--lengths-from", type=Path, metavar="CSV", help="take the lengths from a trace"
    )
    load.add_argument(
        "--seeds", type=int, default=5, metavar="K", help="number of seeds (default: 5)"
    )
    capacity.add_argument(
        "--precision",
        type=float,
        default=0.02,
        metavar="F",
        help="relative precision of the search (default: 0.02)",
    )
    capacity.add_argument(
        "--simulator", default="vidur", help=", ".join(registry.simulators.names())
    )
    add_fleet(capacity)
    add_params(capacity, registry.simulators)
    add_workers(capacity)
    capacity.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="a new directory, or that of a search to continue (default: a new one below "
        f"{DEFAULT_ROOT / 'capacity'})",
    )
    add_json(capacity)
    capacity.set_defaults(run=_capacity)


_ROOT = DEFAULT_ROOT / "sweeps"


def add_workers(parser: argparse.ArgumentParser) -> None:
    """``--workers`` and ``--ray``."""
    parser.add_argument(
        "--workers", type=int, metavar="N", help="local processes (default: one per core)"
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
    from pytest_gpusim.planning.sweep_page import PAGE, sweep_lines, write_sweep_page

    grid = read_grid(options.grid)
    out = options.out or _ROOT / options.grid.stem
    sweep = run_sweep(
        grid,
        registry,
        out,
        executor(options, registry),
        say=_to_stderr,
    )
    write_sweep_page(sweep, out / PAGE)
    by_reason: dict[str, list[Row]] = {}
    for row in sweep.failed:
        by_reason.setdefault(row.reason, []).append(row)
    for reason, rows in by_reason.items():
        place = ", ".join(f"{name}={value}" for name, value in rows[0].place.items())
        more = f" and {len(rows) - 1} other points" if len(rows) > 1 else ""
        print(f"gpusim: {place or 'the point'}{more}: {reason}", file=sys.stderr)
    if options.json:
        print_json(sweep.to_json())
    else:
        if sys.stdout.isatty():
            print_lines(sweep_lines(sweep, terminal_width()))
        else:
            print((out / TABLE).read_text(encoding="utf-8"), end="")
        print(out)
    return 1 if sweep.failed else 0


def _capacity(options: argparse.Namespace, registry: Registry) -> int:
    from pytest_gpusim.planning.capacity import CHART, DOCUMENT, PAGE, Simulations, find_capacity
    from pytest_gpusim.planning.capacity_page import write_capacity_page
    from pytest_gpusim.planning.charts import draw_curve
    from pytest_gpusim.planning.slo import parse_limits
    from pytest_gpusim.planning.sweep import points_of

    limits = parse_limits(options.slo, options.share)
    if not 0 < options.precision < 1:
        raise UsageError(f"--precision {options.precision}: expected a fraction between 0 and 1")
    out = options.out or DEFAULT_ROOT / "capacity" / new_id("capacity")
    with points_of(out) as runs:
        make, axis, seeds = _loads(options, registry, out / "workloads")
        execute = executor(options, registry)
        simulations = Simulations(make, limits, axis, seeds, execute, runs, _to_stderr)
        found = find_capacity(simulations)
        write_json(out / DOCUMENT, found.to_json())
        if found.curve:
            draw_curve(found, out / CHART)
        write_capacity_page(found, _source(options), out / PAGE)
    if options.json:
        print_json(found.to_json())
    else:
        print_lines(found.lines(printed_width()))
        print(out)
    return 0


def _source(options: argparse.Namespace) -> dict[str, str]:
    """What a capacity is of, in the words of its command line."""
    names = ("model", "hardware", "engine", "profile", "profiling_root", "simulator", "workload",
             "arrivals", "requests", "prefill", "decode", "lengths_from", "seeds", "precision",
             "replicas", "router", "param")  # fmt: skip
    found = {name: getattr(options, name, None) for name in names}
    return {name.replace("_", " "): str(value) for name, value in found.items() if value}


def _to_stderr(line: str) -> None:
    print(f"gpusim: {line}", file=sys.stderr, flush=True)


def _loads(
    options: argparse.Namespace, registry: Registry, store: Path
) -> tuple[MakePoint, Axis, Sequence[int]]:
    """The point of a load and a seed, what a load is, and the seeds."""
    from pytest_gpusim.bundle import read_bundle, resolve_root
    from pytest_gpusim.planning.loads import at_rate, from_clients, generated
    from pytest_gpusim.planning.point import Point
    from pytest_gpusim.workload import read_workload

    registry.simulators.require(options.simulator)
    model, hardware = model_of(options, registry), registry.hardware.get(options.hardware)
    engine = engine_of(options)
    root = options.profile or find_profiling_root(options.profiling_root).path
    bundle = read_bundle(resolve_root(root, model.name, hardware.name, engine))
    params = params_of(options)
    if options.workload is not None:
        _require_its_own(options)
        given, seeds = read_workload(options.workload), [0]
    else:
        given, seeds = None, list(range(options.seeds))
        spec = _spec(options)
    if not seeds:
        raise UsageError(f"--seeds {options.seeds}: expected at least 1")

    closed = options.arrivals == "closed"

    def make(load: float, seed: int) -> Point:
        if given is None:
            workload = generated(spec, load, seed, store)
        elif closed:
            workload = from_clients(given, int(load), store)
        else:
            workload = at_rate(given, load, store)
        return Point.of(options.simulator, model, hardware, workload, bundle, engine, params)

    requests = len(given.requests) if given else options.requests
    return make, _axis(options, requests), seeds


def _require_its_own(options: argparse.Namespace) -> None:
    """A workload that exists has its requests and the pattern of its arrivals."""
    for name in ("requests", "prefill", "decode", "lengths_from"):
        if getattr(options, name) is not None:
            option = name.replace("_", "-")
            raise UsageError(f"--{option}: is of a load that is generated, leave --workload out")
    if options.arrivals not in (None, "closed"):
        raise UsageError(f"--arrivals {options.arrivals}: a workload has its own; closed is for it")


def _axis(options: argparse.Namespace, requests: int) -> Axis:
    from pytest_gpusim.planning.search import Clients, Rates

    if options.arrivals != "closed":
        if options.max_clients is not None:
            raise UsageError("--max-clients: is of --arrivals closed")
        return Rates(options.precision)
    most = requests if options.max_clients is None else options.max_clients
    if not 1 <= most <= requests:
        raise UsageError(f"--max-clients {most}: expected 1 to {requests}, as there are requests")
    return Clients(float(most), options.precision)


def _spec(options: argparse.Namespace) -> WorkloadSpec:
    from pytest_gpusim.workload.generate import Lengths, WorkloadSpec

    if options.requests is None:
        raise UsageError("capacity: give --requests, and --prefill and --decode; or --workload")
    if options.lengths_from is None and not (options.prefill and options.decode):
        raise UsageError("capacity: give --prefill and --decode, or --lengths-from")
    closed = options.arrivals == "closed"
    spec = WorkloadSpec(
        arrivals=options.arrivals or "poisson",
        requests=options.requests,
        rate=None if closed else 1.0,
        seed=0,
        concurrency=1 if closed else None,
        prefill=Lengths.parse(options.prefill or "1", "--prefill"),
        decode=Lengths.parse(options.decode or "1", "--decode"),
        lengths_from=options.lengths_from,
    )
    spec.check()
    return spec
