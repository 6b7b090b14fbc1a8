"""Profile and measure everything anew on this machine, then compare: ``python -m benchmarks.live``.

Stage by stage, with the wall time and the peak memory of each; the estimate comes first.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.cases import ENGINES, MODEL, UNSEEN, WORKLOADS, cpu_workload

REPEAT = 3
# Measured on two cores: engine start and import, and the profile's full grid.
_START_S, _PROFILE_S = 30, 12 * 60


def main() -> int:
    """Run the stages; returns the exit code of the first that failed."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--repeat", type=int, default=REPEAT, help="real runs a workload")
    parser.add_argument("--out", type=Path, help="default: a new directory below tmp/live")
    parser.add_argument("--quick", action="store_true", help="the quick profiling grid")
    parser.add_argument("--profile", type=Path, help="a bundle measured before, not a new one")
    parser.add_argument("--unseen", action="store_true", help="the cases with seeds of their own")
    options = parser.parse_args()
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    out: Path = options.out or Path("tmp") / "live" / stamp
    print(f"bench-live: about {_estimate_minutes(options)} minutes; artifacts in {out}", flush=True)
    profile = options.profile or out / "profile"
    commands = {
        "profile": [
            *(sys.executable, "-m", "pytest_gpusim", "profile", "vllm", "--model", MODEL),
            *("--hardware", "cpu", "--engine", str(ENGINES / "qwen3-0.6b-cpu.yaml")),
            *(["--quick"] if options.quick else []),
            *("--out", str(profile)),
        ],
        "measure, simulate, compare": [
            *(sys.executable, "-m", "pytest", "benchmarks", "-m", "cpu", "--gpusim-real", "live"),
            *("-k", "unseen" if options.unseen else "not unseen"),
            *("--gpusim-repeat", str(options.repeat), "--profiling-root", str(profile)),
            *("--gpusim-artifacts", str(out), "--gpusim-report", str(out / "report.html")),
        ],
    }
    if options.profile:
        del commands["profile"]
    stages = []
    code = 0
    for name, command in commands.items():
        began = time.monotonic()
        code = subprocess.run(command, check=False, env={**os.environ}).returncode
        stages.append((name, time.monotonic() - began, _peak_gib()))
        if code:
            break
    for name, seconds, peak in stages:
        print(f"{name:28} {seconds / 60:6.1f} min, peak memory so far {peak:.1f} GiB")
    print(out)
    return code


def _estimate_minutes(options: argparse.Namespace) -> int:
    cases = UNSEEN if options.unseen else [(name, 0) for name in WORKLOADS]
    specs = [cpu_workload(name, seed) for name, seed in cases]
    passes = options.repeat + 1  # one more for the warm-up
    arrivals = sum(spec.requests / spec.rate for spec in specs)
    profile = 0.0 if options.profile else _PROFILE_S / 4 if options.quick else _PROFILE_S
    return round((profile + 2 * _START_S + passes * arrivals) / 60)


def _peak_gib() -> float:
    """Peak memory of the largest process so far, in GiB."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024**2


if __name__ == "__main__":
    sys.exit(main())
