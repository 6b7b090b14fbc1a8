"""Print the tables: ``python -m benchmarks.h100 [DIR]``; default: below ``GPUSIM_SHARED_DATA``."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from benchmarks.h100 import METRICS, STATISTICS, judge


def main() -> None:
    """One line per load and calibration, as a Markdown table."""
    data = Path(os.environ.get("GPUSIM_SHARED_DATA", ".")) / "data" / "h100_qwen3-14b"
    data = Path(sys.argv[1]) if len(sys.argv) > 1 else data
    names = [f"{metric.upper()} {name}" for metric in METRICS for name in STATISTICS]
    print(f"| judged | fitted on | {' | '.join(names)} | mean | worst | parameters |")
    print("| --- " * (len(names) + 5) + "|")
    with tempfile.TemporaryDirectory() as scratch:
        for row in judge(data, Path(scratch)):
            errors = " | ".join(f"{error:+.1%}" for error in row.errors.values())
            fitted = row.calibration.fitted if row.calibration else ()
            words = "; ".join(map(str, fitted))
            print(
                f"| {row.load} | {row.calibrated_on or 'nothing'} | {errors} "
                f"| {row.mean_error:.2%} | {row.worst_error:.2%} | {words} |",
                flush=True,
            )


main()
