"""JSON lines, record by record, with mistakes named by line and field."""

from __future__ import annotations

import reprlib
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

from pytest_gpusim.artifacts import parse_json
from pytest_gpusim.errors import InputError
from pytest_gpusim.tables import open_text

LARGEST = 2**63


def read_objects(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where, object) of each line; numbers with a fraction come as exact `Decimal`."""
    with open_text(path) as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            where = f"line {number}"
            document = parse_json(line, path, where, parse_float=Decimal)
            if not isinstance(document, dict):
                raise InputError(path, where, "expected a JSON object")
            yield where, document


def integer(path: Path, where: str, document: dict[str, Any], key: str, least: int = 1) -> int:
    """A whole number of at least ``least`` under ``key``."""
    value = document.get(key)
    if type(value) is not int or not least <= value < LARGEST:
        raise InputError(
            path,
            f"{where}, {key}",
            f"expected a whole number of at least {least}, found {_shown(document, key)}",
        )
    return value


def integers(path: Path, where: str, document: dict[str, Any], key: str) -> tuple[int, ...]:
    """A list of whole numbers under ``key``."""
    value = document.get(key)
    if not isinstance(value, list) or not all(type(item) is int for item in value):
        raise InputError(
            path, f"{where}, {key}", f"expected whole numbers, found {_shown(document, key)}"
        )
    return tuple(value)


def _shown(document: dict[str, Any], key: str) -> str:
    return shown(document[key]) if key in document else "nothing"


def shown(value: Any) -> str:
    """``value`` as messages show it, shortened."""
    return str(value)[:40] if isinstance(value, Decimal | str) else reprlib.repr(value)
