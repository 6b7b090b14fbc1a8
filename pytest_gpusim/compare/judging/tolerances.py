"""Tolerances: how far a simulated figure may lie from the real one.

A tolerance is relative, with an absolute floor: an error below the floor is never held against the
simulation, for a percentage of a very small time says nothing. The floor is 0.5 ms, and 0.05 ms
for the metrics per token; ``floor_ms=2`` sets it for all metrics, ``ttft_floor_ms=2`` for one.
``noise_factor=1.5`` widens each tolerance to at least so many times the noise of its figure, for
machines that cannot be had quiet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal

from pytest_gpusim.compare.figures import Figures
from pytest_gpusim.compare.metrics import METRICS, MS, Metric, Statistic, find_figure
from pytest_gpusim.errors import UsageError

Verdict = Literal["pass", "fail", "inconclusive"]

_FLOOR = "floor_ms"
_NOISE_FACTOR = "noise_factor"
_EXAMPLE = "such as ttft_p50=0.10,tpot_p50=0.05"


@dataclass(frozen=True)
class Tolerance:
    """How far one figure may be off.

    The largest of ``relative`` to the real one, ``floor_ns``, and ``noise_factor`` times the noise.
    """

    name: str
    metric: Metric
    statistic: Statistic
    relative: float
    floor_ns: float
    noise_factor: float = 0.0


@dataclass(frozen=True)
class Judgement:
    """A figure held against its tolerance; ``reason`` says why it is not a plain pass."""

    name: str
    outcome: Verdict
    real_ns: int | None
    sim_ns: int | None
    error: float | None
    tolerance: float
    floor_ns: float
    noise: float | None
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """All fields, as JSON values."""
        return dict(vars(self))


def parse_tolerances(text: str) -> dict[str, float]:
    """Read ``ttft_p50=0.10,tpot_p50=0.05,floor_ms=2,noise_factor=1.5``.

    Raises:
        UsageError: Not of that form, or an unknown name or impossible value.
    """
    found: dict[str, float] = {}
    for item in text.split(","):
        name, equals, value = (part.strip() for part in item.partition("="))
        if not equals:
            raise UsageError(f"tolerance {item.strip()!r}: expected <metric>_<stat>=N, {_EXAMPLE}")
        if name in found:
            raise UsageError(f"tolerance {name!r} is given twice")
        try:
            found[name] = float(value)
        except ValueError:
            raise UsageError(f"tolerance {name}={value}: expected a number, {_EXAMPLE}") from None
    read_tolerances(found)
    return found


def read_tolerances(given: Mapping[str, float]) -> list[Tolerance]:
    """Tolerances by name, such as ``{"ttft_p50": 0.10, "makespan": 0.05, "floor_ms": 2}``.

    Raises:
        UsageError: An unknown name, or a value that is not a number of at least 0.
    """
    floors = {name: metric.floor_ns for name, metric in METRICS.items()}
    relative: dict[str, float] = {}
    noise_factor = 0.0
    for name, value in given.items():
        number = _number(name, value)
        if name == _NOISE_FACTOR:
            noise_factor = number
        elif name == _FLOOR:
            floors.update({m: number * MS for m in METRICS if f"{m}_{_FLOOR}" not in given})
        elif name.endswith(f"_{_FLOOR}") and name.removesuffix(f"_{_FLOOR}") in METRICS:
            floors[name.removesuffix(f"_{_FLOOR}")] = number * MS
        else:
            find_figure(name)
            relative[name] = number
    return [
        Tolerance(name, metric, statistic, value, floors[metric.name], noise_factor)
        for name, value in relative.items()
        for metric, statistic in (find_figure(name),)
    ]


def judge(tolerance: Tolerance, figures: Figures) -> Judgement:
    """Hold one figure against its tolerance.

    The error passes within the tolerance or the floor, whichever is larger. Where the noise of the
    real runs exceeds that, the measurement is too coarse to judge by: the figure fails if the
    error exceeds tolerance and noise together, and is inconclusive otherwise.
    """
    figure = figures.by_name.get(tolerance.name)
    noise = figure.noise if figure is not None else None
    # What is held against the figure, so that every report shows it.
    relative = max(tolerance.relative, tolerance.noise_factor * (noise or 0.0))
    limits = {"tolerance": relative, "floor_ns": tolerance.floor_ns}
    if figure is None:
        reason = f"not available: {figures.unavailable[tolerance.metric.name]}"
        return Judgement(
            tolerance.name, "inconclusive", None, None, None, noise=None, reason=reason, **limits
        )
    real, sim, error = round(figure.real_value), round(figure.sim), figure.error
    # Judged on the exact ratio where there is one: the times are rounded to whole ns.
    off = abs(sim - real) if error is None else abs(error) * real
    # Half a ns: a time of the contract is exact to no more.
    allowed = max(relative * real, tolerance.floor_ns) + 0.5
    spread = (noise or 0.0) * real
    outcome: Verdict
    if spread > allowed:
        too_coarse = f"real runs differ by {noise:.1%}, more than the tolerance"
        if off > allowed + spread:
            outcome, reason = "fail", f"off by more than tolerance and noise together; {too_coarse}"
        else:
            outcome, reason = "inconclusive", f"{too_coarse}; measure again on a quiet machine"
    elif off <= allowed:
        outcome = "pass"
        within = off <= relative * real + 0.5
        reason = "" if within else f"within the absolute floor of {tolerance.floor_ns / 1e6:g} ms"
    else:
        outcome, reason = "fail", "off by more than the tolerance"
    return Judgement(
        tolerance.name, outcome, real, sim, error, noise=noise, reason=reason, **limits
    )


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UsageError(f"tolerance {name}={value!r}: expected a number, {_EXAMPLE}")
    if not isfinite(value) or value < 0:
        raise UsageError(f"tolerance {name}={value!r}: expected a number of at least 0")
    return float(value)
