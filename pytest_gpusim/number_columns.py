"""Columns of numbers in a CSV: parsed as numbers where that is certain, else told by their text."""

from __future__ import annotations

import csv
import warnings
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_gpusim.errors import InputError
from pytest_gpusim.texts import open_table, open_text

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

INT64_LIMIT = 2**63
_EXACT = 2**53
"""Below it a float holds every whole number, and 64 bits of ns every time in us."""
# index_col: a first row that is too long must not turn a column into the index.
OPTIONS: dict[str, Any] = {"keep_default_na": False, "na_values": [""], "index_col": False}
"""Of pandas' parser: an empty cell is nothing, and no word is."""


class Unclear(Exception):
    """Only its text can tell what is wrong with a cell, or all digits of it."""


def parse(path: Path, attempts: Sequence[Mapping[str, str]], fix: str) -> pd.DataFrame:
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
                    frame = _read_csv(path, kinds_of(kinds), fix)
                    if is_certain(path, frame, kinds):
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


def is_certain(path: Path, frame: pd.DataFrame, numbers: Collection[str]) -> bool:
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


def kinds_of(known: Mapping[str, str]) -> Any:
    """Types of columns for pandas; text for the others."""
    kinds: defaultdict[str, Any] = defaultdict(lambda: str)
    kinds.update(known)
    return kinds


def numbers_of(
    cells: pd.Series,
    *,
    whole: bool,
    nullable: bool,
    signed: bool,
    refuse: Callable[[Any, str], None],
) -> Any:
    """The column's cells as float64, or as nullable whole numbers.

    Args:
        cells: As `parse` read them.
        whole: Whether only whole numbers will do.
        nullable: Whether cells may be empty.
        signed: Whether numbers may be negative.
        refuse: Told by row whether a cell is wrong, and what was expected; raises.

    Raises:
        Unclear: Read the table again, with this column as text.
    """
    import numpy as np
    import pandas as pd

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
            unread |= ~empty & ((floats % 1 != 0) | (np.abs(floats) >= INT64_LIMIT))
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


def _read_csv(path: Path, kinds: Any, fix: str) -> pd.DataFrame:
    import pandas as pd

    with open_table(path, fix=fix) as source:
        return pd.read_csv(source, dtype=kinds, **OPTIONS)


def _of_floats(floats: np.ndarray, whole: bool, nullable: bool, signed: bool) -> Any:
    """A column that the parser read as floats, as its text would be; raises `Unclear`."""
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
        raise Unclear
    if not whole:
        return floats
    return pd.arrays.IntegerArray(np.where(empty, 1, floats).astype("int64"), empty)


def _is_digits(cell: str) -> bool:
    return cell.strip().lstrip("+-").isdecimal()
