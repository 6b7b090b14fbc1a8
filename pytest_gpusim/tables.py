"""Reading CSV files whose mistakes are reported by file, line and column."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_gpusim.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

FIRST_DATA_LINE = 2


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
    import pandas as pd

    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False, na_values=[""])
    except FileNotFoundError:
        raise InputError(path, "", "no such file", fix) from None
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError, OSError) as error:
        text = "is empty" if isinstance(error, pd.errors.EmptyDataError) else f"not a CSV: {error}"
        raise InputError(path, "", text, fix) from None
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


def line_of(position: int) -> str:
    """How messages name the row at ``position`` (0-based) of a table: by its line in the file."""
    return f"line {position + FIRST_DATA_LINE}"


def _numeric(
    path: Path, text: pd.Series, *, whole: bool, nullable: bool, signed: bool, fix: str
) -> pd.Series:
    import numpy as np
    import pandas as pd

    def refuse(bad: pd.Series, expected: str) -> None:
        position = int(np.flatnonzero(bad.to_numpy(dtype=bool))[0])
        where = f"{line_of(position)}, column {text.name}"
        raise InputError(path, where, f"expected {expected}, found {text.iloc[position]!r}", fix)

    empty = text.isna()
    expected = "a whole number" if whole else "a finite number"
    if not nullable and empty.any():
        refuse(empty, expected)
    values = pd.to_numeric(text, errors="coerce")
    finite = np.isfinite(values.to_numpy(dtype="float64", na_value=np.nan))
    unread = ~empty & ~pd.Series(finite, index=text.index)
    if unread.any():
        refuse(unread, expected)
    if whole:
        if values.dtype.kind == "f":
            fractional = ~empty & (values % 1 != 0)
            if fractional.any():
                refuse(fractional, expected)
            values = text.where(~empty).map(
                lambda cell: int(float(cell)) if not cell.lstrip("+-").isdigit() else int(cell),
                na_action="ignore",
            )
        values = values.astype("Int64")
    else:
        values = values.astype("float64")
    if not signed:
        negative = (values < 0).fillna(False)
        if negative.any():
            refuse(negative, "a number that is not negative")
    return values
