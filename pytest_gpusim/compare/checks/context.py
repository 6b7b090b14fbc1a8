"""What every check is given, and the small helpers that checks share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_gpusim.checks import Check, Status
from pytest_gpusim.compare.metrics import RunMetrics

if TYPE_CHECKING:
    from pytest_gpusim.runs import Run
    from pytest_gpusim.workload import Workload


@dataclass(frozen=True)
class CheckContext:
    """The two sides of a comparison.

    Attributes:
        real: The real runs.
        sim: The simulated run.
        real_metrics: Their metrics, in the same order.
        sim_metrics: Its metrics, cut to the real lengths.
        metrics: ``metrics`` of ``comparison.json``.
        reasons: Why a metric in there is None.
        left_out: Requests that are error rows in any run.
        workload: The workload, where the caller has it.
    """

    real: Sequence[Run]
    sim: Run
    real_metrics: Sequence[RunMetrics]
    sim_metrics: RunMetrics
    metrics: dict[str, Any]
    reasons: dict[str, str]
    left_out: frozenset[int]
    workload: Workload | None = None


Finding = tuple[Status, str]
"""A check's status and its detail, one line."""
CheckFunction = Callable[[CheckContext], Finding]


def make_check(name: str, judge: CheckFunction, context: CheckContext) -> Check:
    """Run one check."""
    status, detail = judge(context)
    return Check(name, status, detail)


def engine(run: Run) -> dict[str, Any]:
    """The resolved engine settings that the run recorded; empty where it recorded none."""
    return dict(run.meta.get("engine") or {})


def listed(items: Sequence[str], limit: int = 4) -> str:
    """Some items in words, the rest counted."""
    shown = "; ".join(items[:limit])
    return shown + (f"; and {len(items) - limit} more" if len(items) > limit else "")


def ms(nanoseconds: float) -> str:
    """A time in ms, or in s from 1 s on, for messages."""
    if abs(nanoseconds) >= 1e9:
        return f"{nanoseconds / 1e9:,.4g} s"
    return f"{nanoseconds / 1e6:,.3g} ms"


_ORDER = ("pass", "skip", "warn", "fail")


def worst(findings: list[Finding]) -> Finding:
    """The findings of several real runs as one: the worst, and how many runs are like it."""
    status = max((status for status, _ in findings), key=_ORDER.index)
    details = [detail for found, detail in findings if found == status]
    others = len(details) - 1
    alike = f" (and {others} other run{'s' if others > 1 else ''} alike)" if others else ""
    return status, details[0] + alike
