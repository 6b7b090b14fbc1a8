"""Reading a run directory, whoever wrote it, and holding it to the contract's invariants."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_gpusim.errors import InputError
from pytest_gpusim.runs.meta import read_meta
from pytest_gpusim.runs.run import Run
from pytest_gpusim.runs.schema import (
    ASKED_COLUMNS,
    ENGINE_COLUMNS,
    INTEGER_REQUEST_COLUMNS,
    NULLABLE_REQUEST_COLUMNS,
    OPTIONAL_REQUEST_COLUMNS,
    REQUEST_COLUMNS,
    REQUESTS,
    STATUSES,
    STEP_COLUMNS,
    STEPS,
    TOKENS,
)
from pytest_gpusim.runs.tokens import clock_grain, read_tokens, tokens_hold
from pytest_gpusim.tables import find_table, integer_chunks, read_table, refuse_row

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


def read_run(directory: Path | str) -> Run:
    """Read and check a run directory.

    Columns may come in any order, with unknown ones between them, plain or packed.

    Raises:
        InputError: Something is missing or breaks an invariant; names file, line and column.
    """
    found = _Found.of(Path(directory))
    tokens = read_tokens(found.tokens, found.requests) if found.tokens is not None else None
    steps = _read_steps(found.steps) if found.steps is not None else None
    return Run(found.directory, found.meta, found.requests, tokens, steps)


def check_run(directory: Path) -> None:
    """Hold a run directory to what `read_run` asks for, large tables chunk by chunk.

    Raises:
        InputError: As `read_run`.
    """
    found = _Found.of(directory)
    if found.tokens is not None and not tokens_hold(found.tokens, found.requests):
        read_tokens(found.tokens, found.requests)
    if found.steps is not None and not _steps_hold(found.steps):
        _read_steps(found.steps)


class _Found(NamedTuple):
    """What is small of a run, read, and where its large tables are."""

    directory: Path
    meta: dict[str, Any]
    requests: pd.DataFrame
    tokens: Path | None
    steps: Path | None

    @classmethod
    def of(cls, directory: Path) -> _Found:
        if directory.is_file():
            fix = f"make one of it with 'gpusim import-run KIND {directory}'"
            raise InputError(directory, "", "is a file, expected a run directory", fix)
        if not directory.is_dir():
            raise InputError(directory, "", "no such run directory")
        meta = read_meta(directory)
        requests_path = find_table(directory, REQUESTS)
        if requests_path is None:
            raise InputError(directory, "", f"incomplete: no {REQUESTS}")
        requests = _read_requests(requests_path)
        tokens = find_table(directory, TOKENS)
        if not meta.get("token_times", True):
            tokens = None
        elif tokens is None:
            reason = f"incomplete: no {TOKENS}, and token_times is not false"
            raise InputError(directory, "", reason)
        return cls(directory, meta, requests, tokens, find_table(directory, STEPS))


def _read_requests(path: Path) -> pd.DataFrame:
    import pandas as pd

    required = [c for c in REQUEST_COLUMNS if c not in OPTIONAL_REQUEST_COLUMNS]
    frame = read_table(
        path,
        required=required,
        integers=(*INTEGER_REQUEST_COLUMNS, *ASKED_COLUMNS, *ENGINE_COLUMNS),
        nullable=(*NULLABLE_REQUEST_COLUMNS, *ASKED_COLUMNS, *ENGINE_COLUMNS),
    )
    for column in OPTIONAL_REQUEST_COLUMNS:
        if column not in frame.columns:
            kind = "Int64" if column in INTEGER_REQUEST_COLUMNS else "string"
            frame[column] = pd.Series(pd.NA, index=frame.index, dtype=kind)
    if frame.empty:
        raise InputError(path, "", "has no requests")
    for group in (ASKED_COLUMNS, ENGINE_COLUMNS):
        found = [column for column in group if column in frame.columns]
        if found and len(found) < len(group):
            missing = next(column for column in group if column not in found)
            raise InputError(path, f"column {missing}", f"is missing, there is {found[0]}")

    refuse_row(path, frame, ~frame["status"].isin(STATUSES), "status", f"one of {STATUSES}")
    ids = frame["request_id"].to_numpy(dtype="int64")
    ascending = bool((ids[1:] > ids[:-1]).all())
    if not ascending:
        twice = frame["request_id"].duplicated()
        refuse_row(path, frame, twice, "request_id", "an id that comes once")
    done = (frame["status"] != "error").to_numpy(dtype=bool)
    for column in (
        "first_token_time_ns",
        "ttft_ns",
        "completion_time_ns",
        "num_decode_tokens_actual",
    ):
        lacking = done & frame[column].isna().to_numpy(dtype=bool)
        refuse_row(path, frame, lacking, column, "a value, the status is not error")
    _hold_times(path, frame, done)
    short = done & (_numbers(frame, "num_decode_tokens_actual") < 1)
    refuse_row(path, frame, short, "num_decode_tokens_actual", "at least 1")
    return frame if ascending else frame.sort_values("request_id", ignore_index=True)


def _hold_times(path: Path, frame: pd.DataFrame, done: np.ndarray) -> None:
    """Times that say the same twice: within a clock's grain they are made to, else refused."""
    import numpy as np

    first, grain = _numbers(frame, "first_token_time_ns"), clock_grain(frame)
    stated, ttft = _numbers(frame, "ttft_ns"), first - _numbers(frame, "arrival_time_ns")
    off = done & (np.abs(stated - ttft) > grain)
    refuse_row(
        path, frame, off, "ttft_ns", "first_token_time_ns - arrival_time_ns", ttft,
    )  # fmt: skip
    last = _numbers(frame, "completion_time_ns")
    early = done & (last < first - grain)
    refuse_row(
        path, frame, early, "completion_time_ns", "no less than first_token_time_ns", first,
    )  # fmt: skip
    for column, wrong, right in (
        ("ttft_ns", done & (stated != ttft), ttft),
        ("completion_time_ns", done & (last < first), first),
    ):
        if wrong.any():
            frame.loc[wrong, column] = right[wrong]


def _numbers(frame: pd.DataFrame, column: str) -> np.ndarray:
    """A column's whole numbers, 0 where there is none."""
    found: np.ndarray = frame[column].to_numpy(dtype="int64", na_value=0)
    return found


def _read_steps(path: Path) -> pd.DataFrame:
    import pandas as pd

    required = STEP_COLUMNS[:3]
    frame = read_table(path, required=required, integers=STEP_COLUMNS, nullable=STEP_COLUMNS[2:])
    for column in STEP_COLUMNS:
        if column not in frame.columns:
            frame[column] = pd.Series(pd.NA, index=frame.index, dtype="Int64")
    return frame


def _steps_hold(path: Path) -> bool:
    """Whether every column is there and filled; else `_read_steps` decides."""
    try:
        for _ in integer_chunks(path, STEP_COLUMNS, (), 1 << 18):
            pass
    except ValueError:
        return False
    return True
