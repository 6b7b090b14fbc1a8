"""Reading CSV files whose mistakes are reported by file, line and column."""

from __future__ import annotations

import csv
import re
import warnings
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_gpusim.errors import InputError
from pytest_gpusim.texts import PACKED_SUFFIXES, open_table, open_text

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

_INT64_LIMIT = 2**63
_EXACT = 2**53
"""Below it a float holds every whole number, and 64 bits of ns every time in us."""
_DIGITS = 19
_RENAMED = re.compile(r"\.\d+$")
# index_col: a first row that is too long must not turn a column into the index.
_OPTIONS: dict[str, Any] = {"keep_default_na": False, "na_values": [""], "index_col": False}


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

    def read(kinds: Sequence[Mapping[str, str]]) -> pd.DataFrame:
        frame = _parse(path, kinds, fix)
        _require_columns(path, frame, required, fix)
        return _with_arrays(
            frame,
            lambda column, cells: (
                _numeric(
                    path,
                    cells,
                    whole=column in integers,
                    nullable=column in nullable,
                    signed=column in signed,
                    fix=fix,
                )
                if column in integers or column in numbers
                else cells.array
            ),
        )

    try:
        return read(attempts)
    except _Unclear:
        return read([as_text])


class _Unclear(Exception):
    """Only its text can tell what is wrong with a cell, or all digits of it."""


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
            if longest == _DIGITS and max(values) >= _INT64_LIMIT:
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
            pd.read_csv(source, dtype=_kinds(kinds), chunksize=rows, **_OPTIONS) as reader,
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
                if begins and not _is_certain(path, chunk, columns):
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


def _parse(path: Path, attempts: Sequence[Mapping[str, str]], fix: str) -> pd.DataFrame:
    """The table with columns of the first kinds that its cells allow; the others, or all, text."""
    import pandas as pd

    try:
        with warnings.catch_warnings():
            # Rows longer than the header lose cells with a mere warning.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            # What cannot be cast is read again, as text, and named.
            warnings.simplefilter("ignore", RuntimeWarning)
            for kinds in attempts:
                with suppress(ValueError, OverflowError):
                    frame = _read_csv(path, _kinds(kinds), fix)
                    if _is_certain(path, frame, kinds):
                        return frame
            return _read_csv(path, str, fix)
    except FileNotFoundError:
        raise InputError(path, "", "no such file", fix) from None
    except pd.errors.EmptyDataError:
        raise InputError(path, "", "is empty", fix) from None
    except pd.errors.ParserWarning:
        raise InputError(path, "", "not a CSV: rows are longer than the header", fix) from None
    except UnicodeDecodeError:
        raise InputError(path, "", "is not UTF-8 text", fix) from None
    except (pd.errors.ParserError, OSError) as error:
        raise InputError(path, "", f"not a CSV: {error}", fix) from None


def _is_certain(path: Path, frame: pd.DataFrame, numbers: Collection[str]) -> bool:
    """Whether the parser took the columns of numbers as their texts say.

    It takes a column of true and false for 1 and 0, and brings whole numbers through floats where
    one of their column has a point.
    """
    import numpy as np

    places = set()
    for place, name in enumerate(frame.columns):
        values = frame.iloc[:, place].array
        if name not in numbers or values.dtype.kind not in "if":
            continue
        found = np.asarray(values)
        if ((found == 0) | (found == 1) | np.isnan(found)).all():
            places.add(place)
        elif found.dtype.kind == "i":
            large = found[np.abs(found.astype("float64")) >= _EXACT]
            with np.errstate(invalid="ignore"):
                if len(large) and (large.astype("float64").astype("int64") == large).all():
                    return False
    return not _begins_with_words(path, places)


def _begins_with_words(path: Path, places: set[int]) -> bool:
    """Whether the first cell that is not empty of one of these columns is a word."""
    if not places:
        return False
    with open_text(path) as stream:
        reader = csv.reader(stream)
        next(reader, None)
        for row in reader:
            cells = {place: row[place] for place in places if place < len(row) and row[place]}
            if any(cell.strip().isalpha() for cell in cells.values()):
                return True
            places = places - cells.keys()
            if not places:
                break
    return False


def _kinds(known: Mapping[str, str]) -> Any:
    """Types of columns for pandas; text for the others."""
    kinds: defaultdict[str, Any] = defaultdict(lambda: str)
    kinds.update(known)
    return kinds


def _read_csv(path: Path, kinds: Any, fix: str) -> pd.DataFrame:
    import pandas as pd

    with open_table(path, fix=fix) as source:
        return pd.read_csv(source, dtype=kinds, **_OPTIONS)


def _numeric(
    path: Path, cells: pd.Series, *, whole: bool, nullable: bool, signed: bool, fix: str
) -> Any:
    """The column's cells as float64, or as nullable whole numbers."""
    import numpy as np
    import pandas as pd

    def refuse(bad: Any, expected: str) -> None:
        position = int(np.flatnonzero(bad)[0])
        found = "nothing" if pd.isna(cells.iloc[position]) else repr(str(cells.iloc[position]))
        where = f"{line_of(path, position)}, column {cells.name}"
        raise InputError(path, where, f"expected {expected}, found {found}", fix)

    if whole and cells.dtype.kind == "i":
        numbers = cells.to_numpy(copy=True)  # pandas' own cannot be written
        if not signed and (numbers < 0).any():
            refuse(numbers < 0, "a number that is not negative")
        return pd.arrays.IntegerArray(numbers, np.zeros(len(numbers), dtype=bool))
    if cells.dtype.kind == "f":
        return _of_floats(cells.to_numpy(copy=True), whole, nullable, signed)
    empty = cells.isna().to_numpy(dtype=bool)
    some = bool(empty.any())
    expected = "a whole number" if whole else "a finite number"
    if some and not nullable:
        refuse(empty, expected)
    present = cells[~empty] if some else cells
    values = pd.to_numeric(present, errors="coerce")
    floats = values.to_numpy(dtype="float64", na_value=np.nan, copy=True)
    if some:
        known, floats = floats, np.full(len(cells), np.nan)
        floats[~empty] = known
    unread = ~empty & ~np.isfinite(floats)
    if whole and values.dtype.kind != "i":
        with np.errstate(invalid="ignore"):
            unread |= ~empty & ((floats % 1 != 0) | (np.abs(floats) >= _INT64_LIMIT))
    if unread.any():
        refuse(unread, expected)
    if not signed and (floats < 0).any():
        refuse(floats < 0, "a number that is not negative")
    if not whole:
        with np.errstate(invalid="ignore"):
            large = np.abs(floats) >= _EXACT
        if large.any():
            refuse(large, f"a number below {_EXACT:,}")
        return floats
    if values.dtype.kind != "i":
        # Through float, large whole numbers would lose digits.
        values = present.map(lambda cell: int(cell) if _is_digits(cell) else int(float(cell)))
    return values.astype("Int64").reindex(cells.index).array


def _of_floats(floats: np.ndarray, whole: bool, nullable: bool, signed: bool) -> Any:
    """A column that the parser read as floats, as its text would be; raises `_Unclear`."""
    import numpy as np
    import pandas as pd

    empty = np.isnan(floats)
    known = floats[~empty] if empty.any() else floats
    exact = bool((np.abs(known) < _EXACT).all())
    if (
        (len(known) < len(floats) and not nullable)
        or not exact
        or (not signed and (known < 0).any())
        or (whole and (known % 1 != 0).any())
    ):
        raise _Unclear
    if not whole:
        return floats
    return pd.arrays.IntegerArray(np.where(empty, 1, floats).astype("int64"), empty)


def _is_digits(cell: str) -> bool:
    return cell.strip().lstrip("+-").isdecimal()
