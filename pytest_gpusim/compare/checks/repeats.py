"""Do the real runs agree with each other, and was each steady from its first request on?"""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING, Any

from pytest_gpusim.compare.checks.declaration import Finding, Protects, check, listed, worst
from pytest_gpusim.compare.checks.settings import nearly
from pytest_gpusim.compare.metrics import METRICS
from pytest_gpusim.compare.sides import Sides, engine

if TYPE_CHECKING:
    from pytest_gpusim.compare.measure import RunMetrics
    from pytest_gpusim.runs import Run

# TTFT holds the queue, which magnifies what a run is slower by.
OUTLYING = {"tpot": 0.15, "e2e": 0.15, "ttft": 0.25}
_TIMES_THE_REST = 4.0
_SAME = ("model", "hardware", "device_name", "backend")
_PLACES = ("weights", "threads_per_core")
HEADS = (3, 5, 8, 10, 15, 20)
COLD_WARN, COLD_FAIL, COLD_SIGMAS = 0.10, 0.25, 5.0
_FEWEST = 15


@check(
    Protects.MEASUREMENT,
    rank=105,
    cause="the real runs are not repeats of one measurement",
)
def real_runs_agree(sides: Sides) -> Finding:
    """The real runs are repeats: same engine and settings, and none far from the others.

    From three runs on, a run is outlying whose median TPOT or E2E is off from the others' by more
    than 15% (TTFT, which holds the queue: 25%) and by more than four times what those differ by. Of
    two runs that far apart, nobody can say which one is.
    """
    if len(sides.real) < 2:
        return "skip", "one real run: there is nothing for it to agree with"
    other = _other_engine(sides)
    if other:
        return "fail", listed(other)
    outlying = [text for metric in OUTLYING for text in _outlying(sides, metric)]
    if outlying:
        return "fail", f"{listed(outlying, 2)}: measure again, or leave that run out"
    return "pass", f"{len(sides.real)} runs of one engine, none outlying"


def _other_engine(sides: Sides) -> list[str]:
    first = sides.real[0]
    found = []
    for run in sides.real[1:]:
        for key in _SAME:
            ours, theirs = first.meta.get(key), run.meta.get(key)
            if ours != theirs and None not in (ours, theirs):
                found.append(f"{key} is {ours!r} in {first.run_id}, {theirs!r} in {run.run_id}")
        one, other = engine(first), engine(run)
        found += [
            f"{key} is {one[key]!r} in {first.run_id}, {other[key]!r} in {run.run_id}"
            for key in sorted(set(one) & set(other) - set(_PLACES))
            if one[key] != other[key]
            and not (key == "num_gpu_blocks" and nearly(one[key], other[key]))
        ]
    return found


def _outlying(sides: Sides, metric: str) -> list[str]:
    figure = sides.figures.get(metric, "p50")
    if figure is None or min(figure.real) <= 0:
        return []
    logs = [math.log(value) for value in figure.real]
    label = METRICS[metric].label
    if len(logs) == 2:
        apart = abs(logs[1] - logs[0])
        if apart <= math.log1p(OUTLYING[metric]):
            return []
        return [f"the two runs' median {label} differ by {math.expm1(apart):.0%}"]
    found = []
    for place, (run, own) in enumerate(zip(sides.real, logs, strict=True)):
        rest = logs[:place] + logs[place + 1 :]
        off = own - statistics.median(rest)
        spread = max(rest) - min(rest)
        if abs(off) > max(math.log1p(OUTLYING[metric]), _TIMES_THE_REST * spread):
            found.append(
                f"median {label} of {run.run_id} is {math.expm1(off):+.0%} off from the others"
            )
    return found


@check(
    Protects.MEASUREMENT,
    rank=85,
    cause="the first requests of the real run are slower than the rest",
)
def steady(sides: Sides) -> Finding:
    """No warm-up shows in the data: the first requests are, against the simulation, as the rest.

    The prefill time (TTFT less the queue delay where that is known) and the TPOT of the first few
    requests, over the simulated ones, are held against those of the others. Warns where the medians
    differ by more than 10% and by five standard errors, and fails from 25% on.
    """
    return worst([_steady(sides, run, metrics) for run, metrics in sides.pairs()])


def _steady(sides: Sides, run: Run, metrics: RunMetrics) -> Finding:
    found = []
    for name, ratio in _ratios(sides, metrics):
        if len(ratio) < _FEWEST:
            continue
        heads = [_excess(ratio, head) for head in HEADS if head <= len(ratio) // 3]
        sure = [(excess, head) for excess, sigmas, head in heads if sigmas > COLD_SIGMAS]
        if sure:
            excess, head = max(sure)
            found.append((excess, f"{name} of the first {head} requests of {run.run_id} is"))
    if not found:
        return "pass", f"{run.run_id}: the first requests are like the others"
    excess, text = max(found)
    share = math.expm1(excess)
    if share <= COLD_WARN:
        return "pass", f"{run.run_id}: the first requests are like the others"
    said = f"{text} {share:.0%} longer, against the simulated, than of the others"
    return ("fail" if share > COLD_FAIL else "warn"), f"{said}: warm up longer"


def _ratios(sides: Sides, metrics: RunMetrics) -> list[tuple[str, Any]]:
    """ln(real / simulated) of each request in order of arrival, by what was measured."""
    import numpy as np
    import pandas as pd

    order = metrics.requests["arrival_time_ns"].sort_values(kind="stable").index
    known = sides.has("queue_delay")
    found = []
    for name, column in (("the prefill time" if known else "TTFT", "ttft"), ("TPOT", "tpot")):
        if not sides.has(column):
            continue
        both = pd.DataFrame(
            {
                side: table[column] - (table["queue_delay"] if known and column == "ttft" else 0)
                for side, table in (
                    ("real", metrics.requests),
                    ("sim", sides.sim_metrics.requests),
                )
            }
        ).reindex(order)
        both = both[(both > 0).all(axis=1)]
        found.append((name, np.log(both["real"].to_numpy() / both["sim"].to_numpy())))
    return found


def _excess(ratio: Any, head: int) -> tuple[float, float, int]:
    """How much the medians of the first few and of the rest differ, and in standard errors."""
    import numpy as np

    first, rest = ratio[:head], ratio[head:]
    excess = float(np.median(first) - np.median(rest))
    deviation = 1.4826 * float(np.median(abs(rest - np.median(rest))))
    # The standard error of a median is about 1.25 times that of a mean.
    error = 1.25 * deviation * math.sqrt(1 / len(first) + 1 / len(rest))
    return excess, excess / max(error, 1e-6), head
