"""Profile and measure everything anew on this machine, then compare: ``python -m benchmarks.live``.

Stage by stage, with the wall time and the peak memory of each; the estimate comes first. What was
measured is left as recordings, which replay with ``pytest benchmarks -m cpu --gpusim-recordings``.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.cases import CLOSED, ENGINES, MODEL, UNSEEN, WORKLOADS, cpu_workload
from pytest_gpusim.case import Case
from pytest_gpusim.registry import builtin_registry
from pytest_gpusim.workload.generate import WorkloadSpec, generate_workload

REPEAT = 3
ENGINE = ENGINES / "qwen3-0.6b-cpu.yaml"
# Measured on two cores: the profile's full grid; start of an engine and a pass without idling.
_PROFILE_S, _WARM_UP_S = 14 * 60, 90
_ANSWER_S = 4  # of one client alone


def main() -> int:
    """Run the stages; returns the exit code of the first that failed."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--repeat", type=int, default=REPEAT, help="real runs a workload")
    parser.add_argument("--out", type=Path, help="default: a new directory below tmp/live")
    parser.add_argument("--quick", action="store_true", help="the quick profiling grid")
    parser.add_argument("--profile", type=Path, help="a bundle measured before, not a new one")
    parser.add_argument("--unseen", action="store_true", help="the cases with seeds of their own")
    parser.add_argument(
        "--only", choices=("closed",), help="the clients that wait for their answers alone"
    )
    options = parser.parse_args()
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    out: Path = options.out or Path("tmp") / "live" / stamp
    cases = UNSEEN if options.unseen else [(name, 0) for name in WORKLOADS]
    specs = [cpu_workload(name, seed) for name, seed in cases]
    if options.only == "closed":
        specs = list(CLOSED)
    print(f"bench-live: about {_minutes(options, specs)} minutes; artifacts in {out}", flush=True)
    finished = []
    code = 0
    for name, command in _stages(options, out, specs):
        print(f"bench-live: {name}", flush=True)
        began = time.monotonic()
        # Not subprocess.run: what the child used must be told from what the others used.
        child = subprocess.Popen(command)
        _, status, usage = os.wait4(child.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        finished.append((name, time.monotonic() - began, usage.ru_maxrss / 1024**2))
        if code:
            break
    for name, seconds, peak in finished:
        print(f"{name:24} {seconds / 60:6.1f} min, peak memory {peak:.1f} GiB")
    print(out)
    return code


def _stages(
    options: argparse.Namespace, out: Path, specs: Sequence[WorkloadSpec]
) -> Iterator[tuple[str, list[str]]]:
    gpusim = [sys.executable, "-m", "pytest_gpusim"]
    profile = options.profile or out / "profile"
    recordings = out / "recordings"
    if options.profile is None:
        quick = ["--quick"] if options.quick else []
        yield (
            "profile",
            [
                *(*gpusim, "profile", "vllm", "--model", MODEL, "--hardware", "cpu"),
                *("--engine", str(ENGINE), *quick, "--out", str(profile)),
            ],
        )
    registry = builtin_registry()
    for spec in specs:
        case = Case(registry.model(MODEL), registry.hardware.get("cpu"), spec)
        workload = out / "workloads" / case.workload_name
        generate_workload(spec, workload)
        runs = [out / "real_runs" / case.case_name / str(n + 1) for n in range(options.repeat)]
        several = ["--repeat", str(options.repeat)] if len(runs) > 1 else []
        yield (
            f"measure {case.workload_name}",
            [
                *(*gpusim, "measure", "--model", MODEL, "--hardware", "cpu"),
                *("--workload", str(workload), "--engine", str(ENGINE), *several),
                *("--out", str(runs[0].parent if several else runs[0])),
            ],
        )
        yield (
            f"record {case.workload_name}",
            [
                *(*gpusim, "record", "--workload", str(workload), "--profile", str(profile)),
                *(*map(str, runs), "--out", str(recordings / case.case_name)),
            ],
        )
    yield (
        "simulate and compare",
        [
            *(sys.executable, "-m", "pytest", "benchmarks", "-m", "cpu and not prereq"),
            *("-k", _selection(options)),
            *("--gpusim-real", "recorded", "--gpusim-recordings", str(recordings)),
            *("--gpusim-artifacts", str(out), "--gpusim-report", str(out / "report.html")),
        ],
    )


def _selection(options: argparse.Namespace) -> str:
    if options.only == "closed":
        return "test_closed_loop"
    return "test_qwen3 and unseen" if options.unseen else "test_qwen3 and not unseen"


def _minutes(options: argparse.Namespace, specs: Sequence[WorkloadSpec]) -> int:
    passes = sum(
        spec.requests / spec.rate if spec.rate else spec.requests * _ANSWER_S for spec in specs
    )
    profile = 0.0 if options.profile else _PROFILE_S / 4 if options.quick else _PROFILE_S
    return round((profile + len(specs) * _WARM_UP_S + options.repeat * passes) / 60)


if __name__ == "__main__":
    sys.exit(main())
