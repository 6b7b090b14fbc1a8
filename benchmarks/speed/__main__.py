"""``python -m benchmarks.speed``: what start-up, a comparison, a page and a large simulation cost.

Each is given beside what the same machine takes, in the same run, for something everybody has: an
empty pytest, pandas reading the same files. Seconds are of processor time; read the ratios.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from statistics import median, quantiles
from typing import Any, NamedTuple

from pytest_gpusim.providers import SimulationInputs
from tests.factories import CPU, ENGINE, TINY, make_bundle, make_workload

PAIRS = 15
"""Of an empty pytest with and without the plugin, in turn."""
TABLES = ("request_metrics.csv", "token_metrics.csv")
ROOT = Path(__file__).parents[2]
OWN = ("pytest_gpusim", "benchmarks", "tests")


def main() -> None:
    """Print the table, or that of one simulation in detail."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--tokens", type=int, default=200, help="output tokens per request")
    parser.add_argument("--simulator", default="reference", choices=("reference", "vidur"))
    parser.add_argument("--only-memory", action="store_true", help="the simulation's rows alone")
    parser.add_argument("--plain", action="store_true", help="not also with --compress")
    parser.add_argument("--only-simulate", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--compress", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only_simulate:
        simulate(options)
        return
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores")
    print("| what | takes | beside it | ratio |")
    print("| --- | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        if not options.only_memory:
            start_up(place / "project")
            prerequisites(place)
        large(place, options)
        if not options.only_memory:
            compare(place / "large" / "run")
            options.requests, options.tokens = 10_000, 20
            subprocess.run(_simulation(place / "page", options), check=True)
            page(place / "page" / "run")


def row(what: str, own: float, beside: str, other: float, unit: str = "s") -> None:
    """One line of the table."""
    print(
        f"| {what} | {own:.3g} {unit} | {beside}: {other:.3g} {unit} | {own / other:.2f} |",
        flush=True,
    )


def start_up(project: Path) -> None:
    """``pytest --collect-only`` of a project that does not use the plugin, with and without it."""
    project.mkdir()
    (project / "test_empty.py").write_text("def test_nothing(): pass\n")
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]
    command += ["-p", "no:anyio", "-p", "no:hypothesispytest"]
    environment = compiled_once()

    def session(*more: str) -> float:
        return measured([*command, *more], cwd=project, env=environment).seconds

    session()  # what is compiled on first use
    session("-p", "no:gpusim")
    pairs = [(session(), session("-p", "no:gpusim")) for _ in range(PAIRS)]
    own, other = median(a for a, _ in pairs), median(b for _, b in pairs)
    row("collect-only, another project", own, "without the plugin", other)
    low, middle, high = (1000 * each for each in quantiles([a - b for a, b in pairs], n=4))
    said = f"{middle:.0f} ms (quartiles {low:.0f} to {high:.0f})"
    print(f"| the same, what the plugin adds | {said} | | |", flush=True)


def prerequisites(place: Path) -> None:
    """``pytest -m prereq`` of the benchmarks: as after cloning, then again."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "benchmarks"]
    environment = {**compiled_once(), "XDG_CACHE_HOME": str(place), "MPLCONFIGDIR": str(place)}

    def session(*more: str) -> float:
        arguments = [*command, *more, "--gpusim-artifacts", str(place / "artifacts")]
        return measured(arguments, cwd=ROOT, env=environment).seconds

    for compiled in [each for name in OWN for each in (ROOT / name).rglob("__pycache__")]:
        shutil.rmtree(compiled)
    first = session("-m", "prereq")
    pairs = [(session("-m", "prereq"), session("--collect-only")) for _ in range(3)]
    own, other = median(a for a, _ in pairs), median(b for _, b in pairs)
    row("`-m prereq`, the first time", first, "collecting the same", other)
    row("`-m prereq`", own, "collecting the same", other)


def large(place: Path, options: argparse.Namespace) -> None:
    """Peak memory of a whole simulation in a process of its own, and its tables on disk."""
    tokens = options.requests * options.tokens
    plain = measured(_simulation(place / "large", options))
    size = sum(path.stat().st_size for path in (place / "large" / "run").iterdir()) / 1e6
    row(f"memory of {tokens:,} simulated tokens", plain.peak, "its tables", size, "MB")
    if not options.plain:
        compressed = measured([*_simulation(place / "packed", options), "--compress"])
        packed = sum(path.stat().st_size for path in (place / "packed" / "run").iterdir()) / 1e6
        row("its tables with `--compress`", packed, "plain", size, "MB")
        said = f"{compressed.peak:.0f} MB, {compressed.seconds:.3g} s"
        print(f"| the same, memory and time | {said} | | |", flush=True)
    # Last: a process that is started has the peak of the one that starts it.
    bare = timed(lambda: read_bare(place / "large" / "run"))
    row("the plain one, time of the whole process", plain.seconds, "pandas reads its tables", bare)


def _simulation(place: Path, options: argparse.Namespace) -> list[str]:
    command = [sys.executable, "-m", "benchmarks.speed", "--only-simulate", str(place)]
    command += ["--requests", str(options.requests), "--tokens", str(options.tokens)]
    return [*command, "--simulator", options.simulator]


def simulate(options: argparse.Namespace) -> None:
    """The simulation of `large`."""
    from pytest_gpusim.case import run_simulator
    from pytest_gpusim.registry import builtin_registry

    place = options.only_simulate
    bundle = make_bundle(place / "bundle")
    arrivals = [(64, options.tokens, 5_000_000 * number) for number in range(options.requests)]
    workload = make_workload(place / "workload", arrivals)
    inputs = SimulationInputs(
        TINY, CPU, workload, bundle, ENGINE, place / "run", compress=options.compress
    )
    run_simulator(options.simulator, builtin_registry(), inputs)


def compare(run: Path) -> None:
    """A comparison of two runs, beside pandas reading their tables."""
    import pandas as pd

    from pytest_gpusim.compare import Comparison, compare_runs
    from pytest_gpusim.compare.document import document_of
    from pytest_gpusim.report.directory import write_comparison
    from pytest_gpusim.runs import read_run

    def judged() -> Comparison:
        return compare_runs([read_run(run)], read_run(run)).judged()

    places = (run.parent / f"comparison{number}" for number in count())
    tokens = len(pd.read_csv(run / TABLES[1], usecols=["request_id"]))
    write_comparison(judged(), next(places))  # what is imported on first use
    rounds = [
        (
            timed(lambda: [read_run(run), read_run(run)]),
            timed(lambda: document_of(judged())),
            timed(lambda: write_comparison(judged(), next(places))),
            timed(lambda: [read_bare(run), read_bare(run)]),
        )
        for _ in range(3)
    ]
    reading, stated, whole, other = (median(column) for column in zip(*rounds, strict=True))
    row(f"reading two runs of {tokens:,} tokens each", reading, "pandas reads them", other)
    row("the same, up to all that `comparison.json` says", stated, "pandas reads them", other)
    row("the same, with tables, 16 charts and page", whole, "pandas reads them", other)


def page(run: Path) -> None:
    """The page of a comparison of many requests."""
    from pytest_gpusim.compare import compare_runs
    from pytest_gpusim.report.directory import write_comparison
    from pytest_gpusim.runs import read_run

    comparison = compare_runs([read_run(run)], read_run(run)).judged()
    own = timed(lambda: write_comparison(comparison, run.parent / "comparison"))
    count = len(comparison.sides.real[0].requests)
    row(f"writing a comparison of {count:,} requests", own, "pandas reads them",
        timed(lambda: read_bare(run)))  # fmt: skip
    size = (run.parent / "comparison" / "report.html").stat().st_size / 1e6
    print(f"| its page | {size:.2g} MB | | |", flush=True)


def read_bare(run: Path) -> None:
    """Pandas reads a run's tables."""
    import pandas as pd

    for name in TABLES:
        pd.read_csv(run / name)


def compiled_once() -> dict[str, str]:
    """The environment, in which modules are compiled once, as after an installation."""
    return {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}


class Usage(NamedTuple):
    """What a process and its children took.

    Attributes:
        peak: Memory, MB.
        seconds: Processor time.
    """

    peak: float
    seconds: float


def measured(command: list[str], **how: Any) -> Usage:
    """Run a command to its end, whatever becomes of its tests."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, **how)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 1):
        raise subprocess.CalledProcessError(process.returncode, command)
    return Usage(used.ru_maxrss / 1024, used.ru_utime + used.ru_stime)


def timed(action: Callable[[], object]) -> float:
    """Seconds of processor time that it takes."""
    start = time.process_time()
    action()
    return time.process_time() - start


if __name__ == "__main__":
    main()
