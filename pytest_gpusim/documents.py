"""JSON documents of other tools: read within limits, values taken with type and range checked.

Errors name the file, the record and the field.
"""

from __future__ import annotations

import json
import math
import reprlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any

from pytest_gpusim.errors import InputError
from pytest_gpusim.json_documents import parse_json
from pytest_gpusim.limits import DOCUMENT_BYTES
from pytest_gpusim.texts import lines_within, open_text, read_text_within

NS = 1_000_000_000
_MOST = 2**63 - 1
_MOST_SECONDS = _MOST // NS
_LOOK_BYTES = 1 << 28


class LeftOut:
    """Bad records, which end an import or are left out and counted.

    It is told of each by its error (``left_out(error)``), which it raises unless they are left out.
    """

    def __init__(self, are: bool, count: Callable[[], None] | None = None) -> None:
        """``count`` is called for each that is left out."""
        self._are = are
        self._count = count
        self.number = 0
        """How many were left out."""

    def __call__(self, error: InputError) -> None:
        """One bad record."""
        if not self._are:
            raise error
        self.number += 1
        if self._count is not None:
            self._count()

    @contextmanager
    def where_bad(self) -> Iterator[None]:
        """What is done inside with one record; where that is bad, the rest of it is left out."""
        try:
            yield
        except InputError as error:
            self(error)


NEVER = LeftOut(False)
"""Every bad record ends the import."""


class JsonObject:
    """A JSON object whose fields are taken with their type checked; ``where`` names it."""

    def __init__(self, path: Path, where: str, fields: Any) -> None:
        self.path = path
        self.where = where
        if not isinstance(fields, dict):
            raise InputError(path, where, f"expected a JSON object, found {shown(fields)}")
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

    def record(self, key: str) -> JsonObject:
        """A field that is an object."""
        value = self.value(key)
        if not isinstance(value, dict):
            raise self.fail(key, f"expected a JSON object, found {shown(value)}")
        return JsonObject(self.path, self.place(key), value)

    def record_or_empty(self, key: str) -> JsonObject:
        """A field that is an object; one without fields where it is absent or null."""
        return self.record(key) if key in self else JsonObject(self.path, self.place(key), {})

    def array(self, key: str, length: int | None = None, of: str = "") -> list[Any]:
        """A field that is an array, as long as the array named ``of`` where that is given."""
        value = self.value(key)
        if not isinstance(value, list):
            raise self.fail(key, "expected an array")
        if length is not None and len(value) != length:
            raise self.fail(key, f"has {len(value)} entries, {of} has {length}")
        return value

    def number(self, key: str, *, signed: bool = False) -> float:
        """A field that is a finite number, not negative unless ``signed``."""
        return check_number(self.path, self.place(key), self.value(key), signed=signed)

    def seconds(self, key: str) -> float:
        """A field that is a time in seconds, not negative."""
        return check_seconds(self.path, self.place(key), self.value(key))

    def integer(self, key: str, least: int = 0) -> int:
        """A field that is a whole number of at least ``least``."""
        value = check_integer(self.path, self.place(key), self.value(key))
        if value < least:
            raise self.fail(key, f"expected a whole number of at least {least}, found {value}")
        return value

    def integers(self, key: str) -> tuple[int, ...]:
        """A field that is an array of whole numbers, negative ones too."""
        value = self.array(key)
        if not all(type(item) is int for item in value):
            raise self.fail(key, f"expected whole numbers, found {shown(value)}")
        return tuple(value)

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
    good = isinstance(value, int | float | Decimal) and not isinstance(value, bool)
    # An int is held against the limit as it is: as a float it may not exist.
    if not good or (not isinstance(value, int) and not math.isfinite(value)):
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
    check_number(path, where, value)
    if value != int(value):
        raise InputError(path, where, f"expected a whole number, found {shown(value)}")
    return int(value)


def shown(value: Any) -> str:
    """``value`` as messages show it: not more than a line's worth."""
    return str(value)[:40] if isinstance(value, Decimal) else reprlib.repr(value)


def to_ns(seconds: float) -> int:
    """Seconds as whole nanoseconds."""
    return round(seconds * NS)


def read_document(path: Path) -> Any:
    """A JSON file; a plain hint where it holds several documents (JSON lines) or none."""
    text = read_text_within(path, DOCUMENT_BYTES)
    if not text.strip():
        raise InputError(path, "", "is empty")
    return parse_json(text, path)


def read_lines(
    path: Path,
    *,
    parse_float: Callable[[str], Any] | None = None,
    or_array: bool = False,
    bad: LeftOut | None = None,
) -> Iterator[JsonObject]:
    """The objects of a JSON-lines file, one at a time.

    Args:
        path: The file.
        or_array: Whether it may as well be an array of objects, or objects over several lines.
        parse_float: What becomes of numbers with a fraction (`decimal.Decimal` for exact ones).
        bad: Whether lines (entries) that are no JSON objects are left out; default: never.
    """
    limit = DOCUMENT_BYTES.value
    bad = bad or NEVER
    begun = False
    with open_text(path) as stream:
        for number, line in enumerate(lines_within(path, stream, DOCUMENT_BYTES), start=1):
            where = f"line {number}"
            if not line.strip():
                continue
            begins, begun = not begun, True
            if or_array and begins and line.lstrip().startswith("["):
                text = line + stream.read(limit)
                entries = parse_json(text, path, "", parse_float=parse_float)
                for place, entry in enumerate(entries):
                    try:
                        found = JsonObject(path, f"entry {place}", entry)
                    except InputError as error:
                        bad(error)
                        continue
                    yield found
                return
            if or_array and begins and line.strip() == "{":  # each over several lines
                text = line + stream.read(limit)
                for place, part in enumerate(_parts(text)):
                    entry = parse_json(part, path, "", parse_float=parse_float)
                    yield JsonObject(path, f"entry {place}", entry)
                return
            try:
                found = JsonObject(
                    path, where, parse_json(line, path, where, parse_float=parse_float)
                )
            except InputError as error:
                bad(error)
                continue
            yield found
    if not begun:
        raise InputError(path, "", "is empty")


def first_document(path: Path, limit: int = _LOOK_BYTES) -> Any:
    """What the file holds, or its first line does; None where that is not JSON. Never raises.

    Of a first line longer than ``limit``, or of a longer file that is not JSON lines, nothing; of
    documents after each other the first. The last file is remembered until `forget_documents`: many
    may look at it, none may change what they see.
    """
    try:
        found = path.stat()
        return _looked_at(path, limit, (found.st_ino, found.st_size, found.st_mtime_ns))
    except (OSError, ValueError):
        return None


def forget_documents() -> None:
    """Let go of what `first_document` remembers."""
    _looked_at.cache_clear()


@lru_cache(maxsize=1)
def _looked_at(path: Path, limit: int, stamp: tuple[int, ...]) -> Any:
    try:
        if not path.is_file():
            return None
        with open_text(path) as stream:
            first = stream.readline(limit)
            try:
                return parse_json(first, path)
            except InputError:
                rest = stream.read(limit)
                return parse_json(_parts(first + rest)[0], path) if len(rest) < limit else None
    except (InputError, ValueError, OSError, IndexError):  # an empty one has no parts
        return None


def read_documents(path: Path) -> list[Any]:
    """The JSON documents of a file, one after another: most have one, appended results several."""
    text = read_text_within(path, DOCUMENT_BYTES)
    if not text.strip():
        raise InputError(path, "", "is empty")
    parts = _parts(text)
    if len(parts) == 1:
        return [parse_json(parts[0], path)]
    return [parse_json(part, path, f"document {n}") for n, part in enumerate(parts)]


def _parts(text: str) -> list[str]:
    """The text of each document; what does not end as JSON is the last one's."""
    decoder, place = json.JSONDecoder(), 0
    parts: list[str] = []
    try:
        while rest := text[place:].lstrip():
            place = len(text) - len(rest)
            _, end = decoder.raw_decode(text, place)
            parts.append(text[place:end])
            place = end
    except (ValueError, RecursionError):
        return [*parts, text[place:]]
    return parts
