"""Tolerances: how far a simulated figure may lie from the real one, in one syntax everywhere.

A tolerance is relative, with an absolute floor: an error below the floor is never held against the
simulation, for a percentage of a very small time says nothing. It is written

- in Python: ``0.10``, ``"10%"``, ``"10%:2ms"``, or ``Tolerance(rel=0.10, abs="2ms")``;
- on the command line: ``ttft_p50=0.10,tpot_p50=5%:0.1ms``;
- in TOML: ``ttft_p50 = 0.10`` or ``ttft_p50 = { rel = 0.10, abs = "2ms" }`` below ``[tolerances]``.

Beside figures (``<metric>_<statistic>``, ``makespan``, ``request_throughput``, ``goodput``), limits
can be put on how single requests agree: ``ttft_mape``, ``ttft_wasserstein`` (upper limits),
``ttft_rank_correlation`` (a lower one).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

from pytest_gpusim.compare.metrics import (
    HEADLINES,
    METRICS,
    Agreement,
    Metric,
    Statistic,
    figure_name,
    find_agreement,
    find_figure,
)
from pytest_gpusim.compare.tolerance import Given, Tolerance
from pytest_gpusim.errors import UsageError, shortly
from pytest_gpusim.limits import LARGEST

DEFAULT_RELATIVE = 0.10
FEW_RUNS, STRICT_RUNS, STRICT = 3, 5, 0.05
"""How many real runs are worth starting with, in general and where a tolerance is `STRICT`."""
_EXAMPLE = "such as ttft_p50=0.10,tpot_p50=5%:0.1ms"
_UNITS_NS = {"ns": 1.0, "us": 1e3, "µs": 1e3, "ms": 1e6, "s": 1e9}
_GONE = {
    "noise_factor": "noise never widens a tolerance: measure more runs, or allow more",
    "floor_ms": "give each figure its floor, such as ttft_p50=0.10:2ms",
}


@dataclass(frozen=True)
class Limit:
    """A tolerance put on one figure, or on one way that single requests agree.

    Attributes:
        name: ``ttft_p50``.
        metric: Of what.
        statistic: Under which statistic, or in which respect.
        relative: The relative tolerance, or the limit itself for an `Agreement`.
        floor: In the metric's unit.
        default: Whether nobody asked for it by name.
    """

    name: str
    metric: Metric
    statistic: Statistic | Agreement
    relative: float
    floor: float
    default: bool = False


def default_limits() -> tuple[Limit, ...]:
    """What is judged when nobody says: TTFT, TPOT and E2E at p50 and p90 within 10%."""
    return tuple(
        Limit(
            figure_name(METRICS[name], statistic),
            METRICS[name],
            statistic,
            DEFAULT_RELATIVE,
            METRICS[name].floor,
            default=True,
        )
        for name in HEADLINES
        for statistic in METRICS[name].statistics
        if statistic.name in ("p50", "p90")
    )


def read_limits(given: Mapping[str, Given]) -> tuple[Limit, ...]:
    """Tolerances by name, such as ``{"ttft_p50": 0.10, "tpot_p50": Tolerance(0.05, "0.1ms")}``.

    Raises:
        UsageError: An unknown name, or an impossible value.
    """
    return tuple(_limit(name, value) for name, value in given.items())


def parse_tolerances(text: str) -> dict[str, str]:
    """Read ``ttft_p50=0.10,tpot_p50=5%:0.1ms``; the values stay as they are written.

    Raises:
        UsageError: Not of that form, an unknown name, or an impossible value.
    """
    found: dict[str, str] = {}
    for item in text.split(","):
        name, equals, value = (part.strip() for part in item.partition("="))
        if not equals:
            raise UsageError(f"tolerance {item.strip()!r}: expected <name>=<tolerance>, {_EXAMPLE}")
        if name in found:
            raise UsageError(f"tolerance {name!r} is given twice")
        found[name] = value
    read_limits(found)
    return found


def duration_ns(text: Any, what: str) -> float:
    """A time such as ``"2ms"``, in ns.

    Raises:
        UsageError: Not a time with a unit.
    """
    match = re.fullmatch(r"\s*([0-9.eE+-]+)\s*(ns|us|µs|ms|s)\s*", str(text))
    try:
        value = float(match.group(1)) * _UNITS_NS[match.group(2)] if match else -1.0
    except ValueError:
        value = -1.0
    if not isfinite(value) or value < 0:
        raise UsageError(f"{what}: expected a time with its unit, such as '2ms', found {text!r}")
    return value


def _limit(name: str, value: Given) -> Limit:
    for gone, instead in _GONE.items():
        if name == gone or name.endswith(f"_{gone}"):
            raise UsageError(f"tolerance {name!r} is no more: {instead}")
    tolerance = _tolerance(name, value)
    relative = _number(name, tolerance.rel)
    agreement = find_agreement(name)
    if agreement is not None:
        metric, respect = agreement
        if tolerance.abs is not None:
            raise UsageError(f"tolerance {name}: is a limit itself, and has no floor")
        return Limit(name, metric, respect, relative, 0.0)
    metric, statistic = find_figure(name)
    if relative >= 1:
        raise UsageError(
            f"tolerance {name}={relative:g}: {relative:.0%} holds nothing, a simulation that takes "
            "no time is 100% off; 10% is 0.10 or '10%', and small times have a floor "
            f"({name}=10%:2ms)"
        )
    return Limit(
        figure_name(metric, statistic), metric, statistic, relative, _floor(name, metric, tolerance)
    )


def _tolerance(name: str, value: Given) -> Tolerance:
    if isinstance(value, Tolerance):
        return value
    if isinstance(value, Mapping):
        unknown = set(value) - {"rel", "abs"}
        if unknown or "rel" not in value:
            raise UsageError(f"tolerance {name}: expected rel and, if at all, abs, found {value!r}")
        return Tolerance(_number(name, value["rel"]), value.get("abs"))
    if isinstance(value, str):
        relative, _, floor = value.partition(":")
        return Tolerance(_number(name, relative), floor.strip() or None)
    return Tolerance(_number(name, value))


def _floor(name: str, metric: Metric, tolerance: Tolerance) -> float:
    if tolerance.abs is None:
        return metric.floor
    if metric.unit == "ns":
        return duration_ns(tolerance.abs, f"floor of tolerance {name}")
    return _number(f"{name}, its floor", tolerance.abs)


def _number(name: str, value: Any) -> float:
    number = value
    if isinstance(value, str):
        text = value.strip()
        try:
            number = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            number = None
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise UsageError(f"tolerance {name}={value!r}: expected a number, {_EXAMPLE}")
    if not 0 <= number < LARGEST:
        raise UsageError(f"tolerance {name}={shortly(value)}: expected a number of at least 0")
    return float(number)
