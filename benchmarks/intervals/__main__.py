"""Print the scores: ``python -m benchmarks.intervals [SAMPLES]``, below ``GPUSIM_SHARED_DATA``."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from benchmarks.intervals import Score, cases, default_data, scores


def main() -> None:
    """A line per case and one over all figures, as a Markdown table."""
    samples = int(sys.argv[1]) if len(sys.argv) > 1 else 16
    with tempfile.TemporaryDirectory() as scratch:
        found = list(cases(default_data(), Path(scratch), samples))
    print("| runs | covered | width | score | naive covered | width | score |")
    print("| --- " * 7 + "|")
    rows = scores(found)
    for name in [*(case.name for case in found), "all"]:
        print(f"| {name} | {' | '.join(map(_cells, rows[name]))} |")


def _cells(score: Score) -> str:
    return f"{score.covered:.0%} | {score.width:.1%} | {score.score:.1%}"


main()
