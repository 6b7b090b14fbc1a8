"""Reading CSV files whose mistakes are reported by file, line and column."""

from __future__ import annotations

import csv
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_gpusim.errors import InputError
from pytest_gpusim.number_columns import (
    INT64_LIMIT,
    OPTIONS,
    Unclear,
    is_certain,
    kinds_of,
    numbers_of,
    parse,
)
from pytest_gpusim.texts import PACKED_SUFFIXES, open_table, open_text

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

_DIGITS = 19
_RENAMED = re.compile(r"\.\d+$")


def find_table(directory: Path, name: str) -> Path | None:
    """``name`` in ``directory``, plain, or with ``.gz`` or ``.xz``; None where none exists."""
    candidates = (directory / f"{name}{suffix}" for suffix in ("", *PACKED_SUFFIXES))
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def read_table(
    path: Path,
    *,
    required: Sequence[str],
    integers: Sequence[str] = (),
    numbers: Sequence[str] = (),
    nullable: Sequence[str] = (),
    signed: Sequence[str] = (),
    fix: str = "",
) -> pd.DataFrame:
    """Read a CSV, plain or packed, and check its columns.

    Args:
        path: The file.
        required: Columns that must exist.
        integers: Columns of whole numbers; read as nullable ``Int64``.
        numbers: Columns of finite numbers below 2^53; read as ``float64``.
        nullable: Columns of the two kinds above that may be empty.
        signed: Columns of the two kinds above that may be negative.
        fix: What to do about it, for messages.

    Raises:
        InputError: The file is missing, empty, or a cell is not what its column asks for.
    """
    whole = [column for column in integers if column not in nullable]
    floats = [column for column in integers if column in nullable]
    as_text = dict.fromkeys(whole, "int64")
    attempts = [{**dict.fromkeys(integers, "int64"), **dict.fromkeys(numbers, "float64")}, as_text]
    if floats:
        attempts.insert(1, {**as_text, **dict.fromkeys([*floats, *numbers], "float64")})

    def column_of(column: str, cells: pd.Series) -> Any:
        if column not in integers and column not in numbers:
            return cells.array
        return numbers_of(
            cells,
            whole=column in integers,
            nullable=column in nullable,
            signed=column in signed,
            refuse=lambda bad, expected: _refuse_cell(path, cells, bad, expected, fix),
        )

    def read(kinds: Sequence[Mapping[str, str]]) -> pd.DataFrame:
        frame = parse(path, kinds, fix)
        _require_columns(path, frame, required, fix)
        return _with_arrays(frame, column_of)

    try:
        return read(attempts)
    except Unclear:
        return read([as_text])


def _require_columns(path: Path, frame: pd.DataFrame, required: Sequence[str], fix: str) -> None:
    """Hold the names to what is required; blanks around them do not count."""
    names = [str(column) for column in frame.columns.tolist()]
    if any(map(_RENAMED.search, names)):
        # pandas calls the second of two columns x "x.1".
        with open_text(path, fix=fix) as stream:
            header = next(csv.reader(stream), [])
        if len(header) == len(names):
            names = header
    names = [name.strip() for name in names]
    frame.columns = names
    known = set(names)
    for column in required:
        if column not in known:
            raise InputError(path, f"column {column}", "is missing", fix)
    if len(known) < len(names):
        twice = next(name for place, name in enumerate(names) if name in names[:place])
        raise InputError(path, f"column {twice}", "is there twice", fix)


def _with_arrays(frame: pd.DataFrame, of: Callable[[str, pd.Series], Any]) -> pd.DataFrame:
    """Put together once, of bare arrays: each column set in a table costs as much as reading it."""
    import pandas as pd

    columns = {column: of(column, cells) for column, cells in frame.items()}
    return pd.DataFrame(columns, index=frame.index, copy=False)


def _refuse_cell(path: Path, cells: pd.Series, bad: np.ndarray, expected: str, fix: str) -> None:
    """Raise `InputError` for the first bad cell of a column, by its line in the file."""
    import numpy as np
    import pandas as pd

    position = int(np.flatnonzero(bad)[0])
    found = "nothing" if pd.isna(cells.iloc[position]) else repr(str(cells.iloc[position]))
    where = f"{line_of(path, position)}, column {cells.name}"
    raise InputError(path, where, f"expected {expected}, found {found}", fix)


def line_of(path: Path, position: int) -> str:
    """How messages name the row at ``position`` (0-based) of a table: by its line in the file.

    Looks into the file, since blank lines and cells of several lines shift the rows.
    """
    with open_text(path) as stream:
        reader = csv.reader(stream)
        records, before = -1, 0
        for cells in reader:
            records += any(cell.strip() for cell in cells) or len(cells) > 1
            if records == position + 1:
                return f"line {before + 1}"
            before = reader.line_num
    return f"row {position + 1}"


def integer_rows(path: Path, columns: Sequence[str], *, fix: str = "") -> Iterator[tuple[int, ...]]:
    """Rows of a CSV of whole numbers from 0 on, ``columns`` of each; quicker than `read_table`.

    Raises:
        InputError: A column is missing, or a cell is no such number; names line and column.
    """
    with open_text(path, fix=fix) as stream:
        reader = csv.reader(stream)
        header = next(reader, [])
        for column in columns:
            if header.count(column) != 1:
                said = "is there twice" if column in header else "is missing"
                raise InputError(path, f"column {column}", said, fix)
        places = [header.index(column) for column in columns]
        for row in reader:
            if not row:
                continue
            cells = [row[place] if place < len(row) else "" for place in places]
            # Python's int() takes more than digits: signs, underscores, blanks.
            longest = len(max(cells, key=len))
            if not all(map(str.isdecimal, cells)) or longest > _DIGITS:
                column, found = next(
                    pair
                    for pair in zip(columns, cells, strict=True)
                    if not pair[1].isdecimal() or len(pair[1]) > _DIGITS
                )
                raise InputError(
                    path,
                    f"line {reader.line_num}, column {column}",
                    f"expected a whole number that is not negative, found {found[:40]!r}",
                )
            values = tuple(map(int, cells))
            if longest == _DIGITS and max(values) >= INT64_LIMIT:
                column = columns[values.index(max(values))]
                where = f"line {reader.line_num}, column {column}"
                raise InputError(path, where, f"{max(values)} does not fit 64 bits", fix)
            yield values


def integer_chunks(
    path: Path, columns: Sequence[str], nullable: Sequence[str], rows: int
) -> Iterator[pd.DataFrame]:
    """A table piece by piece, for checks that need not say what is wrong.

    Args:
        path: The file.
        columns: Must be there; whole numbers from 0 on, read as int64.
        nullable: May be absent, and their cells empty.
        rows: Of a piece.

    Raises:
        ValueError: The file has something else; `read_table` can say where and what.
    """
    import pandas as pd

    kinds = {**dict.fromkeys(columns, "int64"), **dict.fromkeys(nullable, "Int64")}
    begins = True
    try:
        with (
            open_table(path) as source,
            pd.read_csv(source, dtype=kinds_of(kinds), chunksize=rows, **OPTIONS) as reader,
        ):
            while True:
                with warnings.catch_warnings():
                    warnings.simplefilter("error", pd.errors.ParserWarning)
                    warnings.simplefilter("ignore", RuntimeWarning)
                    chunk = next(reader, None)
                if chunk is None:
                    break
                if not set(columns).issubset(chunk.columns):
                    raise ValueError(f"{path}: columns are missing")
                if begins and not is_certain(path, chunk, columns):
                    raise ValueError(f"{path}: only its text tells what its numbers are")
                begins = False
                if any((chunk[name] < 0).any() for name in kinds if name in chunk):
                    raise ValueError(f"{path}: negative numbers")
                yield chunk
    except (OSError, OverflowError, pd.errors.ParserWarning) as error:
        raise ValueError(f"{path}: {error}") from error


def medians(frame: pd.DataFrame, axes: Sequence[str], column: str) -> tuple[np.ndarray, np.ndarray]:
    """The median of a column at each distinct point, in order of the points.

    Args:
        frame: Rows; those that lack the column's or an axis' value do not count.
        axes: The columns of numbers that make a point, the slowest first.
        column: What the median is of.

    Returns:
        Points (n, axes) and medians (n,), both float64.
    """
    import numpy as np

    def floats(cells: pd.Series) -> np.ndarray:
        how = {} if cells.dtype.kind == "f" else {"na_value": float("nan")}
        found: np.ndarray = cells.to_numpy(dtype="float64", **how)
        return found

    rows = np.column_stack([floats(frame[name]) for name in (*axes, column)])
    rows = rows[~np.isnan(rows).any(axis=1)]
    rows = rows[np.lexsort(rows[:, -2::-1].T)]
    points, values = rows[:, :-1], rows[:, -1]
    new = np.ones(len(rows), dtype=bool)
    new[1:] = (points[1:] != points[:-1]).any(axis=1)
    if new.all():
        return points, values
    starts = np.flatnonzero(new)
    parts = np.split(values, starts[1:])
    return points[starts], np.array([np.median(part) for part in parts])


def refuse_row(
    path: Path,
    frame: pd.DataFrame,
    bad: pd.Series | np.ndarray,
    column: str,
    expected: str,
    values: pd.Series | np.ndarray | None = None,
) -> None:
    """Raise `InputError` for the first bad row, by its line in the file.

    Args:
        path: The file.
        frame: Its rows, in any order, indexed by their place in the file.
        bad: By row of the frame, whether it is.
        column: Where.
        expected: What there should be.
        values: By row, what it was to hold, where known.
    """
    import numpy as np

    marked = bad if isinstance(bad, np.ndarray) else bad.fillna(False).to_numpy(dtype=bool)
    if not marked.any():
        return
    row = int(np.flatnonzero(marked)[0])
    if values is not None:
        expected += f", {values[row] if isinstance(values, np.ndarray) else values.iloc[row]}"
    found = str(frame[column].iloc[row])
    where = f"{line_of(path, int(frame.index[row]))}, column {column}"
    raise InputError(path, where, f"expected {expected}, found {found!r}")
