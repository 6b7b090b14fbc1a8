"""Print the comparison: ``python -m benchmarks.silicon``."""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.silicon import FRAMEWORK, SYSTEM, VERSION, rows


def main() -> None:
    """One line per model, degree, batch and prompt length, as a Markdown table."""
    print(
        f"{SYSTEM}, {FRAMEWORK} {VERSION}; ms; Vidur, AIConfigurator's own estimate, difference\n"
    )
    print("| model | TP | batch | prompt | prefill | theirs | | TPOT | theirs | | cause |")
    print("| --- " * 11 + "|")
    with tempfile.TemporaryDirectory() as scratch:
        for row in rows(Path(scratch)):
            prefill, tpot = row.errors
            print(
                f"| {row.model} | {row.degree} | {row.batch} | {row.prompt} "
                f"| {row.prefill:.2f} | {row.their_prefill:.2f} | {prefill:+.1%} "
                f"| {row.tpot:.3f} | {row.their_tpot:.3f} | {tpot:+.1%} | {row.cause} |"
            )


main()
