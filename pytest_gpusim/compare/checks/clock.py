"""Are both sides' times of one clock?"""

from __future__ import annotations

from typing import Any

from pytest_gpusim.compare.checks.declaration import Finding, Protects, check, ms
from pytest_gpusim.compare.sides import Sides
from pytest_gpusim.runs import clock_of

WITHOUT = (
    "calibrate the profile on a run of another workload ('gpusim calibrate'), or leave TTFT "
    "unjudged and accept this check"
)


@check(Protects.CASE, rank=65, cause="the times lie between different clocks")
def clock_counted(sides: Sides) -> Finding:
    """What lies between a client and the engine is counted on both sides, or on neither.

    A client's TTFT holds HTTP, tokenizing and hand-over, which no operator of a profile does.
    """
    real = {run.clock: run.run_id for run in reversed(sides.real)}
    simulated = clock_of(sides.sim.meta)
    other = next((clock for clock in real if clock != simulated), None)
    if other is not None:
        return "fail", (
            f"{real[other]} is timed by the {other}'s clock, {sides.sim.run_id} simulated for the "
            f"{simulated}'s; simulate with --clock {other}"
        )
    if simulated == "engine":
        return "pass", "both sides are timed by the engine's clock"
    delays: dict[str, Any] | None = sides.sim.meta.get("frontend")
    if not delays:
        return "fail", (
            "both sides are timed by the client's clock, and the profile has no frontend.csv: the "
            f"time from sending to the engine's queue and back is not simulated; {WITHOUT}"
        )
    return "pass", (
        f"the front end is simulated: {ms(delays['ingress_ns'])} to the engine, "
        f"{ms(delays['egress_ns'])} back, in the mean"
    )
