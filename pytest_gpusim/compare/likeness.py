"""Are two runs more alike than two measurements, or a measurement and a simulation, ever are?

Each run has noise of its own, request by request, that no other run and no model of the engine has.
What only makes a run slower as a whole does not count: real runs differ by that, too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import combinations, repeat
from typing import TYPE_CHECKING

from pytest_gpusim.compare.measure import RunMetrics

if TYPE_CHECKING:
    import numpy as np

SAME_NS, SAME, SAME_SHARE = 2_000, 3e-5, 0.5
"""Two runs are one where so many requests agree so well: times that were rounded to µs do."""
FEWEST_SAME, FEWEST_ALIKE = 3, 8
SHIFTED_SHARE = 0.9
GRAIN_SHARE, PART_GRAIN_SHARE = 1e-3, 2e-3
GRAINS_NS = (10_000_000, 1_000_000, 100_000, 10_000)
SCATTER, CLOSER, FEWEST = 0.002, 8.0, 16
PROPORTIONAL = 2e-5
_MOST_PAIRS = 5  # runs, of which the means of two are looked at as well


def is_copy(one: RunMetrics, other: RunMetrics) -> str | None:
    """How two runs are one, in words; None where they are two.

    Half of the requests agree in TTFT, or in the time from there to the end, to 2 µs, or 0.003% of
    shorter times: rounded, or touched in part. Or nine of ten do: to the grain of the coarser
    clock, where the other's is finer; in both, after a shift by one time; or after a stretch by one
    factor that waits share. (A run that is slower as a whole waits longer by more, for the gaps
    between arrivals do not stretch. Where nobody waits, it cannot be told from a copy that was
    stretched.)
    """
    both = _columns([one, other], ["ttft", "e2e", "arrival_time_ns"])
    arrival, (ours, theirs) = both[0][:, 2], (values[:, :2] for values in both)
    if len(arrival) < FEWEST_SAME:
        return None
    near = abs(ours - theirs) <= _resolved(ours)
    if float(near.all(axis=1).mean()) >= SAME_SHARE:
        return "to 2 µs"
    if len(arrival) < FEWEST_ALIKE:
        return None
    grains = [_grain(arrival, side) for side in (ours, theirs)]
    coarse = max(grains)
    parts = [
        (mine[known], its[known])
        for mine, its in zip(_parts(ours), _parts(theirs), strict=True)
        if int((known := (mine > 0) & (its > 0)).sum()) >= FEWEST_ALIKE
    ]
    for mine, its in parts:
        close = abs(mine - its) <= _resolved(mine)
        if coarse == 1 and _varies(mine) and float(close.mean()) >= SAME_SHARE:
            return "to 2 µs"
    if min(grains) < coarse:
        # Coarser ones agree by chance.
        fine = coarse <= GRAIN_SHARE * _median(ours[:, 1])
        same = fine and _most(abs(ours - theirs) <= coarse)
        for mine, its in parts:
            telling = coarse <= PART_GRAIN_SHARE * _median(mine) and _varies(mine)
            same |= telling and _most((abs(mine - its) <= coarse)[:, None])
        if same:
            return f"to {coarse / 1e6:g} ms, the grain of one of their clocks"
    apart = ours - theirs
    shift = float(_median(apart[:, 0]))
    if _varies(ours[:, 0]) and _most(abs(apart - shift) <= _resolved(ours)):
        return f"shifted by {shift / 1e6:.3g} ms"
    factor = _stretch(arrival, ours, theirs)
    return None if factor is None else f"times {factor:.6g}"


def _parts(times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of TTFT and E2E: TTFT, and what comes after it."""
    return times[:, 0], times[:, 1] - times[:, 0]


def _varies(times: np.ndarray) -> bool:
    """Whether requests differ, so that agreement tells something."""
    return _median(abs(times - _median(times))) > 10 * SAME_NS


def _resolved(times: np.ndarray) -> np.ndarray:
    import numpy as np

    found: np.ndarray = np.minimum(SAME * times, SAME_NS)
    return found


def _most(agree: np.ndarray) -> bool:
    return float(agree.all(axis=1).mean()) >= SHIFTED_SHARE


def _median(values: np.ndarray) -> float:
    import numpy as np

    return float(np.median(values))


def _grain(arrival: np.ndarray, times: np.ndarray) -> int:
    """The coarsest of `GRAINS_NS` that all times, or all moments, are multiples of; 1: none."""
    moments = times + arrival[:, None]
    for grain in GRAINS_NS:
        if not (times % grain).any() or not ((moments - moments.min()) % grain).any():
            return grain
    return 1


def _stretch(arrival: np.ndarray, ours: np.ndarray, theirs: np.ndarray) -> float | None:
    """The factor between all of two runs' times, the waits among them; None where there is none."""
    import numpy as np

    decodes = [side[:, 1] - side[:, 0] for side in (ours, theirs)]
    known = (decodes[0] > 0) & (decodes[1] > 0)
    if int(known.sum()) < FEWEST_ALIKE:
        return None
    factor = _median(decodes[1][known] / decodes[0][known])
    order = np.argsort(arrival, kind="stable")
    first = np.maximum.accumulate((arrival + ours[:, 0])[order])
    waits = np.zeros(len(arrival), dtype=bool)
    waits[order[1:]] = arrival[order[1:]] < first[:-1]
    gaps = np.zeros(len(arrival))
    gaps[order[1:]] = np.diff(arrival[order])
    # By so much less than the factor says do those wait longer that came later than the first.
    telling = waits & (abs(factor - 1) * gaps > SAME_NS)
    if int(telling.sum()) < FEWEST_SAME:
        return None
    off = abs(theirs - factor * ours)
    small = 0.05 * abs(factor - 1) * gaps[:, None] + 10
    return factor if _most(off[telling] <= small[telling]) else None


def knows_a_run(sim: RunMetrics, real: Sequence[RunMetrics]) -> str | None:
    """What real runs' own noise the simulation has, in words; None where it has none, or nobody can
    tell.

    A simulation is held against each run, against means and the median of them: what it is that
    much closer to than real runs are to each other, it was made from. Of TTFT, which noise of the
    run as a whole moves unevenly where requests queue, only the same times but for a factor count.
    """
    for metric in ("tpot", "ttft"):
        ours, *theirs = _columns([sim, *real], [metric])
        if len(ours) < FEWEST:
            continue
        between = [_scatter(one, other) for one, other in combinations(theirs, 2)]
        if not between or min(between) < SCATTER:
            continue
        for name, values, many in _made_of([run.run_id for run in real], theirs):
            own = _scatter(ours, values)
            if own * CLOSER * math.sqrt(many) >= min(between):
                continue
            if metric == "tpot" or own < PROPORTIONAL:
                times = min(between) / max(own, 1e-9)
                return f"{metric.upper()} of single requests is {times:.0f} times closer to {name}"
    return None


def alike_pair(real: Sequence[RunMetrics]) -> tuple[int, int, str] | None:
    """Two of three or more runs that may be one with small changes, and why, in words.

    Their noise, request by request, is that much less than the one between any other two. No proof:
    two quiet runs beside a disturbed one look the same.
    """
    columns = _columns(real, ["tpot"])
    if len(real) < 3 or len(columns[0]) < FEWEST:
        return None
    scatter = {
        pair: _scatter(*(columns[place] for place in pair))
        for pair in combinations(range(len(real)), 2)
    }
    (one, other), *rest = sorted(scatter, key=lambda pair: scatter[pair])
    own, next_own = scatter[one, other], scatter[rest[0]]
    if next_own < SCATTER or own * CLOSER >= next_own:
        return None
    return one, other, f"to {own:.2%}, {next_own / max(own, 1e-9):.0f} times closer than any others"


def _scatter(ours: np.ndarray, theirs: np.ndarray) -> float:
    """1.05 times the median distance of the ratio's logarithm from one request to the next.

    A run that is slower as a whole has none, nor one that is slower for a while: requests that
    decode together share steps, and their pace is one sample. That of two runs with noise of their
    own is √2 times that of one, and that of a model that knows neither is no smaller than one's.
    """
    import numpy as np

    ratio = np.diff(np.log(ours[:, 0] / theirs[:, 0]))
    return 1.4826 / math.sqrt(2) * float(np.median(abs(ratio - np.median(ratio))))


def _made_of(
    names: Sequence[str], real: Sequence[np.ndarray]
) -> Iterator[tuple[str, np.ndarray, int]]:
    """What a simulation may have been made from: name, values, and of how many runs."""
    import numpy as np

    yield from zip(names, real, repeat(1))
    if 2 < len(real) <= _MOST_PAIRS:
        for one, other in combinations(real, 2):
            yield "the mean of two of them", (one + other) / 2, 2
    if len(real) > 1:
        yield "their mean", np.mean(real, axis=0), len(real)
        yield "their median", np.median(real, axis=0), len(real)


def _columns(runs: Sequence[RunMetrics], columns: Sequence[str]) -> list[np.ndarray]:
    """Of each run the columns, a row for each request that all of them have above zero."""
    import numpy as np

    index = runs[0].requests.index
    for run in runs[1:]:
        if not index.equals(run.requests.index):
            index = index.intersection(run.requests.index)
    tables = [run.requests for run in runs]
    tables = [one if one.index is index else one.loc[index] for one in tables]
    found = [np.column_stack([one[name].to_numpy("float64") for name in columns]) for one in tables]
    known = np.all([(values >= 0).all(axis=1) for values in found], axis=0)
    if len(columns) == 1:  # a ratio is asked for
        known &= np.all([(values > 0).all(axis=1) for values in found], axis=0)
    return [values[known] for values in found]
