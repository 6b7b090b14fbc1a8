"""Checks of a bundle's numbers: signs, order, repetitions, outliers.

Each returns what is wrong, one line per finding, naming file, line or point, and column.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from pytest_gpusim.bundle.schema import (
    ALL_REDUCE,
    ATTENTION,
    MIXED_ATTENTION,
    MLP,
    MOE,
    OVERHEAD,
    PER_SEQUENCE,
    SEND_RECV,
    TP,
    Bundle,
    time_column,
)
from pytest_gpusim.bundle_checks.series import (
    LIGHT_OPERATORS,
    MATRIX_PRODUCTS,
    Series,
    operators_of,
    series_of,
)
from pytest_gpusim.tables import line_of

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

# A kernel chosen for larger sizes may be faster; twice as fast on the whole is a mistake.
_CHEAPER = 0.5
_OUTLIER = 4.0
# Steps of one shape differ by so much on a quiet machine: 2 to 3% between passes.
_NOISE = 0.05
_DISAGREEMENT = 2.0


def time_findings(bundle: Bundle) -> list[str]:
    """Times that are zero or empty where work is done."""
    found = []
    for operator in operators_of(bundle, MATRIX_PRODUCTS):
        found += _not_positive(bundle, MLP, bundle.mlp, time_column(operator))
    prefill = bundle.attention["is_prefill"]
    for rows, operator in ((prefill, "attn_prefill"), (~prefill, "attn_decode")):
        frame = bundle.attention[rows]
        if frame.empty:
            found.append(f"{ATTENTION}: has no {operator.removeprefix('attn_')} rows")
        else:
            found += _not_positive(bundle, ATTENTION, frame, time_column(operator))
    for name, small in (
        (MIXED_ATTENTION, bundle.mixed_attention),
        (PER_SEQUENCE, bundle.per_sequence),
        (ALL_REDUCE, bundle.all_reduce),
        (SEND_RECV, bundle.send_recv),
        (MOE, bundle.moe),
    ):
        if small is not None:
            found += _not_positive(bundle, name, small, "time_ns")
    return found


def duplicate_findings(bundle: Bundle) -> tuple[list[str], list[str]]:
    """(points measured more than once, those among them whose times disagree)."""
    repeated, contradicting = [], []
    for name, frame, keys, times in _keyed(bundle):
        again = frame.duplicated(keys, keep=False)
        if not again.any():
            continue
        rows = frame[again]
        position = int(frame.duplicated(keys).to_numpy().argmax())
        line = line_of(bundle.path / name, position)
        repeated.append(f"{name}: {line} repeats a point ({int(again.sum())} rows are repeated)")
        for column in times:
            groups = rows.groupby(keys)[column]
            low, high = groups.min(), groups.max()
            apart = high > _DISAGREEMENT * low
            if apart.any():
                point = _point(keys, apart.idxmax())
                contradicting.append(
                    f"{name}: {column} at {point} is both {low[apart].iloc[0]:g} and "
                    f"{high[apart].iloc[0]:g}"
                )
                break
    return repeated, contradicting


def zero_findings(bundle: Bundle) -> list[str]:
    """Operators other than matrix products that take no time at any size."""
    return [
        f"{MLP}: column {time_column(name)} is zero throughout"
        for name in operators_of(bundle, LIGHT_OPERATORS)
        if time_column(name) in bundle.mlp
        and len(times := bundle.mlp[time_column(name)].dropna())
        and not times.any()
    ]


_OF_SERIES: dict[str, tuple[list[str], list[str]]] = {}


def series_findings(bundle: Bundle, digest: str) -> tuple[list[str], list[str]]:
    """`outlier_findings` and `monotone_findings`, looked for once in the same tables.

    Recordings carry copies of one profile.

    Args:
        bundle: The bundle, as its files are.
        digest: Of the files of its tables.
    """
    content = f"{digest} {json.dumps(bundle.meta, sort_keys=True)}"
    if content not in _OF_SERIES:
        series = list(series_of(bundle))
        _OF_SERIES[content] = outlier_findings(series), monotone_findings(series)
    return _OF_SERIES[content]


def monotone_findings(series: Iterable[Series]) -> list[str]:
    """Where more work takes much less time."""
    import numpy as np
    import pandas as pd

    found = []
    for each in series:
        if not each.ordered:
            continue
        highest = pd.Series(each.y).groupby(each.lines).cummax().to_numpy()
        falls = np.flatnonzero(each.y < _CHEAPER * highest)
        if len(falls):
            place = int(falls[0])
            same = np.flatnonzero(each.lines[:place] == each.lines[place])
            before = int(same[each.y[same].argmax()])
            found.append(
                f"{each.table}: {each.name(each.lines[place])} takes {each.y[before]:g} at "
                f"{each.x[before]:g} and {each.y[place]:g} at {each.x[place]:g}"
            )
    return found


def outlier_findings(series: Iterable[Series]) -> list[str]:
    """Points far from the line between their neighbours, or from its continuation at the ends."""
    import numpy as np

    inner_found: dict[tuple[str, str], list[str]] = {}
    found: dict[tuple[str, str], list[str]] = {}
    for each in series:
        if len(each.y) < 2:
            continue
        inner, first, last = _off(each) if each.whole is None else _rest_off(each, each.whole)
        for known, off in ((inner_found, inner), (found, first | last)):
            if off.any():
                text = f"{each.table}: {_beside(each, int(np.flatnonzero(off)[0]))}"
                known.setdefault((each.table, each.what), []).append(text)
    # The neighbour of a wild point may look wild at its end of a line; two neighbours tell better.
    found.update(inner_found)
    return [text for texts in found.values() for text in texts]


def _off(series: Series) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """By point: wild between two neighbours, wild as a first, wild as a last point of its line."""
    import numpy as np

    x, y, count = series.x, series.y, len(series.y)
    before, after = _neighbours(series)
    inner, first, last = (np.zeros(count, dtype=bool) for _ in range(3))

    at = np.flatnonzero(before & after)
    line = _line(x[at], x[at - 1], y[at - 1], x[at + 1], y[at + 1])
    high, low = np.maximum(y[at - 1], y[at + 1]), np.minimum(y[at - 1], y[at + 1])
    inner[at] = (y[at] > _OUTLIER * np.maximum(line, high)) | (
        y[at] * _OUTLIER < np.minimum(line, low)
    )

    # Times are flat, then grow with the size at most: the ends lie between these two courses.
    at = np.flatnonzero(~before & after)
    line = np.where(
        after[np.minimum(at + 1, count - 1)],
        _line(
            x[at],
            x[at + 1],
            y[at + 1],
            x[np.minimum(at + 2, count - 1)],
            y[np.minimum(at + 2, count - 1)],
        ),
        0.0,
    )
    share = (x[at] / np.where(x[at + 1] > 0, x[at + 1], 1.0)) ** series.power
    lowest = np.maximum(line, y[at + 1] * share)
    first[at] = (y[at] > _OUTLIER * y[at + 1]) | (y[at] * _OUTLIER < lowest)

    at = np.flatnonzero(before & ~after & (np.roll(x, 1) > 0))
    line = np.where(before[at - 1], _line(x[at], x[at - 2], y[at - 2], x[at - 1], y[at - 1]), 0.0)
    growth = (x[at] / x[at - 1]) ** series.power
    highest = np.maximum(line, y[at - 1] * growth)
    last[at] = (y[at] > _OUTLIER * highest) | (y[at] * _OUTLIER < y[at - 1])
    return inner, first, last


def _rest_off(series: Series, whole: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same for the rests of ``whole``: far larger than neighbours and than most others, and
    larger than what the whole varies by.
    """
    import numpy as np

    size = np.abs(series.y)
    before, after = _neighbours(series)
    beside = np.full(len(size), np.median(size))
    at = np.flatnonzero(before)
    growth = np.maximum(1.0, series.x[at] / np.where(series.x[at - 1] > 0, series.x[at - 1], 1.0))
    # Only an end may go on growing: between two points there is nothing to grow to.
    beside[at] = np.maximum(beside[at], size[at - 1] * np.where(after[at], 1.0, growth))
    at = np.flatnonzero(after)
    beside[at] = np.maximum(beside[at], size[at + 1])
    off = (size > _OUTLIER * beside) & (size > _NOISE * whole) & (before | after)
    return off & before & after, off & ~before, off & ~after


def _neighbours(series: Series) -> tuple[np.ndarray, np.ndarray]:
    """By point: whether it has one before it, and one after it, in its line."""
    import numpy as np

    same = series.lines[1:] == series.lines[:-1]
    return np.concatenate([[False], same]), np.concatenate([same, [False]])


def _line(
    x: np.ndarray, x0: np.ndarray, y0: np.ndarray, x1: np.ndarray, y1: np.ndarray
) -> np.ndarray:
    """The line through two points, at ``x``; the first one's value where they are the same."""
    import numpy as np

    width = np.where(x1 != x0, x1 - x0, 1.0)
    line: np.ndarray = y0 + (x - x0) * (y1 - y0) / width
    return line


def _beside(series: Series, place: int) -> str:
    before, after = _neighbours(series)
    near = [n for n, there in ((place - 1, before[place]), (place + 1, after[place])) if there]
    others = " and ".join(f"{series.y[n]:g} at {series.x[n]:g}" for n in near)
    name = series.name(series.lines[place])
    return f"{name} is {series.y[place]:g} at {series.x[place]:g}, beside {others}"


def _not_positive(bundle: Bundle, name: str, frame: pd.DataFrame, column: str) -> list[str]:
    bad = ~(frame[column] > 0).to_numpy()
    if not bad.any():
        return []
    position = int(frame.index[int(bad.argmax())])
    line = line_of(bundle.path / name, position)
    return [f"{name}: {line}, column {column}: expected a positive time ({int(bad.sum())} rows)"]


def _keyed(bundle: Bundle) -> Iterator[tuple[str, pd.DataFrame, list[str], list[str]]]:
    yield MLP, bundle.mlp, ["num_tokens", TP], [time_column(op) for op in MATRIX_PRODUCTS]
    keys = ["batch_size", "prefill_chunk_size", "kv_cache_size", "is_prefill", TP]
    yield (
        ATTENTION,
        bundle.attention,
        keys,
        [time_column("attn_prefill"), time_column("attn_decode")],
    )
    if bundle.per_sequence is not None:
        yield PER_SEQUENCE, bundle.per_sequence, ["operator", "sequences"], ["time_ns"]
    if bundle.mixed_attention is not None:
        axes = ["prefill_chunk", "kv_prefill", "n_decode", "kv_decode"]
        yield MIXED_ATTENTION, bundle.mixed_attention, axes, ["time_ns"]
    if bundle.all_reduce is not None:
        yield ALL_REDUCE, bundle.all_reduce, [TP, "size_bytes"], ["time_ns"]
    if bundle.overhead is not None:
        # Their sign may change: repetitions are named, not judged.
        yield OVERHEAD, bundle.overhead, ["num_prefill_tokens", "num_sequences"], []


def _point(keys: Sequence[str], values: object) -> str:
    each = values if isinstance(values, tuple) else (values,)
    return ", ".join(f"{key} {value}" for key, value in zip(keys, each, strict=True))
