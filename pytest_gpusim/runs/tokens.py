"""The token table of a run: read whole, or held to the contract chunk by chunk."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_gpusim.errors import InputError
from pytest_gpusim.runs.schema import TOKEN_COLUMNS, TOKEN_ID
from pytest_gpusim.tables import integer_chunks, read_table, refuse_row

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

CLOCK_GRAIN_NS = 1000
"""By so much two times of one clock may miss each other: seconds since 1970 as floats do."""
TIME = "token_time_ns"


def clock_grain(requests: pd.DataFrame) -> float:
    """How far two times of a run may miss each other; of a run of some µs they do not."""
    ends = requests["completion_time_ns"].dropna()
    return min(CLOCK_GRAIN_NS, float(ends.max()) / 1000) if len(ends) else 0.0


def read_tokens(path: Path, requests: pd.DataFrame) -> pd.DataFrame:
    """The table in order of request and token.

    Args:
        path: ``token_metrics.csv``, plain or packed.
        requests: The run's requests.

    Raises:
        InputError: A row breaks an invariant, or the two tables do not fit.
    """
    import numpy as np
    import pandas as pd

    rows = read_table(
        path, required=TOKEN_COLUMNS, integers=(*TOKEN_COLUMNS, TOKEN_ID), nullable=(TOKEN_ID,)
    )
    owner, index = _numbers(rows, "request_id"), _numbers(rows, "token_index")
    if not _ascend(owner, index):
        rows = rows.iloc[np.lexsort((index, owner))]
        owner, index = _numbers(rows, "request_id"), _numbers(rows, "token_index")
    times, starts, position = _numbers(rows, TIME), _starts(owner), _positions(owner)
    known = np.isin(owner, _numbers(requests, "request_id"))
    refuse_row(path, rows, ~known, "request_id", "a request of the run")
    refuse_row(path, rows, index != position, "token_index", "contiguous indices from 0")
    before = np.roll(times, 1)
    follows = position > 0
    refuse_row(
        path, rows, follows & (times < before - clock_grain(requests)), TIME,
        "times that never decrease, at least", before,
    )  # fmt: skip
    done = requests[requests["status"] != "error"].set_index("request_id")
    with_tokens = pd.Index(owner[starts], dtype="Int64")
    first = pd.Series(times[starts], index=with_tokens, dtype="Int64")
    missing = done.index.difference(first.index)
    if len(missing):
        raise InputError(path, f"request_id {missing[0]}", "has no token rows")
    due, found = done["first_token_time_ns"], first.reindex(done.index)
    wrong = (due - found).abs() > clock_grain(requests)
    if wrong.any():
        i = done.index[wrong][0]
        raise InputError(
            path,
            f"request_id {i}",
            f"token 0 is not at the request's first_token_time_ns, {due[i]}, but at {found[i]}",
        )
    decreases = bool((follows & (times < before)).any())
    rows = _on_one_clock(rows, due[due != found], decreases)
    lengths = np.diff(np.append(starts, len(owner)))
    counts = pd.Series(lengths, index=with_tokens, dtype="Int64").reindex(done.index)
    wrong = counts != done["num_decode_tokens_actual"]
    if wrong.any():
        i = done.index[wrong][0]
        raise InputError(
            path,
            f"request_id {i}",
            f"the number of token rows is not num_decode_tokens_actual: {counts[i]} rows, "
            f"{done['num_decode_tokens_actual'][i]} tokens",
        )
    extra = [column for column in rows.columns if column not in TOKEN_COLUMNS]
    return rows[[*TOKEN_COLUMNS, *extra]].reset_index(drop=True)


def tokens_hold(path: Path, requests: pd.DataFrame, *, chunk_rows: int = 1 << 18) -> bool:
    """Whether the table certainly holds what `read_tokens` asks for; found in little memory.

    The rows of each request must come in order. False: that reader knows, and says what is wrong.
    """
    import numpy as np

    requests = requests.sort_values("request_id")
    ids = _numbers(requests, "request_id")
    count = np.zeros(len(ids), dtype=np.int64)
    first, last = np.zeros_like(count), np.zeros_like(count)
    grain = clock_grain(requests)
    try:
        for chunk in integer_chunks(path, TOKEN_COLUMNS, (TOKEN_ID,), chunk_rows):
            owner, index, times = (_numbers(chunk, name) for name in TOKEN_COLUMNS[:3])
            place = np.searchsorted(ids, owner)
            if not (ids[np.minimum(place, len(ids) - 1)] == owner).all():
                return False
            if (place[1:] < place[:-1]).any():
                order = np.argsort(place, kind="stable")
                place, index, times = place[order], index[order], times[order]
            starts, position = _starts(place), _positions(place)
            before = np.roll(times, 1)
            before[starts] = np.where(count[place[starts]] > 0, last[place[starts]], times[starts])
            if (index != count[place] + position).any() or (times < before - grain).any():
                return False
            new = starts[count[place[starts]] == 0]
            first[place[new]] = times[new]
            ends = np.append(starts[1:], len(place)) - 1 if len(starts) else starts
            last[place[ends]] = times[ends]
            count[place[ends]] += position[ends] + 1
    except ValueError:
        return False
    done = (requests["status"] != "error").to_numpy(dtype=bool)
    due = requests["first_token_time_ns"].to_numpy(dtype="int64", na_value=0)
    asked = requests["num_decode_tokens_actual"].to_numpy(dtype="int64", na_value=0)
    fits = (count == asked) & (np.abs(due - first) <= grain)
    return bool(fits[done].all())


def _numbers(frame: pd.DataFrame, column: str) -> np.ndarray:
    found: np.ndarray = frame[column].to_numpy(dtype="int64")
    return found


def _ascend(owner: np.ndarray, index: np.ndarray) -> bool:
    """Whether rows are in order of request and token."""
    same = owner[1:] == owner[:-1]
    return bool(((owner[1:] > owner[:-1]) | (same & (index[1:] >= index[:-1]))).all())


def _starts(owner: np.ndarray) -> np.ndarray:
    """Where each group of equal neighbours begins."""
    import numpy as np

    found: np.ndarray = np.flatnonzero(np.append(True, owner[1:] != owner[:-1])[: len(owner)])
    return found


def _positions(owner: np.ndarray) -> np.ndarray:
    """Each row's place in its group of equal neighbours."""
    import numpy as np

    starts = _starts(owner)
    lengths = np.diff(np.append(starts, len(owner)))
    found: np.ndarray = np.arange(len(owner)) - np.repeat(starts, lengths)
    return found


def _on_one_clock(rows: pd.DataFrame, first: Any, decreases: bool) -> pd.DataFrame:
    """Token rows without what a clock's grain makes of them.

    Args:
        rows: In order of request and token.
        first: By request, the time of its first token where token 0 is a grain beside it.
        decreases: Whether a time is a grain before the one above it.
    """
    if first.empty and not decreases:
        return rows
    beside = rows["request_id"].isin(first.index) & (rows["token_index"] == 0)
    times = rows[TIME].mask(beside, rows["request_id"].map(first))
    return rows.assign(**{TIME: times.groupby(rows["request_id"]).cummax().astype("Int64")})
