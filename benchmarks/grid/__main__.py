"""The decisions on the measured grid: ``python -m benchmarks.grid``; with ``--measure`` a new one.

A measured grid takes a quarter of an hour on two cores: a profile, then each setting at each load.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from benchmarks.commands import gpusim
from benchmarks.grid import MEASURED, MODEL, POINTS, RATES, REPEAT, Point, load, simulate_grid
from benchmarks.served import write_model
from pytest_gpusim.artifacts import new_id
from pytest_gpusim.cli import main as gpusim_here
from pytest_gpusim.runs import read_run
from pytest_gpusim.runs.writer import rewrite_run
from pytest_gpusim.workload.generate import generate_workload


def main() -> int:
    """Measure where asked, simulate and decide; returns the exit code of ``gpusim decide``."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--measured", type=Path, default=MEASURED, help="the grid to decide on")
    parser.add_argument("--measure", action="store_true", help="measure it first, into --measured")
    parser.add_argument("--simulator", default="vidur")
    parser.add_argument("--out", type=Path, help="default: a new directory below tmp/grid")
    options = parser.parse_args()
    out: Path = options.out or Path("tmp") / "grid" / new_id("grid")
    if options.measure:
        if options.measured.exists():
            parser.error(f"--measured {options.measured}: is there already; give a new directory")
        measure(options.measured)
    out.mkdir(parents=True)
    decision = simulate_grid(options.measured, out, options.simulator)
    return gpusim_here(["decide", str(decision), "--out", str(out / "decided")])


def measure(measured: Path) -> None:
    """Profile the model, then measure every point."""
    model = write_model(MODEL, measured, POINTS[0].engine)
    given = ["--model", model, "--hardware", "cpu", "--engine", measured / "engine.json"]
    gpusim("profile", "vllm", *given, "--out", measured / "profile")
    for rate in RATES:
        generate_workload(load(rate), measured / "workloads" / f"{rate:g}")
    for number, point in enumerate(POINTS, start=1):
        print(f"{number} of {len(POINTS)}: {point.name}", flush=True)
        measure_point(point, measured)


def measure_point(point: Point, measured: Path) -> None:
    """Measure one point, all its repeats, and pack what is kept of them."""
    raw = measured / "raw" / point.name
    engine, workload = measured / "engines" / f"{point.name}.json", point.workload(measured)
    engine.parent.mkdir(exist_ok=True)
    engine.write_text(json.dumps(point.engine, indent=1))
    gpusim(
        *("measure", "--model", measured / "model", "--hardware", "cpu", "--engine", engine),
        *("--workload", workload, "--repeat", REPEAT, "--out", raw),
    )
    for packed in point.real(measured):
        run = read_run(raw / packed.name)
        # A grid that moves takes its workloads with it.
        meta = {**run.meta, "workload_dir": os.path.relpath(workload, packed)}
        rewrite_run(run, packed, meta, compress=True)


if __name__ == "__main__":
    sys.exit(main())
