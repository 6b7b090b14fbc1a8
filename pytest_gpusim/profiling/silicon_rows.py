"""Rows of the silicon tables: looked up, and held against rows of more work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_gpusim.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

LIMIT = 1.5
"""How many times as long as more work a row may take.

An engine can pad its work to that of the other row, so no kernel needs longer than it. One that is
chosen for more rows may all the same be faster by a third: on an H200 an fp8 product of 8,192 x
8,192 takes 1.4 times as long with 129 rows as with 256. Beyond that it is the
measurement: on a B200 every twelfth fp8 product takes two or three times as long as its
neighbours, on a B300 only the first of nearly every shape does, the one that was measured cold.
"""


class Contradictions(NamedTuple):
    """How many rows of how many were replaced."""

    replaced: int
    rows: int


def without_contradictions(times: pd.DataFrame) -> tuple[pd.DataFrame, Contradictions]:
    """The times with those that contradict more work replaced.

    A single row of more work may itself be wrong, so two have to take so much less; the second
    least time of more work stands for the row.

    Args:
        times: One line of times a column; the index is the size of the work, ascending. A size
            that a line has no time of is NaN.
    """
    import numpy as np
    import pandas as pd

    known = times.to_numpy(dtype=float)
    least = np.full(known.shape[1], np.inf)
    second = least.copy()
    mended, replaced = known.copy(), 0
    for index in range(len(known) - 1, -1, -1):
        row = known[index]
        wrong = row > LIMIT * second
        mended[index, wrong] = second[wrong]
        replaced += int(wrong.sum())
        row = np.where(np.isnan(row), np.inf, row)
        second = np.minimum(second, np.maximum(least, row))
        least = np.minimum(least, row)
    frame = pd.DataFrame(mended, times.index, times.columns)
    return frame, Contradictions(replaced, int((~np.isnan(known)).sum()))


def with_longer_contexts(times: pd.DataFrame) -> pd.DataFrame:
    """Attention of decodes, with contexts beyond those that so many sequences were measured at.

    The tables end at fewer tokens of context the more sequences there are: 256 at 511, where 128
    have 2,047. There a kernel does little but read the KV cache, so a batch takes so much more per
    token of context as the next smaller one does, and not what its last two contexts, near the
    kernel's floor, would lead to.

    Args:
        times: The index is the number of sequences, the columns are contexts, both ascending.
    """
    import numpy as np
    import pandas as pd

    known = times.to_numpy(dtype=float).copy()
    sequences = times.index.to_numpy(dtype=float)
    for index in range(1, len(known)):
        row, fewer = known[index], known[index - 1]
        measured = np.flatnonzero(~np.isnan(row))
        if not len(measured) or np.isnan(fewer[measured[-1]]):
            continue
        last = measured[-1]
        scale = sequences[index] / sequences[index - 1]
        row[last + 1 :] = row[last] + scale * np.maximum(0, fewer[last + 1 :] - fewer[last])
    return pd.DataFrame(known, times.index, times.columns)


def bracket(value: int, known: Sequence[Any], what: str) -> list[tuple[float, int]]:
    """(weight, known value) of the neighbours between which to interpolate."""
    if value < known[0] or value > known[-1]:
        raise UsageError(f"{what} is {value}, measured are {known[0]} to {known[-1]}")
    above = next(each for each in known if each >= value)
    if above == value:
        return [(1.0, int(above))]
    below = max(each for each in known if each < value)
    share = (value - below) / (above - below)
    return [(1.0 - share, int(below)), (share, int(above))]


def rows_with(frame: pd.DataFrame, column: str, wanted: Any, where: str) -> pd.DataFrame:
    """The rows of one value; raises `UsageError` with the values that there are."""
    found = frame[frame[column] == wanted]
    if found.empty:
        have = ", ".join(str(value) for value in sorted(frame[column].unique())) or "none"
        raise UsageError(f"{where}: has no {column} {wanted}, measured are {have}")
    return found
