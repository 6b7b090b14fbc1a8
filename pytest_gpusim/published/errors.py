"""``published_errors.txt``: what another simulator's authors report on a run."""

from __future__ import annotations

import math
import re
from pathlib import Path

NAME = "published_errors.txt"
_MOST_CHARACTERS, _LONGEST_LINE = 1 << 18, 200
METRICS = dict.fromkeys(("ttft", "tpot", "e2e"), ("mean", "p50", "p90", "p95", "p99"))
_WORDS = {"latency": "e2e", "e2el": "e2e", "median": "p50", "avg": "mean", "average": "mean"}
_NAMES = "ttft|tpot|latency|e2el?"
_STATISTICS = "mean|avg|average|median|p\\d+"
_UNIT = r"(?:\s*[(\[]?\s*(?P<unit>ms|us|s)\s*[)\]]?)?"
_NUMBER = r"\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?"
# "TTFT Mean (ms)", "ttft_mean", "Mean TTFT (ms)", "| TTFT | P90 |", "E2E Latency p99".
_ROW = re.compile(
    rf"^[\s|]*(?:(?P<metric>{_NAMES})(?:\s+latency)?[\s_|./-]*{_UNIT}[\s_|./-]*(?P<statistic>{_STATISTICS})"
    rf"|(?P<statistic2>{_STATISTICS})[\s_|./-]*(?P<metric2>{_NAMES})(?:\s+latency)?)"
    rf"[\s_]*(?:[(\[]?\s*(?:ms|us|s)\s*[)\]]?)?[\s|:,]+(?P<real>{_NUMBER})\s*(?:ms|us|s)?[\s|,]+"
    rf"(?P<sim>{_NUMBER})",
    re.IGNORECASE,
)


PublishedErrors = dict[str, dict[str, float]]


def read_published_errors(directory: Path) -> tuple[PublishedErrors, list[str]]:
    """Signed relative errors by metric and statistic, from the columns vLLM and Sim; and notes.

    Of a file its beginning counts, and of a line: a table of figures is short.

    The file's own ``Diff%`` is rounded to a tenth of a percent. Empty where there is no file; a
    note says so where it has no figure that can be read.
    """
    path = directory / NAME
    if not path.is_file():
        return {}, []
    errors: PublishedErrors = {}
    try:
        with path.open(encoding="utf-8", errors="replace") as stream:
            lines = stream.read(_MOST_CHARACTERS).splitlines()
    except OSError as error:
        return {}, [f"{NAME} cannot be read: {error.strerror}"]
    for line in lines:
        # Many spaces as one: there are many ways to part them between the pattern's.
        match = _ROW.match(" ".join(line.replace("**", "").split())[:_LONGEST_LINE])
        if match is None:
            continue
        names = (match["metric"] or match["metric2"], match["statistic"] or match["statistic2"])
        metric, statistic = (_WORDS.get(name.lower(), name.lower()) for name in names)
        real, sim = (float(match[side].replace(",", "")) for side in ("real", "sim"))
        if real > 0 and math.isfinite(real + sim):
            errors.setdefault(metric, {})[statistic] = (sim - real) / real
    return errors, [] if errors else [f"{NAME} has no figures that can be read"]
