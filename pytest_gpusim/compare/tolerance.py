"""A tolerance as a user gives it; `judging.tolerances` reads what is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Tolerance:
    """How far a figure may be off: the larger of the two.

    Attributes:
        rel: Relative to the real figure.
        abs: A floor below which no error counts, such as ``"2ms"``; a plain number where the figure
            is no time. None: the metric's own.
    """

    rel: float
    abs: str | float | None = None


Given = Tolerance | float | int | str | Mapping[str, Any]
"""Everything that stands for one, see `judging.tolerances`."""
