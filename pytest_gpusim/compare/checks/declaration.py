"""How a check declares itself, and the small helpers that checks share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from pytest_gpusim.checks import Check, Status
from pytest_gpusim.compare.sides import Sides

Finding = tuple[Status, str]
"""A check's status and its detail, one line."""
CheckFunction = Callable[[Sides], Finding]


class Protects(Enum):
    """What a check protects, and so what its failure means."""

    CASE = "that both sides are the same case"
    MEASUREMENT = "that the real measurement is sound"


class Accept(Enum):
    """What a user may accept of a check, by its name."""

    NEVER = "nothing: it must be known and hold"
    UNKNOWN = "that it could not be judged"
    FAILURE = "that it could not be judged, or failed"


@dataclass(frozen=True)
class ComparisonCheck(Check):
    """What a check of a comparison found.

    ``needed``: a verdict of ``pass`` needs it known and holding.
    """

    needed: bool = False

    def to_json(self) -> dict[str, Any]:
        """The four fields, as JSON values."""
        return {**super().to_json(), "needed": self.needed}


@dataclass(frozen=True)
class Declaration:
    """A check of a comparison.

    Attributes:
        name: Its name in ``comparison.json``.
        protects: What it protects.
        rank: Its place in every list, the most decisive first.
        needed: Whether a verdict of ``pass`` needs it.
        accept: What a user may accept of it.
        cause: As a likely cause of wrong figures, in words; empty where it explains nothing.
        judge: Looks at the two sides.
        each_seed: Whether it must hold for each seed of a stochastic simulation by itself.
        of_limits: Whether what it finds depends on what is judged.
        states: Keys of ``run_meta.json`` by which a user states what it does not know.
    """

    name: str
    protects: Protects
    rank: int
    needed: bool
    accept: Accept
    cause: str
    judge: CheckFunction
    each_seed: bool = False
    of_limits: bool = False
    states: tuple[str, ...] = ()

    def run(self, sides: Sides, accepted: bool = False) -> ComparisonCheck:
        """What it finds; ``accepted``: the user accepts what may be accepted of it."""
        status, detail = self._find(sides)
        if accepted and (
            (status == "unknown" and self.accept is not Accept.NEVER)
            or (status == "fail" and self.accept is Accept.FAILURE)
        ):
            status = "accepted"
        elif accepted and status == "fail":
            detail += "; that cannot be accepted"
        return ComparisonCheck(self.name, status, detail, self.needed)

    def _find(self, sides: Sides) -> Finding:
        """What it finds, once for all that is judged of the same sides."""
        found = None if self.of_limits else sides.findings.get(self.name)
        if found is None:
            seeds = sides.by_seed() if self.each_seed else [sides]
            found = sides.findings[self.name] = worst([self.judge(each) for each in seeds])
        return found


DECLARED: list[Declaration] = []
"""Every check whose module was imported."""


def check(
    protects: Protects,
    *,
    rank: int,
    needed: bool = False,
    accept: Accept = Accept.UNKNOWN,
    cause: str = "",
    each_seed: bool = False,
    of_limits: bool = False,
    states: tuple[str, ...] = (),
) -> Callable[[CheckFunction], CheckFunction]:
    """Declare a function as the check of its name."""

    def declare(judge: CheckFunction) -> CheckFunction:
        name = judge.__name__
        how = (each_seed, of_limits, states)
        DECLARED.append(Declaration(name, protects, rank, needed, accept, cause, judge, *how))
        return judge

    return declare


def listed(items: Sequence[str], limit: int = 4) -> str:
    """Some items in words, the rest counted."""
    shown = "; ".join(items[:limit])
    return shown + (f"; and {len(items) - limit} more" if len(items) > limit else "")


def ms(nanoseconds: float) -> str:
    """A time in ms, or in s from 1 s on, for messages."""
    if abs(nanoseconds) >= 1e9:
        return f"{nanoseconds / 1e9:,.4g} s"
    return f"{nanoseconds / 1e6:,.3g} ms"


_ORDER = ("pass", "skip", "warn", "unknown", "fail")


def worst(findings: list[Finding]) -> Finding:
    """The findings of several runs as one: the worst, and how many runs are like it."""
    status = max((status for status, _ in findings), key=_ORDER.index)
    details = [detail for found, detail in findings if found == status]
    others = len(details) - 1
    alike = f" (and {others} other run{'s' if others > 1 else ''} alike)" if others else ""
    return status, details[0] + alike
