"""Can the real measurement be trusted: on time, warmed up?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_gpusim.compare.checks.declaration import Accept, Finding, Protects, check, ms, worst
from pytest_gpusim.compare.sides import Sides

if TYPE_CHECKING:
    import numpy as np

    from pytest_gpusim.compare.measure import RunMetrics
    from pytest_gpusim.runs import Run

LATE_NS, LATE_SHARE, LATE_REQUESTS = 1e6, 0.05, 0.05
COLD_FACTOR, COLD_NS, COLD_SHARE = 2.0, 50e6, 0.05
MIN_TREND = 6


@check(
    Protects.MEASUREMENT,
    rank=90,
    needed=True,
    accept=Accept.FAILURE,
    cause="the load was not the one that was asked for",
    states=("lateness",),
)
def generator_on_time(sides: Sides) -> Finding:
    """Requests were sent when they were due.

    Late is what came later than 1 ms, or than 5% of the median TTFT, and early what came as much
    before its time. An engine that is driven in process takes requests between its steps: waiting
    for the step that runs is not lateness. Fails where more than 5% of the requests were not on
    time, and warns of any.
    """
    findings = [_on_time(run, metrics) for run, metrics in sides.pairs()]
    return worst(findings)


def _on_time(run: Run, metrics: RunMetrics) -> Finding:
    import numpy as np

    rows = run.requests[run.requests["sent_time_ns"].notna()]
    silent = int(run.finished["sent_time_ns"].isna().sum())
    typical = metrics.values("ttft")
    slack = max(LATE_NS, LATE_SHARE * float(np.median(typical)) if typical is not None else 0.0)
    if rows.empty:
        stated = run.meta.get("lateness")
        worst = stated.get("p99_ns", stated.get("max_ns")) if isinstance(stated, Mapping) else None
        if not isinstance(worst, int | float) or not worst >= 0:
            return "unknown", f"{run.run_id} does not say when requests were sent"
        said = f"{run.run_id}: p99 of lateness {ms(worst)}, allowed {ms(slack)}"
        return ("fail" if worst > slack else "pass"), said
    arrival = rows["arrival_time_ns"].to_numpy(dtype="float64")
    sent = rows["sent_time_ns"].to_numpy(dtype="float64")
    late = sent - _free_again(run, arrival, sent)
    share, before = float((late > slack).mean()), float((sent - arrival < -slack).mean())
    said = f"{run.run_id}: {share:.1%} of requests sent more than {ms(slack)} late"
    said += f", the latest by {ms(max(float(late.max()), 0.0))}"
    if before:
        most = ms(float((arrival - sent).max()))
        said += f"; {before:.1%} sent more than that early, by up to {most}"
    if share + before > LATE_REQUESTS:
        return "fail", f"{said}; the load was not the workload's"
    if silent > LATE_REQUESTS * len(run.finished):
        return "unknown", f"{said}; of {silent} it is not known when they were sent"
    return ("warn" if share or before else "pass"), said


def _free_again(run: Run, arrival: np.ndarray, sent: np.ndarray) -> np.ndarray:
    """When the engine could have taken each request: its arrival, or the end of the step between.

    That is the first step to end after the arrival, if it began before the request was sent.
    """
    import numpy as np

    if run.steps is None or run.steps.empty:
        return arrival
    start = run.steps["start_ns"].to_numpy(dtype="float64")
    end = start + run.steps["duration_ns"].to_numpy(dtype="float64", na_value=0.0)
    order = np.argsort(end, kind="stable")
    start, end = np.append(start[order], np.inf), np.append(end[order], np.inf)
    between = np.searchsorted(end, arrival, side="left")
    return np.where(start[between] < sent, end[between], arrival)


@check(
    Protects.MEASUREMENT,
    rank=80,
    needed=True,
    accept=Accept.FAILURE,
    cause="the real engine was cold",
    states=("warmup",),
)
def warmed_up(sides: Sides) -> Finding:
    """Each real run was preceded by a warm-up, and its first request was no slower for being first.

    A cold start shows as a first TTFT that is, against the simulated one, more than twice as long
    as that of the other requests, and by more than 50 ms. Where no warm-up is recorded, it fails
    if the delay is more than 5% of the median E2E, and is unknown otherwise.
    """
    findings = [_warm(sides, run, metrics) for run, metrics in sides.pairs()]
    return worst(findings)


def _warm(sides: Sides, run: Run, metrics: RunMetrics) -> Finding:
    stated = run.meta.get("warmup")
    cold = _cold_start(metrics, sides.sim_metrics)
    if stated is None:
        if cold:
            weighty = cold.excess_ns > COLD_SHARE * float(metrics.requests["e2e"].median())
            return ("fail" if weighty else "unknown"), (
                f"{run.run_id}: no warm-up is recorded, and {cold.text}"
            )
        return "unknown", f"{run.run_id} does not record a warm-up; its first request shows no sign"
    if isinstance(stated, str):
        return "unknown", (
            f"{run.run_id}: its warm-up is {stated!r}: state its requests, or true or false"
        )
    warmed = _was_warmed(stated)
    if warmed is None:
        return "unknown", f"{run.run_id}: its warm-up says neither requests nor passes: {stated}"
    if not warmed:
        return "fail", f"{run.run_id} was measured without a warm-up"
    if cold:
        return "warn", f"{run.run_id}: warmed up, but {cold.text}"
    return "pass", f"{run.run_id}: warmed up, and its first request shows no first use"


def _was_warmed(stated: Any) -> bool | None:
    """By counts of the usual names, else by any number; None where there is none."""
    if not isinstance(stated, Mapping):
        return bool(stated)
    for keys in (("requests", "num_requests", "passes", "steps"), tuple(stated)):
        counts = [stated.get(key) for key in keys]
        known = [count for count in counts if isinstance(count, int | float)]
        if known:
            return any(count > 0 for count in known)
    return None if stated else False


class _ColdStart(NamedTuple):
    excess_ns: float
    text: str


def _cold_start(real: RunMetrics, sim: RunMetrics) -> _ColdStart | None:
    import numpy as np

    both = real.requests[["arrival_time_ns", "ttft"]].join(
        sim.requests["ttft"].rename("simulated"), how="inner"
    )
    both = both[both["simulated"] > 0].sort_values("arrival_time_ns", kind="stable")
    if len(both) < MIN_TREND:
        return None
    ratio = (both["ttft"] / both["simulated"]).to_numpy()
    usual = float(np.median(ratio[1:])) * float(both["simulated"].iloc[0])
    first = float(both["ttft"].iloc[0])
    if first > COLD_FACTOR * usual and first - usual > COLD_NS:
        text = f"the first TTFT is {ms(first)} where {ms(usual)} would be usual: a first use"
        return _ColdStart(first - usual, text)
    return None
