"""JSON files: written so that anyone can read them, read within limits, wrong ones named."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pytest_gpusim.artifacts import atomic_file
from pytest_gpusim.errors import InputError, shortly
from pytest_gpusim.limits import DEPTH, DOCUMENT_BYTES
from pytest_gpusim.progress import announce
from pytest_gpusim.texts import read_text_within

SCHEMA_VERSION = 1
_SUSPECT = re.compile(r"NaN|Infinity|\\u[dD]|\d[eE]\+?\d{3}|\d{309}")
"""What may be no value of JSON, or a number beyond those of 64 bits, which Python reads as inf."""
_BEYOND = 1 << 1023
"""Whole numbers from here on are none that Python can add to others: as a float they may not be."""
_LONG = 1 << 27  # characters from which on parsing takes seconds


def write_json(path: Path | str, value: Any) -> None:
    """Write JSON with a final newline, whole or not at all; NaN and infinities are refused."""
    text = json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False)
    with atomic_file(Path(path)) as partial:
        partial.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path | str, *, fix: str = "", plain: bool = False) -> Any:
    """Read a JSON document; raises `InputError` with the line where it breaks.

    A key that stands twice in one object is an error: of its two values one would be dropped. So
    are NaN, infinities, whole numbers that no float can be, and half surrogates; with ``plain``
    they are taken for null and question marks (see `plain_json`).
    """
    path = Path(path)
    text = read_text_within(path, DOCUMENT_BYTES, expected="a JSON file", fix=fix)
    document = parse_json(text, path, fix=fix, unique=True)
    if plain:
        return plain_json(document)
    if _SUSPECT.search(text):
        _require_plain(document, path, fix)
    return document


def _require_plain(document: Any, path: Path, fix: str) -> None:
    """Raise `InputError`, with the key, for a value that JSON does not have."""
    waiting: list[tuple[str, Any]] = [("", document)]
    while waiting:
        where, value = waiting.pop()
        if isinstance(value, Mapping):
            waiting += [(f"{where}.{key}".lstrip("."), item) for key, item in value.items()]
            waiting += [(where, key) for key in value]
        elif isinstance(value, list):
            waiting += [(f"{where}[{number}]", item) for number, item in enumerate(value)]
        elif isinstance(value, int | float | str) and plain_json(value) != value:
            found = "half a surrogate pair" if isinstance(value, str) else shortly(value)
            raise InputError(path, plain_json(where), f"{found} is no value of JSON", fix)


def parse_json(
    text: str,
    path: Path | str,
    where: str = "",
    *,
    fix: str = "",
    parse_float: Callable[[str], Any] | None = None,
    unique: bool = False,
) -> Any:
    """The JSON document ``text``, found in ``path`` at ``where`` (default: the line it breaks at).

    Raises:
        InputError: It is not JSON, or nested or numbered beyond what Python reads; with ``unique``
            also where a key stands twice in one object, of which the last value would count.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            twice = next(k for k, n in Counter(key for key, _ in pairs).items() if n > 1)
            raise InputError(path, where, f"the key {shortly(twice)} stands twice", fix)
        return found

    if len(text) > _LONG:
        announce(f"read {Path(path).name}: {len(text) >> 20:,} MiB of JSON in one piece")
    try:
        document = json.loads(
            text, parse_float=parse_float, object_pairs_hook=once if unique else None
        )
        if text.count("[") + text.count("{") > DEPTH.value:
            _check_depth(document, path, where)
        return document
    except json.JSONDecodeError as error:
        said = "several JSON documents in one" if error.msg == "Extra data" else error.msg
        place = where or f"line {error.lineno}"
        raise InputError(path, place, f"not JSON: {said}", fix) from None
    except RecursionError:
        raise InputError(path, where, "not usable JSON: it is nested too deeply", fix) from None
    except (ValueError, ArithmeticError):
        raise InputError(path, where, "not usable JSON: a number is too long", fix) from None


def _check_depth(document: Any, path: Path | str, where: str) -> None:
    limit = DEPTH.value
    level = [document]
    for _ in range(limit):
        level = [
            item
            for node in level
            for item in (node.values() if isinstance(node, dict) else node)
            if isinstance(item, dict | list)
        ]
        if not level:
            return
    raise InputError(
        path, where, f"not usable JSON: it is nested deeper than {limit}", DEPTH.advice
    )


def plain_json(value: Any, *, depth: int = 64) -> Any:
    """``value``, read from a foreign JSON file, as it can be written again.

    NaN, infinities, whole numbers that no float can be and what is nested deeper than ``depth``
    become null; half surrogates, which no file can hold, become question marks.
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, int):
        return value if -_BEYOND < value < _BEYOND else None
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, Mapping):
        if not depth:
            return None
        return {plain_json(str(k)): plain_json(v, depth=depth - 1) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(item, depth=depth - 1) for item in value] if depth else None
    return value


def check_schema_version(
    path: Path | str, document: Mapping[str, Any], newest: int = SCHEMA_VERSION
) -> None:
    """Refuse a document of a schema version above ``newest``, or of none."""
    found = document.get("schema_version")
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        raise InputError(path, "schema_version", f"expected the integer 1, found {found!r}")
    if found > newest:
        raise InputError(
            path,
            "schema_version",
            f"{found} is newer than the {newest} that this version reads",
            "upgrade pytest-gpusim",
        )


def digest_json(value: Any) -> str:
    """Sha256 of a JSON value in its canonical form (sorted keys, no spaces)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
