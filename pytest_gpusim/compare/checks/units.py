"""Are both sides' times in one unit, by clocks that run alike?"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from pytest_gpusim.compare.checks.declaration import Accept, Finding, Protects, check, listed, ms
from pytest_gpusim.compare.metrics import HEADLINES
from pytest_gpusim.compare.sides import Sides

if TYPE_CHECKING:
    import numpy as np

    from pytest_gpusim.runs import Run

UNIT_FACTOR = 300.0  # µs for ns is 1,000; no engine and no simulator is that far from another
DRIFT, DRIFT_NS = 5e-4, 2e6
_CERTAIN = 0.9  # rank correlation of a delay with the time at which a drift is no chance
_FEWEST = 8
_WALL_CLOCK_SLACK = 1e-3
# A client may stamp the end of an answer a little after its last token.
_APART_NS, _APART_SHARE, _APART_REQUESTS = 10e6, 0.1, 0.05


@check(
    Protects.CASE,
    rank=12,
    needed=True,
    accept=Accept.NEVER,
    cause="times are in different units, or by clocks that drift apart",
)
def units(sides: Sides) -> Finding:
    """Latencies of both sides are in the same unit, and no clock drifts against another.

    Fails where latencies or arrivals differ by a factor of about 1,000 or more; where what passes
    between a scheduled arrival and its sending, or between the simulated and the real first token
    of requests that did not queue, grows in proportion to the time; where a run lasts longer by
    its own clock than by the wall clock in its metadata; and where times of one run contradict each
    other: a request that is scheduled before it arrives or after its first token, or that ends at
    another time than its last token.
    """
    if not any(sides.has(metric) for metric in HEADLINES):
        return "unknown", "no latency can be had on both sides"
    wrong = [*_factors(sides), *(_drift_of_arrivals(sides))]
    for run in sides.real:
        wrong += [*_late_and_later(run), *_beyond_wall_clock(run)]
    for run in (*sides.real, *sides.sims):
        wrong += [*_scheduled_outside(run), *_other_last_token(run)]
    if not wrong:
        wrong += _growing_apart(sides)
    if wrong:
        return "fail", listed(wrong, 2)
    return "pass", "latencies are of one magnitude, and no clock drifts"


def _factors(sides: Sides) -> list[str]:
    found = []
    for metric in HEADLINES:
        figure = sides.figures.get(metric, "p50")
        if figure is None or min(*figure.real, *figure.sim) <= 0:
            continue
        for run, value in zip(sides.real, figure.real, strict=True):
            ratio = value / figure.sim_value
            if max(ratio, 1 / ratio) >= UNIT_FACTOR:
                found.append(
                    f"median {metric.upper()} is {ms(value)} in {run.run_id} and "
                    f"{ms(figure.sim_value)} in the simulation, a factor of "
                    f"{max(ratio, 1 / ratio):,.0f}: is one of them in another unit?"
                )
    return found


def _drift_of_arrivals(sides: Sides) -> list[str]:
    """Arrivals that are the same schedule by a clock that runs differently. Under a limit, and in
    conversations, they follow the answers: a run that is slower has later ones.
    """
    import numpy as np

    if not sides.sim.is_open_loop:
        return []
    theirs = _since_first(sides.sim)
    found = []
    for run in sides.real:
        ours = _since_first(run)
        if len(ours) != len(theirs) or len(ours) < _FEWEST or not theirs[-1] > 0:
            continue
        rate = float(ours[-1] / theirs[-1])
        unlike = float(np.abs(ours - rate * theirs).max())
        # A drift moves every arrival in proportion; the jitter of a client moves each by itself.
        if abs(rate - 1) * theirs[-1] >= DRIFT_NS and unlike <= 0.1 * abs(rate - 1) * theirs[-1]:
            found.append(
                f"arrivals of {run.run_id} are those of the workload times {rate:.6g}: a clock "
                "that drifts, or another unit"
            )
    return found


def _since_first(run: Run) -> np.ndarray:
    import numpy as np

    arrivals = np.sort(run.requests["arrival_time_ns"].to_numpy(dtype="float64"))
    since: np.ndarray = arrivals - arrivals[0]
    return since


def _late_and_later(run: Run) -> list[str]:
    rows = run.requests[run.requests["sent_time_ns"].notna()]
    arrival = rows["arrival_time_ns"].to_numpy(dtype="float64")
    late = rows["sent_time_ns"].to_numpy(dtype="float64") - arrival
    slope = _drift(arrival, late)
    if slope is None:
        return []
    return [
        f"sending in {run.run_id} falls behind its schedule by {slope:+.2%} of the time: its clock "
        "drifts, or its sender cannot keep up"
    ]


def _growing_apart(sides: Sides) -> list[str]:
    """First tokens that drift apart although nothing queues, where no sending times are known."""
    import numpy as np

    from pytest_gpusim.compare.series import paired_requests

    if any(run.requests["sent_time_ns"].notna().any() for run in sides.real):
        return []
    table = paired_requests(sides)[["arrival_time_ns", "real_ttft", "sim_ttft"]].dropna()
    if len(table) < _FEWEST:
        return []
    arrival, real, sim = table.to_numpy(dtype="float64").T
    third = len(sim) // 3
    if float(np.median(sim[-third:])) > 1.2 * float(np.median(sim[:third])):
        return []  # the simulated queue grows, too: then a small error of capacity does as well
    slope = _drift(arrival, real - sim)
    if slope is None:
        return []
    return [
        f"real first tokens drift from the simulated ones by {slope:+.2%} of the time: the clock "
        "drifts, or the real engine alone is saturated"
    ]


def _drift(time: np.ndarray, delay: np.ndarray) -> float | None:
    """The slope of a delay that grows in proportion to the time; None where it does not.

    Theil's estimate, the median over pairs.
    """
    import numpy as np
    import pandas as pd

    if len(time) < _FEWEST or np.ptp(time) <= 0:
        return None
    picked = np.linspace(0, len(time) - 1, min(len(time), 300)).astype(int)
    order = np.argsort(time, kind="stable")[picked]
    x, y = time[order], delay[order]
    first, second = np.triu_indices(len(x), 1)
    apart = x[second] - x[first]
    slopes = (y[second] - y[first])[apart > 0] / apart[apart > 0]
    slope = float(np.median(slopes)) if len(slopes) else 0.0
    ranks = [pd.Series(values).rank().to_numpy() for values in (x, y)]
    if np.ptp(ranks[1]) == 0 or abs(float(np.corrcoef(*ranks)[0, 1])) < _CERTAIN:
        return None
    return slope if abs(slope) >= DRIFT and abs(slope) * np.ptp(x) >= DRIFT_NS else None


def _beyond_wall_clock(run: Run) -> list[str]:
    start, end = _moment(run.meta.get("started_at")), _moment(run.meta.get("ended_at"))
    ends = run.finished["completion_time_ns"]
    if start is None or end is None or end <= start or ends.empty or run.meta.get("stated"):
        return []
    wall = (end - start).total_seconds()
    span = float(ends.max() - run.requests["arrival_time_ns"].min()) / 1e9
    if span <= wall * (1 + _WALL_CLOCK_SLACK) + 1e-3:
        return []
    return [
        f"{run.run_id} lasts {span:.3f} s by its own clock and {wall:.3f} s by the wall clock: its "
        "clock runs fast"
    ]


def _scheduled_outside(run: Run) -> list[str]:
    rows = run.finished[run.finished["scheduled_time_ns"].notna()]
    scheduled = rows["scheduled_time_ns"].astype("float64")
    early = rows["arrival_time_ns"] - scheduled
    late = scheduled - rows["first_token_time_ns"].astype("float64")
    outside = (early > _APART_NS) | (late > _APART_NS)
    if rows.empty or float(outside.mean()) <= _APART_REQUESTS:
        return []
    i = rows.loc[outside.to_numpy(dtype=bool), "request_id"].iloc[0]
    return [
        f"scheduled_time_ns of {int(outside.sum())} requests of {run.run_id}, such as {i}, is "
        "before their arrival or after their first token: is it in another unit?"
    ]


def _other_last_token(run: Run) -> list[str]:
    import numpy as np

    if run.tokens is None or run.tokens.empty:
        return []
    # Rows are in order of request and token.
    owner = run.tokens["request_id"].to_numpy(dtype="int64")
    ends = run.tokens[np.append(owner[1:] != owner[:-1], True)]
    last = ends.set_index("request_id")["token_time_ns"].astype("float64")
    rows = run.finished.set_index("request_id")
    first, end = (
        rows[name].astype("float64") for name in ("first_token_time_ns", "completion_time_ns")
    )
    off = (end - last.reindex(rows.index)).abs()
    apart = off > _APART_NS + _APART_SHARE * (end - first)
    if rows.empty or float(apart.mean()) <= _APART_REQUESTS:
        return []
    i = rows.index[apart.to_numpy(dtype=bool)][0]
    return [
        f"{int(apart.sum())} requests of {run.run_id} end at another time than their last token "
        f"(request {i}, by {ms(float(off[i]))}): are the token times in another unit?"
    ]


def _moment(text: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return None
