"""Tables of a user's own: any CSV or JSON lines, whose columns are named on the command line.

``arrival=ts,prefill=in,decode=out,unit=s`` says which column (of JSON lines: which key, inner ones
by a dot) holds what, and in which unit its times are. A column whose name says its unit, such as
``ttft_ms``, ``TTFT (ms)`` or ``ttftMs``, is in that one; a moment may be a date and time.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any, TextIO

from pytest_gpusim.documents import NEVER, LeftOut, read_lines
from pytest_gpusim.errors import InputError, UsageError
from pytest_gpusim.texts import open_text

UNITS_NS = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000}
_MOMENTS = ("arrival", "sent", "scheduled", "first_token", "completion")
TIMES = (*_MOMENTS, "queue", "ttft", "e2e")
ROLES = (*TIMES, "prefill", "decode", "cached", "model", "session", "status", "error", "id")
_LATEST = 2**63
_HEADER = 1 << 16
_NS_OF_S = UNITS_NS["s"]
_SPELLED = {
    "s": "s|sec|secs|second|seconds",
    "ms": "ms|msec|msecs|milli|millis|millisecond|milliseconds",
    "us": "us|µs|μs|usec|usecs|micro|micros|microsecond|microseconds",
    "ns": "ns|nsec|nsecs|nano|nanos|nanosecond|nanoseconds",
}
_UNIT_OF = {word: unit for unit, words in _SPELLED.items() for word in words.split("|")}
_NAMED_UNIT = re.compile(
    rf"(?P<of>.+)_(?P<unit>{'|'.join(_UNIT_OF)})|(?P<first>ms|ns)_(?P<rest>.+)"
)
_WORD_BEGINS = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[mun]s(?:[^a-z]|$))")
_NO_WORD = re.compile(r"[^\w]+|_+")
_NOTHING = frozenset(
    ("", "nan", "null", "none", "na", "n/a", "#n/a", "<na>", "nat", "-", "--", "\\n")
)
"""What pandas, spreadsheets, databases and people write for nothing."""
_GROUPED = re.compile(
    r"[+-]?\d+(?:[, \u00a0\u202f']\d+)+(?:\.\d+)?|[+-]?\d+(?:\.\d+)+,\d+", re.ASCII
)
_WALL_CLOCK = re.compile(
    r"(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?\s*(Z|[+-]\d\d:?\d\d)?", re.ASCII
)
_OTHER_CLOCK = re.compile(
    r"(\d{4})([-/]?)(\d\d)\2(\d\d)[ Tt](\d\d)(:?)(\d\d)\6(\d\d)"
    r"(?:[.,](\d{1,9}))?\s*([Zz]|UTC|GMT|[+-]\d\d(?::?\d\d)?)?",
    re.ASCII,
)


@dataclass(frozen=True)
class Columns:
    """Which column holds what, and the unit of the times (of one column, where it has its own)."""

    names: Mapping[str, str]
    unit: str | None = None
    units: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Columns:
        """Read ``ROLE=COLUMN,…,unit=s``.

        Raises:
            UsageError: A part is none, or names no role or unit that there is.
        """
        names: dict[str, str] = {}
        unit = None
        for part in text.split(","):
            role, equals, name = (text.strip() for text in part.partition("="))
            if not equals or not name:
                raise UsageError(f"--columns {text}: {part!r} is not ROLE=COLUMN")
            if role == "unit":
                if name not in UNITS_NS:
                    raise UsageError(f"--columns {text}: unit is one of {', '.join(UNITS_NS)}")
                unit = name
            elif role not in ROLES:
                raise UsageError(f"--columns {text}: {role!r} is none of {', '.join(ROLES)}, unit")
            elif names.setdefault(role, name) != name:
                raise UsageError(f"--columns {text}: names {role} twice")
        return cls(names, unit)

    def require_unit(self, path: Path) -> None:
        """Raise `InputError` where a column of times has no unit; a moment may not need any."""
        for role in TIMES:
            if role in self.names and role not in _MOMENTS and self.unit_of(role) is None:
                raise self._without_unit(path, role)

    def time(self, row: Row, role: str) -> int | None:
        """A time of the row in ns; None where the role has no column or the cell is empty."""
        text = row.cell(self.names.get(role))
        if text is None:
            return None
        moment = wall_clock(text) if role in _MOMENTS and isinstance(text, str) else None
        if moment is not None:
            return moment
        unit = self.unit_of(role)
        if unit is None:
            raise self._without_unit(row.path, role)
        scale = UNITS_NS[unit]
        value = _decimal(text)
        # Of far too large ones not even the product is to be had.
        if value is None or not 0 <= value < _LATEST or not value * scale < _LATEST:
            or_date = " (or a date such as 2026-05-01T12:00:00Z)" if role in _MOMENTS else ""
            raise row.wrong(self.names[role], f"a time that is not negative{or_date}", text)
        return int((value * scale).to_integral_value())

    def count(self, row: Row, role: str, least: int = 0) -> int | None:
        """A number of tokens; None where the role has no column or the cell is empty."""
        text = row.cell(self.names.get(role))
        if text is None:
            return None
        value = _decimal(text)
        if value is None or value != value.to_integral_value() or not least <= value < _LATEST:
            raise row.wrong(self.names[role], f"a whole number of at least {least}", text)
        return int(value)

    def text(self, row: Row, role: str) -> str | None:
        """A text; None where the role has no column or the cell is empty."""
        value = row.cell(self.names.get(role))
        return None if value is None else str(value)

    def unit_of(self, role: str) -> str | None:
        """The unit of a column of times: its own, the one that its name ends in, or the common."""
        return self.units.get(role) or split_unit(self.names.get(role, ""))[1] or self.unit

    def notes(self) -> list[str]:
        """Where a column's name, and not the unit that is given, says its unit."""
        return [
            f"column {self.names[role]} is in {self.unit_of(role)}, as its name says"
            for role in TIMES
            if role in self.names and self.unit and self.unit_of(role) != self.unit
        ]

    def _without_unit(self, path: Path, role: str) -> InputError:
        where = f"column {self.names[role]}"
        return InputError(path, where, "its unit is not stated", "add unit=s or ms")


@dataclass(frozen=True)
class Row:
    """One row of a table, named in messages by ``where``."""

    path: Path
    where: str
    cells: Mapping[str, Any]

    def __contains__(self, name: str) -> bool:
        *outer, last = [name] if name in self.cells else name.split(".")
        holder: Any = self.cells
        for key in outer:
            holder = holder.get(key) if isinstance(holder, Mapping) else None
        return isinstance(holder, Mapping) and last in holder

    def cell(self, name: str | None) -> Any:
        """The cell of a column, an inner key by a dot; None where it is empty or none is named."""
        if name is None:
            return None
        value: Any = self.cells
        if name in self.cells:
            value = self.cells[name]
        else:
            for key in name.split("."):
                value = value.get(key) if isinstance(value, Mapping) else None
        if isinstance(value, str):
            value = value.strip()
            if value.lower() in _NOTHING:
                return None
        return value

    def wrong(self, name: str, expected: str, found: Any) -> InputError:
        """The error of one cell, to be raised."""
        where = f"{self.where}, column {name}"
        grouped = isinstance(found, str) and _GROUPED.fullmatch(found) is not None
        fix = "write numbers with a decimal point and without separators" if grouped else ""
        return InputError(self.path, where, f"expected {expected}, found {str(found)[:40]!r}", fix)


@lru_cache(maxsize=1024)
def split_unit(name: str) -> tuple[str, str | None]:
    """A column's name in lower case, words joined by ``_``, and the unit that it says, if any."""
    plain = _NO_WORD.sub("_", _WORD_BEGINS.sub("_", name)).strip("_").lower()
    found = _NAMED_UNIT.fullmatch(plain)
    if found is None:
        return plain, None
    return found["of"] or found["rest"], _UNIT_OF[found["unit"] or found["first"]]


def read_rows(path: Path, needed: Sequence[str] = (), bad: LeftOut = NEVER) -> Iterator[Row]:
    """The rows of a CSV (by commas, semicolons or tabs), of JSON lines, or of a JSON array.

    Args:
        path: The file; it is JSON where its first sign is ``{`` or ``[``.
        needed: Columns that a CSV must have, and at least one record of JSON.
        bad: Whether rows that are none, such as an aborted run's last, are left out.

    Raises:
        InputError: A column is missing, or a row has another number of cells than the header.
    """
    with open_text(path) as stream:
        first = stream.read(1)
        while first.isspace():
            first = stream.read(1)
    if first in ("{", "["):
        unseen: set[str] = set(needed)
        for entry in read_lines(path, parse_float=Decimal, or_array=True, bad=bad):
            row = Row(entry.path, entry.where, entry.fields)
            unseen -= {name for name in unseen if name in row}
            yield row
        for name in sorted(unseen):
            raise InputError(path, f"column {name}", "is in no record")
        return
    with open_text(path) as stream:
        reader, header = read_header(path, stream)
        for name in needed:
            if name not in header:
                found = ", ".join(header)[:80]
                raise InputError(path, f"column {name}", f"is missing; columns found: {found}")
        for cells in reader:
            if is_blank(cells):
                continue
            if len(cells) == len(header):
                where = f"line {reader.line_num}"
                yield Row(path, where, dict(zip(header, cells, strict=True)))
            elif not cells[0].startswith("#"):
                problem = f"has {len(cells)} cells, the header has {len(header)}"
                bad(InputError(path, f"line {reader.line_num}", problem))


def read_header(path: Path, stream: TextIO) -> tuple[Any, list[str]]:
    """A reader of the rows of a CSV (by commas, semicolons or tabs), and the names of its columns.

    Raises:
        InputError: It is empty, or two columns have one name.
    """
    comments, line = 0, stream.readline(_HEADER)
    while line.startswith(("#", "sep=")) and (after := stream.readline(_HEADER)):
        if _of_numbers(after):  # what stands behind the sign names the columns
            break
        comments, line = comments + 1, after
    separator = next((sign for sign in "\t;|" if sign in line and "," not in line), ",")
    stream.seek(0)
    reader = csv.reader(stream, delimiter=separator)
    for _ in range(comments):
        next(reader)
    header = [name.strip() for name in next(reader, [])]
    if not header:
        raise InputError(path, "", "is empty")
    if line.startswith("#"):
        header[0] = header[0].removeprefix("#").strip()
    twice = next((name for name in header if name and header.count(name) > 1), None)
    if twice is not None:
        raise InputError(path, f"column {twice}", "comes twice")
    return reader, header


def is_blank(cells: Sequence[str]) -> bool:
    """Whether a row has nothing in it, such as spreadsheets leave behind a table."""
    return not any(cell and not cell.isspace() for cell in cells)


def _of_numbers(line: str) -> bool:
    """Whether a line of a CSV begins with a number, as no header does."""
    return _decimal(re.split(r"[,;\t|]", line, maxsplit=1)[0].strip().strip('"')) is not None


def wall_clock(text: str) -> int | None:
    """A date and time (ISO 8601; UTC where no zone is given) in ns since 1970; None for others."""
    text = text.strip()
    found = _WALL_CLOCK.fullmatch(text)
    if found is not None:
        head, fraction, zone = found.groups()
    elif (other := _OTHER_CLOCK.fullmatch(text)) is not None:
        year, _, month, day, hour, _, minute, second, fraction, zone = other.groups()
        head = f"{year}-{month}-{day} {hour}:{minute}:{second}"
        zone = zone if zone is None or zone[0] in "+-" else "Z"
    else:
        return None
    seconds = _epoch_seconds(head, zone or "Z")
    return None if seconds is None else seconds * _NS_OF_S + int((fraction or "").ljust(9, "0"))


@lru_cache(maxsize=1024)
def _epoch_seconds(head: str, zone: str) -> int | None:
    try:
        moment = datetime.fromisoformat(head + ("" if zone == "Z" else zone))
    except ValueError:
        return None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def _decimal(value: Any) -> Decimal | None:
    if isinstance(value, bool) or (isinstance(value, str) and "_" in value):
        return None
    try:
        number = Decimal(value) if isinstance(value, str | int | Decimal) else None
    except ArithmeticError:
        return None
    return number if number is not None and number.is_finite() else None
