"""Two loads as a decision: ``python -m benchmarks.h100.decision [DIR] [--slo SLO] [--out OUT]``.

There is one setting, so what can be decided is which load it bears: do the limits hold at 4 and at
8 requests per second, where between them do they break, and at which load are more requests
answered within them. Each load is simulated with what was fitted on the runs of the other.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from benchmarks.commands import write_decision
from benchmarks.h100 import LOADS, judge, runs_of
from pytest_gpusim.artifacts import new_id
from pytest_gpusim.cli import main as gpusim

SETTING = "Qwen3-14B on an H100"
SLO = "ttft_p90=500ms,tpot_p90=40ms"
RATES = {"r4": 4.0, "r8": 8.0}
# The clients neither warmed up nor recorded when they sent; whether the cache was cold is unknown.
# Settings that the runs do not state are simulated as the defaults of their release.
ACCEPTED = ("warmed_up", "generator_on_time", "prefix_cache_cold", "settings_mirrored")


def main() -> int:
    """Simulate both loads and decide; returns the exit code of ``gpusim decide``."""
    data = Path(os.environ.get("GPUSIM_SHARED_DATA", ".")) / "data" / "h100_qwen3-14b"
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="?", type=Path, default=data)
    parser.add_argument("--slo", default=SLO)
    parser.add_argument("--out", type=Path, default=Path("tmp/h100-decision"))
    options = parser.parse_args()
    simulated = options.out / "simulated"
    if not simulated.is_dir():
        for _ in judge(options.data, simulated, plain=False):
            pass
    file = options.out / "decision.toml"
    points = []
    for load in LOADS:
        real = [run.path for run in runs_of(options.data, load)]
        place = simulated / f"{load}-calibrated"
        points.append((SETTING, RATES[load], real, [place / "0", place / "1"]))
    write_decision(
        file, points, slo=options.slo, objective=["good_requests_per_s"], accept=ACCEPTED
    )
    return gpusim(["decide", str(file), "--out", str(options.out / new_id("decided"))])


if __name__ == "__main__":
    sys.exit(main())
