"""Values of other tools' JSON files, taken with their type and range checked.

Errors name the file, the record and the field.
"""

from __future__ import annotations

import json
import math
import reprlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pytest_gpusim.artifacts import parse_json
from pytest_gpusim.errors import InputError
from pytest_gpusim.tables import open_text

NS = 1_000_000_000
_MOST = 2**63 - 1
_MOST_SECONDS = _MOST // NS


class Record:
    """A JSON object whose fields are taken with their type checked; ``where`` names it."""

    def __init__(self, path: Path, where: str, fields: Any) -> None:
        self.path = path
        self.where = where
        if not isinstance(fields, dict):
            raise InputError(path, where, "expected a JSON object")
        self.fields: dict[str, Any] = fields

    def __contains__(self, key: str) -> bool:
        return self.fields.get(key) is not None

    def place(self, key: str) -> str:
        """How messages name a field."""
        return f"{self.where}, {key}" if self.where else key

    def fail(self, key: str, problem: str, fix: str = "") -> InputError:
        """The error of one field, to be raised."""
        return InputError(self.path, self.place(key), problem, fix)

    def value(self, key: str) -> Any:
        """A field that must be there and not null."""
        if key not in self:
            raise self.fail(key, "is missing")
        return self.fields[key]

    def record(self, key: str) -> Record:
        """A field that is an object."""
        value = self.value(key)
        if not isinstance(value, dict):
            raise self.fail(key, f"expected a JSON object, found {shown(value)}")
        return Record(self.path, self.place(key), value)

    def record_or_empty(self, key: str) -> Record:
        """A field that is an object; one without fields where it is absent or null."""
        return self.record(key) if key in self else Record(self.path, self.place(key), {})

    def array(self, key: str, length: int | None = None, of: str = "") -> list[Any]:
        """A field that is an array, as long as the array named ``of`` where that is given."""
        value = self.value(key)
        if not isinstance(value, list):
            raise self.fail(key, "expected an array")
        if length is not None and len(value) != length:
            raise self.fail(key, f"has {len(value)} entries, {of} has {length}")
        return value

    def number(self, key: str) -> float:
        """A field that is a finite number, not negative."""
        return check_number(self.path, self.place(key), self.value(key))

    def seconds(self, key: str) -> float:
        """A field that is a time in seconds, not negative."""
        return check_seconds(self.path, self.place(key), self.value(key))

    def integer(self, key: str) -> int:
        """A field that is a whole number, not negative."""
        return check_integer(self.path, self.place(key), self.value(key))

    def text(self, key: str) -> str:
        """A field that is a string."""
        value = self.value(key)
        if not isinstance(value, str):
            raise self.fail(key, f"expected a string, found {shown(value)}")
        return value

    def text_or_none(self, key: str) -> str | None:
        """A field that is a string; None where it is absent or null."""
        return self.text(key) if key in self else None


def check_number(
    path: Path, where: str, value: Any, *, signed: bool = False, most: int = _MOST
) -> float:
    """``value``, if it is a finite number of at most ``most``."""
    good = isinstance(value, int | float) and not isinstance(value, bool)
    # An int is held against the limit as it is: as a float it may not exist.
    if not good or (isinstance(value, float) and not math.isfinite(value)):
        raise InputError(path, where, f"expected a finite number, found {shown(value)}")
    if not -most <= value <= most:
        raise InputError(path, where, f"{shown(value)} is beyond the largest value, {most}")
    if value < 0 and not signed:
        raise InputError(
            path, where, f"expected a number that is not negative, found {shown(value)}"
        )
    return float(value)


def check_seconds(path: Path, where: str, value: Any, *, signed: bool = False) -> float:
    """``value``, if it is a time in seconds that fits in 64 bits of nanoseconds."""
    return check_number(path, where, value, signed=signed, most=_MOST_SECONDS)


def check_integer(path: Path, where: str, value: Any) -> int:
    """``value``, if it is a whole number that is not negative (``3.0`` counts)."""
    number = check_number(path, where, value)
    if number != int(number):
        raise InputError(path, where, f"expected a whole number, found {shown(value)}")
    return int(value)


def shown(value: Any) -> str:
    """``value`` as messages show it: not more than a line's worth."""
    return reprlib.repr(value)


def to_ns(seconds: float) -> int:
    """Seconds as whole nanoseconds."""
    return round(seconds * NS)


def describe_error(text: str) -> tuple[str, str]:
    """(type, message) of an error text, which may be a Python traceback or a class and message."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    last = lines[-1] if lines else "unknown error"
    name, colon, message = last.partition(":")
    short = name.rsplit(".", 1)[-1]
    if colon and short.isidentifier():
        return short, message.strip() or short
    return "error", last


def read_document(path: Path) -> Any:
    """A JSON file; a plain hint where it holds several documents (JSON lines) or none."""
    with open_text(path) as stream:
        text = stream.read()
    if not text.strip():
        raise InputError(path, "", "is empty")
    return parse_json(text, path)


def read_lines(path: Path) -> Iterator[Record]:
    """The objects of a JSON-lines file, one at a time."""
    number = 0
    with open_text(path) as stream:
        for number, line in enumerate(stream, start=1):
            if line.strip():
                where = f"line {number}"
                yield Record(path, where, parse_json(line, path, where))
    if number == 0:
        raise InputError(path, "", "is empty")


def peek(path: Path, limit: int = 1 << 28) -> Any:
    """What the file holds, or its first line does; None where that is not JSON. Never raises.

    Of a first line longer than ``limit``, or of a longer file that is not JSON lines, nothing.
    """
    try:
        if not path.is_file():
            return None
        with open_text(path) as stream:
            first = stream.readline(limit)
            try:
                return json.loads(first)
            except ValueError:
                rest = stream.read(limit)
                return json.loads(first + rest) if len(rest) < limit else None
    except (InputError, ValueError, OSError, RecursionError):
        return None


def split_index(path: Path) -> tuple[Path, int | None]:
    """``FILE#3`` as the file and 3, for files that hold several runs; other paths as they are."""
    name, mark, index = path.name.rpartition("#")
    if mark and index.isdecimal() and len(index) < 10 and not path.exists():
        return path.with_name(name), int(index)
    return path, None
