"""``python -m benchmarks.speed``: what start-up, a comparison and a large simulation cost.

Each is given beside what the same machine takes, in the same run, for something everybody has: an
empty pytest, pandas reading the same files. Read the ratios; seconds are this machine's.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from pytest_gpusim.providers import SimulationInputs
from pytest_gpusim.simulators import reference
from tests.factories import CPU, ENGINE, TINY, make_bundle, make_workload

REPEATS = 7


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--tokens", type=int, default=200, help="output tokens per request")
    parser.add_argument("--only-simulate", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only_simulate:
        simulate(options.only_simulate, options.requests, options.tokens)
        return
    print("| what | takes | beside it | ratio |")
    print("| --- | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as scratch:
        start_up(Path(scratch) / "project")
        run = Path(scratch) / "large"
        large(run, options.requests, options.tokens)
        compare(run / "run")


def row(what: str, own: float, beside: str, other: float, unit: str = "s") -> None:
    """One line of the table."""
    print(f"| {what} | {own:.3g} {unit} | {beside}: {other:.3g} {unit} | {own / other:.2f} |")


def start_up(project: Path) -> None:
    """``pytest --collect-only`` of a project that does not use the plugin, with and without it."""
    project.mkdir()
    (project / "test_empty.py").write_text("def test_nothing(): pass\n")
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]
    command += ["-p", "no:anyio", "-p", "no:hypothesispytest"]
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}

    def session(*more: str) -> float:
        def run() -> None:
            subprocess.run([*command, *more], cwd=project, env=clean, check=True, stdout=-3)

        return timed(run)

    session()  # what is compiled on first use
    pairs = [(session(), session("-p", "no:gpusim")) for _ in range(REPEATS)]
    own, other = median(a for a, _ in pairs), median(b for _, b in pairs)
    row("collect-only, another project", own, "without the plugin", other)


def large(place: Path, requests: int, tokens: int) -> None:
    """Peak memory of a whole simulation in a process of its own, beside its tables on disk."""
    command = [sys.executable, "-m", "benchmarks.speed", "--only-simulate", str(place)]
    command += ["--requests", str(requests), "--tokens", str(tokens)]
    took = timed(lambda: subprocess.run(command, check=True))
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    size = sum(path.stat().st_size for path in (place / "run").iterdir()) / 1e6
    row(f"memory of {requests * tokens:,} simulated tokens", peak, "its tables", size, "MB")
    print(f"| the same, whole process | {took:.3g} s | | |")


def simulate(place: Path, requests: int, tokens: int) -> None:
    """The simulation of `large`."""
    bundle = make_bundle(place / "bundle")
    arrivals = [(64, tokens, 5_000_000 * number) for number in range(requests)]
    workload = make_workload(place / "workload", arrivals)
    reference.simulate(SimulationInputs(TINY, CPU, workload, bundle, ENGINE, place / "run", {}))


def compare(run: Path) -> None:
    """A comparison of two runs, beside pandas reading their tables."""
    import pandas as pd

    from pytest_gpusim.compare import compare_runs
    from pytest_gpusim.runs import read_run

    names = ("request_metrics.csv", "token_metrics.csv")

    def bare() -> None:
        for _ in range(2):
            for name in names:
                pd.read_csv(run / name)

    def whole() -> None:
        compare_runs([read_run(run)], read_run(run))

    bare()
    pairs = [(timed(whole), timed(bare)) for _ in range(3)]
    own, other = median(a for a, _ in pairs), median(b for _, b in pairs)
    row("reading and comparing two such runs", own, "pandas reads them", other)
    first = read_run(run)
    row("comparing alone", timed(lambda: compare_runs([first], first)), "pandas", other)


def timed(action: Callable[[], object]) -> float:
    """Seconds that it takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
