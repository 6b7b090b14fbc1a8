"""Was each real run steady, from its first request to its last?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pytest_gpusim.checks import Status
from pytest_gpusim.compare.checks.declaration import Finding, Protects, check
from pytest_gpusim.compare.sensitivity import sensitivity
from pytest_gpusim.compare.sides import Sides

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

UNSTEADY_WARN, UNSTEADY_FAIL, SIGMAS = 0.10, 0.25, 5.0
HEADS, HEAD_SHARES = (3, 5, 8, 10, 15, 20), (10, 5, 3)
"""So many first requests are held against the others, and the first tenth, fifth and third."""
_FEWEST = 15
_NEIGHBOURS, _ALIKE = 15, 0.2
_TIMES_A_WINDOW = 1.5
_MAGNIFIED = 1.5


@dataclass(frozen=True)
class _Series:
    """One latency, its requests in order of arrival.

    Attributes:
        name: What it is called.
        ratio: ln(real / simulated), shaped (runs, requests).
        sim: ln(simulated), shaped (requests,).
    """

    name: str
    ratio: np.ndarray
    sim: np.ndarray


@check(
    Protects.MEASUREMENT,
    rank=85,
    cause="the real run was slower at first than later on, or the other way round",
)
def steady(sides: Sides) -> Finding:
    """No warm-up and no drift shows in the data, beyond what the load does to both sides.

    Looked at are the prefill time (TTFT less the queue delay; TTFT where that is unknown and no
    queue magnifies it; less what more prompts beside it explain) and the TPOT, over the simulated
    ones. Each request is held against those that the simulation gives about the same time, so that
    a profile that is off at some batch sizes is no warm-up; one without such peers says nothing.
    The first requests are slower where their median is, by more than 10% and five standard errors,
    and by half as much again as that of so many requests in a row anywhere else, in any run: slow
    moments and bursts are no warm-up. The same of the median over the runs, by itself. A run drifts
    where both are longer in its last third than in its first, and one that surely, with the second
    between. Warns from 10% on, and fails from 25% on.
    """
    looked_at = list(_series(sides))
    found = [each for series in looked_at for each in _slow_at_first(sides, series)]
    found += _slower_and_slower(sides, looked_at)
    if not found:
        return "pass", "the first requests are like the others, and no run becomes slower"
    excess, text = max(found)
    status: Status = "fail" if excess > UNSTEADY_FAIL else "warn"
    return status, text


def _series(sides: Sides) -> Iterator[_Series]:
    import numpy as np
    import pandas as pd

    real, sim = [metrics.requests for metrics in sides.real_metrics], sides.sim_metrics.requests
    known = sides.has("queue_delay")
    order = real[0]["arrival_time_ns"].sort_values(kind="stable").index
    for name, column in (("the prefill time" if known else "TTFT", "ttft"), ("TPOT", "tpot")):
        if not sides.has(column) or (name == "TTFT" and _magnified(sides)):
            continue
        queued = "queue_delay" if known and column == "ttft" else None
        times = [each[column] - (each[queued] if queued else 0) for each in (*real, sim)]
        table = pd.concat(times, axis=1).reindex(order).to_numpy(dtype="float64")
        complete = (table > 0).all(axis=1)
        logs = np.log(table[complete]).T
        if logs.shape[1] < _FEWEST:
            continue
        ratio = logs[:-1] - logs[-1]
        if column == "ttft":
            beside = [_prompts_beside(each, queued).reindex(order) for each in (*real, sim)]
            # At least its own; a sum of very long ones may have lost that.
            more = np.log(np.maximum(pd.concat(beside, axis=1).to_numpy()[complete].T, 1.0))
            ratio -= np.maximum(more[:-1] - more[-1], 0.0)
        yield _Series(name, ratio, logs[-1])


def _prompts_beside(requests: pd.DataFrame, queued: str | None) -> pd.Series:
    """Of each request, the tokens of all prompts that are computed while its own is."""
    import numpy as np
    import pandas as pd

    arrival = requests["arrival_time_ns"].to_numpy()
    start = arrival + (requests[queued].to_numpy() if queued else 0)
    end = arrival + requests["ttft"].to_numpy()
    tokens = requests["num_prefill_tokens"].clip(lower=1).to_numpy()  # 0 where nobody counted

    def before(moments: np.ndarray, limits: np.ndarray, side: Literal["left", "right"]) -> Any:
        order = np.argsort(moments, kind="stable")
        until = np.concatenate([[0.0], np.cumsum(tokens[order])])
        return until[np.searchsorted(moments[order], limits, side=side)]

    return pd.Series(before(start, end, "left") - before(end, start, "right"), requests.index)


def _magnified(sides: Sides) -> bool:
    """Whether requests that queue later on make a run that is fast as a whole slow at first."""
    return any(
        sensitivity(metrics).get("ttft_p50", 1.0) > _MAGNIFIED for metrics in sides.real_metrics
    )


def _slow_at_first(sides: Sides, series: _Series) -> Iterator[tuple[float, str]]:
    """How much longer something takes at first, as a ratio, and what, in words."""
    import numpy as np

    names = [run.run_id for run in sides.real]
    ratio = series.ratio
    if len(names) > 1:  # what one run alone has is gone in the median
        ratio = np.vstack([ratio, np.median(ratio, axis=0)])
        names.append("the runs, in the median,")
    count = ratio.shape[1]
    heads = {*HEADS, *(count // share for share in HEAD_SHARES)}
    for head in sorted(head for head in heads if min(HEADS) <= head <= count // 3):
        for place, excess in _first(ratio, series.sim, head, len(sides.real)):
            text = (
                f"{series.name} of the first {head} requests of {names[place]} is {excess:.0%} "
                "longer, against the simulated, than of others alike: warm up longer"
            )
            yield excess, text


def _slower_and_slower(sides: Sides, looked_at: Sequence[_Series]) -> Iterator[tuple[float, str]]:
    """The same of the last third of a run against its first; of all that is looked at, for a
    machine that becomes slower does so at everything.
    """
    grown = [_last_third(series.ratio, series.sim) for series in looked_at]
    for place, run in enumerate(sides.real):
        known = [(*each[place], s.name) for s, each in zip(looked_at, grown, strict=True) if each]
        if not known or min(known)[0] <= math.log1p(UNSTEADY_WARN):
            continue
        for excess, sure, name in known:
            if sure:
                yield math.expm1(excess), (
                    f"{name} in the last third of {run.run_id} is {math.expm1(excess):.0%} "
                    "longer, against the simulated, than in the first: the machine became slower"
                )  # fmt: skip


def _first(ratio: np.ndarray, sim: np.ndarray, head: int, runs: int) -> Iterator[tuple[int, float]]:
    """Which rows' first requests are slower than the others, and by how much."""
    import numpy as np

    own, alike = _against_alike(ratio, sim, np.arange(len(sim)) >= head)
    first, rest = own[:, :head][:, alike[:head]], own[:, head:][:, alike[head:]]
    size = first.shape[1]
    if size < max(min(HEADS), head // 2) or rest.shape[1] < 2 * size:
        return
    usual = np.median(rest, axis=1, keepdims=True)
    first, rest = first - usual, rest - usual
    windows = np.lib.stride_tricks.sliding_window_view(rest, size, axis=1)
    most = np.median(windows[:, :: max(1, size // 4)], axis=2).max(axis=1)
    most[:runs] = most[:runs].max()
    for place, (ours, others) in enumerate(zip(first, rest, strict=True)):
        excess = float(np.median(ours))
        if excess > _TIMES_A_WINDOW * most[place] and _sure(ours, others):
            yield place, math.expm1(excess)


def _last_third(ratio: np.ndarray, sim: np.ndarray) -> list[tuple[float, bool]]:
    """Of each run, by how much the last third is above the first, and whether that is sure; empty
    where too few requests have peers.
    """
    import numpy as np

    own, alike = _against_alike(ratio, sim, np.ones(len(sim), dtype=bool))
    places = [part[alike[part]] for part in np.array_split(np.arange(len(sim)), 3)]
    if min(map(len, places)) < min(HEADS):
        return []
    found = []
    for values in own:
        first, second, third = (values[part] for part in places)
        middle = [float(np.median(part)) for part in (first, second, third)]
        sure = middle == sorted(middle) and _sure(third, first)
        found.append((middle[2] - middle[0], sure))
    return found


def _sure(ours: np.ndarray, others: np.ndarray) -> bool:
    """Whether two medians differ by enough, and by more than chance."""
    import numpy as np

    apart = float(np.median(ours) - np.median(others))
    deviation = 1.4826 * float(np.median(abs(others - np.median(others))))
    # The standard error of a median is about 1.25 times that of a mean.
    error = 1.25 * deviation * math.sqrt(1 / len(ours) + 1 / len(others))
    return apart > max(math.log1p(UNSTEADY_WARN), SIGMAS * error)


def _against_alike(
    ratio: np.ndarray, sim: np.ndarray, peers: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Each ratio less the median of those of its nearest peers by simulated time, itself left out;
    and which requests have peers that are near.
    """
    import numpy as np

    places = np.flatnonzero(peers)
    places = places[np.argsort(sim[places], kind="stable")]
    many = min(_NEIGHBOURS, len(places))
    start = np.clip(np.searchsorted(sim[places], sim) - many // 2, 0, len(places) - many)
    near = places[start[:, None] + np.arange(many)]
    apart = abs(sim[near] - sim[:, None])
    apart[near == np.arange(len(sim))[:, None]] = np.inf
    # One is left out of all: itself, or the one that is least alike.
    near = np.take_along_axis(near, np.argsort(apart, axis=1, kind="stable")[:, :-1], axis=1)
    alike = np.median(np.sort(apart, axis=1)[:, :-1], axis=1) <= _ALIKE
    return ratio - np.median(ratio[:, near], axis=2), alike
