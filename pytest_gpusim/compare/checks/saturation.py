"""Is the load low enough for the figures to tell the simulator's error, not its magnification?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_gpusim.compare.checks.declaration import (
    Accept,
    Finding,
    Protects,
    check,
    listed,
    ms,
    worst,
)
from pytest_gpusim.compare.sensitivity import sensitivity
from pytest_gpusim.compare.sides import Sides

if TYPE_CHECKING:
    from pytest_gpusim.compare.measure import RunMetrics
    from pytest_gpusim.runs import Run

QUEUE_SHARE = 0.25
MIN_TREND = 6
MAGNIFIED = 2.0
_LOOKED_AT = {"ttft_p50", "ttft_p90", "e2e_p50", "e2e_p90"}


@check(
    Protects.MEASUREMENT,
    rank=110,
    accept=Accept.FAILURE,
    of_limits=True,
    cause="the load magnifies small errors of step time",
)
def below_saturation(sides: Sides) -> Finding:
    """The real run is not so loaded that small errors of step time become large ones of latency.

    That is worst just below saturation, where chains of waiting requests are long and break off by
    chance. Warns where a 1% error of step time would move a judged figure (TTFT and E2E at p50 and
    p90 where none is judged) by 2% or more; where the queue delay (the TTFT, where that is unknown)
    of the last third of the arrivals exceeds that of the first third by a quarter of the median
    E2E; and where the median queue delay is as long as that.
    """
    return worst([_load(sides, run, metrics) for run, metrics in sides.pairs()])


def _load(sides: Sides, run: Run, metrics: RunMetrics) -> Finding:
    import numpy as np

    rows = metrics.requests.sort_values("arrival_time_ns", kind="stable")
    if len(rows) < MIN_TREND:
        return "skip", f"{run.run_id}: {len(rows)} requests are too few to see a queue grow"
    known = "queue_delay" not in metrics.unavailable
    wait = rows["queue_delay" if known else "ttft"].to_numpy()
    third = len(wait) // 3
    growth = float(wait[-third:].mean() - wait[:third].mean())
    typical = float(np.median(rows["e2e"]))
    arrivals = rows["arrival_time_ns"].to_numpy()
    ends = arrivals + rows["e2e"].to_numpy()
    span = float(arrivals[-1] - arrivals[0])
    served = len(rows) / float(ends.max() - arrivals[0]) * 1e9 if ends.max() > arrivals[0] else 0.0
    asked = (
        f"{(len(rows) - 1) / span * 1e9:.3g} requests/s arrive" if span else "all arrive at once"
    )
    name = "queue delay" if known else "TTFT"
    said = (
        f"{run.run_id}: {asked}, {served:.3g}/s are served; {name} grows by {ms(max(growth, 0.0))} "
        f"over the run, median E2E {ms(typical)}"
    )
    judged = {limit.name for limit in sides.limits} or _LOOKED_AT
    moved = sensitivity(metrics)
    magnified = [
        f"{figure} by {change:.1f}%"
        for figure, change in sorted(moved.items(), key=lambda item: -item[1])
        if figure in judged and change >= MAGNIFIED
    ]
    if magnified:
        return "warn", f"{said}: a 1% error of step time moves {listed(magnified)}"
    if growth > QUEUE_SHARE * typical:
        return "warn", f"{said}: saturated, so small errors of capacity are magnified"
    if known and float(np.median(wait)) > QUEUE_SHARE * typical:
        return "warn", f"{said}: most requests queue, so small errors of capacity are magnified"
    return "pass", said
