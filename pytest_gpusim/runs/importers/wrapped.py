"""Results in a JSON list, as sweeps and notebooks collect them, or below a key of a wrapper."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

IsOne = Callable[[Any], bool]
_DEPTH = 2


def holds(document: Any, is_one: IsOne, depth: int = _DEPTH) -> bool:
    """Whether a document is of a kind, or the first of its list or of a list in it is."""
    if is_one(document):
        return True
    if not depth or not isinstance(document, dict | list):
        return False
    inner = document.values() if isinstance(document, dict) else document[:1]
    return any(holds(each, is_one, depth - 1) for each in inner)


def all_in(document: Any, is_one: IsOne, depth: int = _DEPTH) -> list[Any]:
    """Every document of a kind in one that `holds` it, and what stands between them in a list."""
    if is_one(document):
        return [document]
    if not holds(document, is_one, depth):
        return []
    if isinstance(document, dict):
        return [one for each in document.values() for one in all_in(each, is_one, depth - 1)]
    return [one for each in document for one in all_in(each, is_one, depth - 1) or [each]]
