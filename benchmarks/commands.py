"""What the live benchmarks share: the command line as a process, and the file of a decision."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path


def gpusim(*words: object, accept: Sequence[int] = (0,), show: bool = False) -> str:
    """Run a command of gpusim; ends this process where its exit code is not accepted.

    Args:
        words: Its words.
        accept: The exit codes that are no failure.
        show: Return what it prints, which goes to standard error otherwise.
    """
    command = [sys.executable, "-m", "pytest_gpusim", *map(str, words)]
    place = subprocess.PIPE if show else sys.stderr
    done = subprocess.run(command, check=False, stdout=place, text=True)
    if done.returncode not in accept:
        raise SystemExit(f"{' '.join(command)}: exit code {done.returncode}")
    return done.stdout or ""


def write_decision(
    file: Path,
    points: Iterable[tuple[str, float, Sequence[Path], Sequence[Path]]],
    *,
    slo: str,
    objective: Sequence[str],
    accept: Sequence[str] = (),
) -> None:
    """Write what ``gpusim decide`` takes.

    Args:
        file: The file.
        points: Setting, load, real and simulated runs of each.
        slo: The limits.
        objective: Figures to decide by.
        accept: Checks that are accepted.
    """

    def lines() -> Iterator[str]:
        yield f"slo = {json.dumps(slo)}"
        yield f"objective = {json.dumps(objective)}"
        yield f"accept = {json.dumps(accept)}"
        for setting, load, real, simulated in points:
            yield "\n[[point]]"
            yield f"setting = {json.dumps(setting)}"
            yield f"load = {load}"
            yield f"real = {json.dumps([str(run.resolve()) for run in real])}"
            yield f"simulated = {json.dumps([str(run.resolve()) for run in simulated])}"

    file.write_text("\n".join(lines()) + "\n", encoding="utf-8")
