"""The decisions on the measured grid: ``python -m benchmarks.grid``; with ``--measure`` a new one.

A measured grid takes a quarter of an hour on two cores: a profile, then each setting at each load.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.grid import MEASURED, MODEL, POINTS, RATES, REPEAT, Point, load, simulate_grid
from benchmarks.served import write_model
from pytest_gpusim.workload.generate import generate_workload


def main() -> int:
    """Measure where asked, simulate and decide; returns the exit code of ``gpusim decide``."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--measured", type=Path, default=MEASURED, help="the grid to decide on")
    parser.add_argument("--measure", action="store_true", help="measure it first, into --measured")
    parser.add_argument("--simulator", default="vidur")
    parser.add_argument("--out", type=Path, help="default: a new directory below tmp/grid")
    options = parser.parse_args()
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    out: Path = options.out or Path("tmp") / "grid" / stamp
    if options.measure:
        if options.measured.exists():
            parser.error(f"--measured {options.measured}: is there already; give a new directory")
        measure(options.measured)
    out.mkdir(parents=True)
    decision = simulate_grid(options.measured, out, options.simulator)
    return _gpusim("decide", str(decision), "--out", str(out / "decided"))


def measure(measured: Path) -> None:
    """Profile the model, then measure every point; what is read again is packed."""
    model = write_model(MODEL, measured, POINTS[0].engine)
    engine = measured / "engine.json"
    given = ["--model", str(model), "--hardware", "cpu"]
    _must("profile", "vllm", *given, "--engine", str(engine), "--out", str(measured / "profile"))
    for rate in RATES:
        generate_workload(load(rate), measured / "workloads" / f"{rate:g}")
    for number, point in enumerate(POINTS, start=1):
        print(f"{number} of {len(POINTS)}: {point.name}", flush=True)
        measure_point(point, measured)


def measure_point(point: Point, measured: Path) -> None:
    """Measure one point, all its repeats."""
    engine = measured / "engines" / f"{point.name}.json"
    engine.parent.mkdir(exist_ok=True)
    engine.write_text(json.dumps(point.engine, indent=1))
    runs = point.real(measured)
    _must(
        *("measure", "--model", str(measured / "model"), "--hardware", "cpu"),
        *("--engine", str(engine), "--workload", str(point.workload(measured))),
        *("--repeat", str(REPEAT), "--out", str(runs[0].parent)),
    )
    for run in runs:
        meta = run / "run_meta.json"  # a grid that moves takes its workloads with it
        known = json.loads(meta.read_text())
        known["workload_dir"] = os.path.relpath(point.workload(measured), run)
        meta.write_text(json.dumps(known, indent=2) + "\n")
        for table in (*run.glob("*.csv"), *run.glob("*.jsonl")):
            table.with_name(f"{table.name}.gz").write_bytes(
                gzip.compress(table.read_bytes(), mtime=0)
            )
            table.unlink()


def _must(*words: str) -> None:
    if _gpusim(*words):
        raise SystemExit(1)


def _gpusim(*words: str) -> int:
    return subprocess.run([sys.executable, "-m", "pytest_gpusim", *words], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
