"""``published_errors.txt``: what another simulator's authors report on a run."""

from __future__ import annotations

import re
from pathlib import Path

NAME = "published_errors.txt"
METRICS = dict.fromkeys(("ttft", "tpot", "e2e"), ("mean", "p50", "p90", "p95", "p99"))
_WORDS = {"latency": "e2e", "median": "p50"}
_ROW = re.compile(
    r"^\s*(ttft|tpot|latency|e2e)\s+(mean|median|p\d+)\s+([\d.,]+)\s+([\d.,]+)", re.IGNORECASE
)


def read_published_errors(directory: Path) -> dict[str, dict[str, float]]:
    """Signed relative errors by metric and statistic, from the columns vLLM and Sim.

    The file's own ``Diff%`` is rounded to a tenth of a percent. Empty where there is no file.
    """
    path = directory / NAME
    if not path.is_file():
        return {}
    errors: dict[str, dict[str, float]] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        match = _ROW.match(line)
        if match is None:
            continue
        metric, statistic = (_WORDS.get(word.lower(), word.lower()) for word in match.group(1, 2))
        real, sim = (float(cell.replace(",", "")) for cell in match.group(3, 4))
        if real > 0:
            errors.setdefault(metric, {})[statistic] = (sim - real) / real
    return errors
