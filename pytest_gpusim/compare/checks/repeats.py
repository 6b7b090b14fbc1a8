"""Do the real runs agree with each other?"""

from __future__ import annotations

import math
import statistics

from pytest_gpusim.compare.checks.declaration import Finding, Protects, check, listed
from pytest_gpusim.compare.checks.settings import nearly
from pytest_gpusim.compare.metrics import METRICS
from pytest_gpusim.compare.sensitivity import sensitivity
from pytest_gpusim.compare.sides import Sides, engine

# TTFT holds the queue, which magnifies what a run is slower by.
OUTLYING = {"tpot": 0.15, "e2e": 0.15, "ttft": 0.25}
_DEVIATIONS = 6.0  # of three runs two may be alike by chance
_SAME = ("model", "hardware", "device_name", "backend")
_PLACES = ("weights", "threads_per_core")


@check(
    Protects.MEASUREMENT,
    rank=105,
    cause="the real runs are not repeats of one measurement",
)
def real_runs_agree(sides: Sides) -> Finding:
    """The real runs are repeats: same engine and settings, and none far from the others.

    A run's pace is the median, over single requests, of its TPOT, E2E and prefill time (TTFT less
    the queue delay; TTFT where that is unknown) over the runs' median of that request. From three
    runs on, a run is outlying whose pace is off from the others' by more than 15% (TTFT and prefill
    time: 25%), times what the load magnifies a slower machine by (see `sensitivity`), and by more
    than six of their standard deviations. Of two runs that far apart, nobody can say which one is.
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
    name, logs = _pace(sides, metric)
    if not logs:
        return []
    far = math.log1p(OUTLYING[metric]) * _magnified(sides, f"{metric}_p50")
    if len(logs) == 2:
        apart = abs(logs[1] - logs[0])
        return [f"the two runs' {name} differs by {math.expm1(apart):.0%}"] if apart > far else []
    found = []
    for place, (run, own) in enumerate(zip(sides.real, logs, strict=True)):
        rest = logs[:place] + logs[place + 1 :]
        off = own - statistics.median(rest)
        if abs(off) > max(far, _DEVIATIONS * statistics.stdev(rest)):
            found.append(f"{name} of {run.run_id} is {math.expm1(off):+.0%} off from the others")
    return found


def _pace(sides: Sides, metric: str) -> tuple[str, list[float]]:
    """What is looked at, and each run's pace in logs; single requests, for where some wait for one
    another the median of a run may jump from one of them to another.
    """
    import numpy as np
    import pandas as pd

    if not sides.has(metric):
        return metric, []
    prefill = metric == "ttft" and sides.has("queue_delay")
    times = [
        run.requests[metric] - (run.requests["queue_delay"] if prefill else 0)
        for run in sides.real_metrics
    ]
    table = pd.concat(times, axis=1).to_numpy(dtype="float64")
    logs = np.log(table[(table > 0).all(axis=1)])
    if not len(logs):
        return metric, []
    paces = np.median(logs - np.median(logs, axis=1, keepdims=True), axis=0)
    return "prefill time" if prefill else METRICS[metric].label, paces.tolist()


def _magnified(sides: Sides, name: str) -> float:
    """How much further apart a load drives the figures of machines than these are."""
    moved = [sensitivity(metrics).get(name, 1.0) for metrics in sides.real_metrics]
    return max(1.0, statistics.median(moved))
