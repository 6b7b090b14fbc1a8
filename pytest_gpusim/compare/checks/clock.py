"""Are both sides' times of one clock?"""

from __future__ import annotations

from typing import Any

from pytest_gpusim.compare.checks.declaration import Accept, Finding, Protects, check, listed, ms
from pytest_gpusim.compare.sides import Sides
from pytest_gpusim.runs import Run, clock_of
from pytest_gpusim.runs.run import stated_clock

WITHOUT = (
    "calibrate the profile on a run of another workload ('gpusim calibrate'), or leave TTFT "
    "unjudged and accept this check"
)
CLIENT_SHARE_NS = 20e6
"""What a client's way to the engine and back may come to where nobody knows better."""


@check(
    Protects.CASE,
    rank=65,
    needed=True,
    each_seed=True,
    of_limits=True,
    accept=Accept.FAILURE,
    cause="the times lie between different clocks",
    states=("clock",),
)
def clock_counted(sides: Sides) -> Finding:
    """The time between a client and the engine is counted on both sides, or on neither.

    A client's TTFT holds HTTP, tokenizing and hand-over, which no operator of a profile does. Where
    a real run does not say whose clock it has, that matters if 20 ms, or what is known of the
    client's share, exceeds half of what a judged figure of TTFT or E2E may be off by.
    """
    delays: dict[str, Any] | None = sides.sim.meta.get("frontend")
    share = CLIENT_SHARE_NS
    if delays:
        share = float(delays["ingress_ns"]) + float(delays["egress_ns"])
    tight = _tightest(sides)
    little = tight is not None and share <= tight[1] / 2
    silent = [run.run_id for run in sides.real if not _says(run)]
    if silent:
        said = f"{listed(silent)} does not say whether its times are the engine's or a client's"
        if tight is None:
            return "skip", f"{said}; no TTFT or E2E is judged"
        name, allowed = tight
        if little:
            return "pass", f"{said}; {ms(share)} would be little of the {ms(allowed)} of {name}"
        return "unknown", f"{said}: that may be {ms(share)}, {name} may be off by {ms(allowed)}"
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
    if not delays:
        return "fail", (
            "both sides are timed by the client's clock, and the profile has no frontend.csv: the "
            f"time from sending to the engine's queue and back is not simulated; {WITHOUT}"
        )
    return "pass", (
        f"the front end is simulated: {ms(delays['ingress_ns'])} to the engine, "
        f"{ms(delays['egress_ns'])} back, in the mean"
    )


def _says(run: Run) -> bool:
    """Whether a real run says whose clock it has; the project's own engine backend has one."""
    return stated_clock(run.meta) is not None or run.meta.get("backend") == "vllm"


def _tightest(sides: Sides) -> tuple[str, float] | None:
    """The judged figure of TTFT or E2E that may be off by the least, and by how much, ns."""
    allowed = []
    for limit in sides.limits:
        figure = sides.figures.by_name.get(limit.name)
        if figure is not None and limit.metric.name in ("ttft", "e2e"):
            allowed.append((max(limit.relative * figure.real_value, limit.floor), limit.name))
    return min(allowed)[::-1] if allowed else None
