"""Reading a run directory, whoever wrote it, and holding it to the contract's invariants."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_gpusim.errors import InputError
from pytest_gpusim.json_documents import check_schema_version, read_json
from pytest_gpusim.runs.run import Run
from pytest_gpusim.runs.schema import (
    ASKED_COLUMNS,
    ENGINE_COLUMNS,
    INTEGER_REQUEST_COLUMNS,
    META,
    NULLABLE_REQUEST_COLUMNS,
    OPTIONAL_REQUEST_COLUMNS,
    REQUEST_COLUMNS,
    REQUESTS,
    STATUSES,
    STEP_COLUMNS,
    STEPS,
    TOKEN_COLUMNS,
    TOKEN_ID,
    TOKENS,
)
from pytest_gpusim.tables import find_table, line_of, read_table

if TYPE_CHECKING:
    import pandas as pd


CLOCK_GRAIN_NS = 1000
"""By so much two times of one clock may miss each other: seconds since 1970 as floats do."""
TIME = "token_time_ns"


def read_run(directory: Path | str) -> Run:
    """Read and check a run directory.

    Columns may come in any order, with unknown ones between them, plain or as ``.csv.gz``.

    Raises:
        InputError: Something is missing or breaks an invariant; names file, line and column.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise InputError(directory, "", "no such run directory")
    meta = _read_meta(directory)
    requests_path = find_table(directory, REQUESTS)
    if requests_path is None:
        raise InputError(directory, "", f"incomplete: no {REQUESTS}")
    requests = _read_requests(requests_path)
    tokens = None
    tokens_path = find_table(directory, TOKENS)
    if meta.get("token_times", True):
        if tokens_path is None:
            raise InputError(
                directory, "", f"incomplete: no {TOKENS}, and token_times is not false"
            )
        tokens = _read_tokens(tokens_path, requests)
    steps_path = find_table(directory, STEPS)
    steps = _read_steps(steps_path) if steps_path is not None else None
    return Run(directory, meta, requests, tokens, steps)


def _read_meta(directory: Path) -> dict[str, Any]:
    path = directory / META
    if not path.exists():
        raise InputError(
            directory, "", f"incomplete: no {META}; the run did not end, or is not a run directory"
        )
    meta = read_json(path, plain=True)
    if not isinstance(meta, dict):
        raise InputError(path, "", "expected a JSON object")
    check_schema_version(path, meta)
    if not isinstance(meta.get("engine", {}), dict | None):
        raise InputError(path, "engine", "expected a JSON object")
    meta.setdefault("run_id", directory.name)
    return meta


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

    _refuse(path, frame, ~frame["status"].isin(STATUSES), "status", f"one of {STATUSES}")
    _refuse(path, frame, frame["request_id"].duplicated(), "request_id", "an id that comes once")
    done = frame["status"] != "error"
    for column in (
        "first_token_time_ns",
        "ttft_ns",
        "completion_time_ns",
        "num_decode_tokens_actual",
    ):
        _refuse(
            path, frame, done & frame[column].isna(), column, "a value, the status is not error"
        )
    arrival, first = frame["arrival_time_ns"], frame["first_token_time_ns"]
    ttft = first - arrival
    grain = _grain(frame)
    off = (frame["ttft_ns"] - ttft).abs() > grain
    _refuse(
        path, frame, done & off, "ttft_ns", "first_token_time_ns - arrival_time_ns", ttft,
    )  # fmt: skip
    frame["ttft_ns"] = frame["ttft_ns"].where(~done, ttft)
    early = frame["completion_time_ns"] < first - grain
    _refuse(
        path, frame, done & early, "completion_time_ns", "no less than first_token_time_ns", first,
    )  # fmt: skip
    last = frame["completion_time_ns"]
    frame["completion_time_ns"] = last.where(~done | (last >= first), first)
    _refuse(
        path, frame, done & (frame["num_decode_tokens_actual"] < 1), "num_decode_tokens_actual",
        "at least 1",
    )  # fmt: skip
    return frame.sort_values("request_id", ignore_index=True)


def _read_tokens(path: Path, requests: pd.DataFrame) -> pd.DataFrame:
    tokens = read_table(
        path,
        required=TOKEN_COLUMNS,
        integers=(*TOKEN_COLUMNS, TOKEN_ID),
        nullable=(TOKEN_ID,),
    )
    rows = tokens.sort_values(["request_id", "token_index"], kind="stable")
    owner = rows["request_id"]
    position = rows.groupby("request_id").cumcount()
    _refuse(path, rows, ~owner.isin(requests["request_id"]), "request_id", "a request of the run")
    _refuse(path, rows, rows["token_index"] != position, "token_index", "contiguous indices from 0")
    same = owner.eq(owner.shift())
    before = rows["token_time_ns"].shift()
    earlier = rows["token_time_ns"] < before - _grain(requests)
    _refuse(
        path, rows, (same & earlier).fillna(False), "token_time_ns",
        "times that never decrease, at least", before,
    )  # fmt: skip
    first = rows[position == 0].set_index("request_id")["token_time_ns"]
    done = requests[requests["status"] != "error"].set_index("request_id")
    missing = done.index.difference(first.index)
    if len(missing):
        raise InputError(path, f"request_id {missing[0]}", "has no token rows")
    due, found = done["first_token_time_ns"], first.reindex(done.index)
    wrong = (due - found).abs() > _grain(requests)
    if wrong.any():
        i = done.index[wrong][0]
        raise InputError(
            path,
            f"request_id {i}",
            f"token 0 is not at the request's first_token_time_ns, {due[i]}, but at {found[i]}",
        )
    rows = _on_one_clock(rows, due[due != found], bool((same & (rows[TIME] < before)).any()))
    counts = owner.value_counts().reindex(done.index)
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


def _grain(requests: pd.DataFrame) -> float:
    """How far two times of a run may miss each other; of a run of some µs they do not."""
    ends = requests["completion_time_ns"].dropna()
    return min(CLOCK_GRAIN_NS, float(ends.max()) / 1000) if len(ends) else 0.0


def _on_one_clock(rows: pd.DataFrame, first: pd.Series, decreases: bool) -> pd.DataFrame:
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


def _read_steps(path: Path) -> pd.DataFrame:
    import pandas as pd

    frame = read_table(
        path, required=STEP_COLUMNS[:3], integers=STEP_COLUMNS, nullable=STEP_COLUMNS
    )
    for column in STEP_COLUMNS:
        if column not in frame.columns:
            frame[column] = pd.Series(pd.NA, index=frame.index, dtype="Int64")
    return frame


def _refuse(
    path: Path,
    frame: pd.DataFrame,
    bad: pd.Series,
    column: str,
    expected: str,
    values: pd.Series | None = None,
) -> None:
    """Raise for the first bad row; ``values`` has what each row was to hold, where known."""
    bad = bad.fillna(False).astype(bool)
    if bad.any():
        position = int(frame.index[bad][0])
        found = frame.loc[position, column]
        if values is not None:
            expected += f", {values[position]}"
        raise InputError(
            path,
            f"{line_of(path, position)}, column {column}",
            f"expected {expected}, found {str(found)!r}",
        )
