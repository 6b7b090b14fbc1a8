"""Reading CSV files whose mistakes are reported by file, line and column."""

from __future__ import annotations

import csv
import warnings
import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_gpusim.errors import InputError
from pytest_gpusim.texts import BoundedGzip, open_text

if TYPE_CHECKING:
    import pandas as pd

_INT64_LIMIT = 2**63
_DIGITS = 19


def find_table(directory: Path, name: str) -> Path | None:
    """``name`` in ``directory``, plain or with ``.gz``; None where neither exists."""
    for candidate in (directory / name, directory / f"{name}.gz"):
        if candidate.is_file():
            return candidate
    return None


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
    """Read a CSV (or ``.csv.gz``) and check its columns.

    Args:
        path: The file.
        required: Columns that must exist.
        integers: Columns of whole numbers; read as nullable ``Int64``.
        numbers: Columns of finite numbers; read as ``float64``.
        nullable: Columns of the two kinds above that may be empty.
        signed: Columns of the two kinds above that may be negative.
        fix: What to do about it, for messages.

    Raises:
        InputError: The file is missing, empty, or a cell is not what its column asks for.
    """
    whole = [column for column in integers if column not in nullable]
    frame = _parse(path, whole, fix)
    frame.columns = frame.columns.str.strip()
    for column in required:
        if column not in frame.columns:
            raise InputError(path, f"column {column}", "is missing", fix)
    for column in frame.columns:
        if column in integers or column in numbers:
            frame[column] = _numeric(
                path,
                frame[column],
                whole=column in integers,
                nullable=column in nullable,
                signed=column in signed,
                fix=fix,
            )
    return frame


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
            if column not in header:
                raise InputError(path, f"column {column}", "is missing", fix)
        places = [header.index(column) for column in columns]
        for row in reader:
            if not row:
                continue
            cells = [row[place] if place < len(row) else "" for place in places]
            # Python's int() takes more than digits: signs, underscores, blanks.
            if not all(map(str.isdecimal, cells)) or len(max(cells, key=len)) > _DIGITS:
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
            yield tuple(map(int, cells))


def _parse(path: Path, whole: Sequence[str], fix: str) -> pd.DataFrame:
    """The table with ``whole`` columns as int64 where all their cells allow it, else as text."""
    import pandas as pd

    kinds: Mapping[str, Any] = defaultdict(lambda: str, dict.fromkeys(whole, "int64"))
    try:
        with warnings.catch_warnings():
            # Rows longer than the header lose cells with a mere warning.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            # What cannot be cast is read again, as text, and named.
            warnings.simplefilter("ignore", RuntimeWarning)
            try:
                return _read_csv(path, kinds)
            except (ValueError, OverflowError):
                return _read_csv(path, str)
    except FileNotFoundError:
        raise InputError(path, "", "no such file", fix) from None
    except pd.errors.EmptyDataError:
        raise InputError(path, "", "is empty", fix) from None
    except pd.errors.ParserWarning:
        raise InputError(path, "", "not a CSV: rows are longer than the header", fix) from None
    except UnicodeDecodeError:
        raise InputError(path, "", "is not UTF-8 text", fix) from None
    except (pd.errors.ParserError, OSError, EOFError, zlib.error) as error:
        raise InputError(path, "", f"not a CSV: {error}", fix) from None


def _read_csv(path: Path, kinds: Any) -> pd.DataFrame:
    import pandas as pd

    # index_col: a first row that is too long must not turn a column into the index.
    options: dict[str, Any] = {
        "dtype": kinds, "keep_default_na": False, "na_values": [""], "index_col": False,
    }  # fmt: skip
    if path.suffix != ".gz":
        return pd.read_csv(path, **options)
    with BoundedGzip(path) as stream:
        return pd.read_csv(stream, **options)


def _numeric(
    path: Path, cells: pd.Series, *, whole: bool, nullable: bool, signed: bool, fix: str
) -> pd.Series:
    import numpy as np
    import pandas as pd

    def refuse(bad: Any, expected: str) -> None:
        position = int(np.flatnonzero(bad)[0])
        found = "nothing" if pd.isna(cells.iloc[position]) else repr(str(cells.iloc[position]))
        where = f"{line_of(path, position)}, column {cells.name}"
        raise InputError(path, where, f"expected {expected}, found {found}", fix)

    empty = cells.isna().to_numpy(dtype=bool)
    expected = "a whole number" if whole else "a finite number"
    if not nullable and empty.any():
        refuse(empty, expected)
    present = cells[~empty]
    values = pd.to_numeric(present, errors="coerce")
    floats = np.full(len(cells), np.nan)
    floats[~empty] = values.to_numpy(dtype="float64", na_value=np.nan)
    unread = ~empty & ~np.isfinite(floats)
    if whole and values.dtype.kind != "i":
        with np.errstate(invalid="ignore"):
            unread |= ~empty & ((floats % 1 != 0) | (np.abs(floats) >= _INT64_LIMIT))
    if unread.any():
        refuse(unread, expected)
    if not signed and (floats < 0).any():
        refuse(floats < 0, "a number that is not negative")
    if not whole:
        return pd.Series(floats, index=cells.index, name=cells.name)
    if values.dtype.kind != "i":
        # Through float, large whole numbers would lose digits.
        values = present.map(lambda cell: int(cell) if _is_digits(cell) else int(float(cell)))
    return values.astype("Int64").reindex(cells.index)


def _is_digits(cell: str) -> bool:
    return cell.strip().lstrip("+-").isdecimal()
