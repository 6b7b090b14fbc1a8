"""A figure held against its tolerance."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from pytest_gpusim.compare.agreement import FEWEST_RUNS, AgreementValue
from pytest_gpusim.compare.figures import Figure, Figures
from pytest_gpusim.compare.format import quantity
from pytest_gpusim.compare.judging.equivalence import (
    LONE_RUN_MARGIN,
    MOST_RUNS,
    Estimate,
    Outcome,
    estimate,
)
from pytest_gpusim.compare.judging.tolerances import (
    FEW_RUNS,
    STRICT,
    STRICT_RUNS,
    Limit,
    default_limits,
)
from pytest_gpusim.compare.metrics import GOODPUT, Agreement, Statistic
from pytest_gpusim.errors import UsageError

_NO_LIMITS = (
    "no limits are stated: check(slo={'ttft': '200ms'}), or gpusim compare --slo ttft=200ms"
)
FEWEST_BEYOND, FEW_BEYOND = 1.0, 5.0
"""Of a percentile: how many values must lie beyond it, and below how many it says little."""


@dataclass(frozen=True)
class Judgement:
    """A figure held against its tolerance, as in ``comparison.json``.

    Attributes:
        name: ``ttft_p50``.
        metric: ``ttft``.
        statistic: ``p50``; empty for a figure of the run, else the respect of an agreement.
        outcome: ``pass``, ``fail`` or ``inconclusive``.
        real: The real figure, in ``unit``.
        sim: The simulated one.
        unit: ``ns``, ``requests/s``, ``tokens/s``, ``share`` or ``ratio``.
        error: (sim - real) / real, as a fraction; of an agreement its value.
        interval: Where the error lies, each end with 95%; None where the spread is not known.
        tolerance: The relative tolerance, or an agreement's limit.
        floor: The absolute one, in ``unit``.
        decided_by: ``tolerance`` or ``floor``, whichever allows more, or ``limit``.
        num_runs: Real runs.
        run_sd: Standard deviation between real runs, of ln(figure).
        pooled: Whether a history is part of it.
        runs_needed: The fewest real runs that decide at this error and spread; None for more than
            a hundred.
        reason: Why, in words.
        tells: Whether a simulation that took no time would not pass; not in the document.
    """

    name: str
    metric: str
    statistic: str
    outcome: Outcome
    real: float | None
    sim: float | None
    unit: str
    error: float | None
    interval: tuple[float, float] | None
    tolerance: float
    floor: float
    decided_by: Literal["tolerance", "floor", "limit"]
    num_runs: int
    run_sd: float | None
    pooled: bool
    runs_needed: int | None
    reason: str
    tells: bool = True

    def to_json(self) -> dict[str, Any]:
        """The fields of the document, as JSON values."""
        document = {**asdict(self), "interval": list(self.interval) if self.interval else None}
        del document["tells"]
        return document


def require_carried(limits: tuple[Limit, ...], figures: Figures) -> tuple[Limit, ...]:
    """The limits that the number of requests can carry: at least one value must lie beyond a
    percentile. A default one that cannot be carried is left out, or had by the real runs.

    Raises:
        UsageError: One that was asked for by name cannot be carried.
    """
    kept = []
    for limit in limits:
        figure = figures.by_name.get(limit.name)
        if figure is None:
            keep = isinstance(limit.statistic, Agreement) or not limit.default
            keep |= limit.metric.name in figures.lacking
        else:
            keep = figure.values_beyond >= FEWEST_BEYOND - 1e-9
        if keep:
            kept.append(limit)
        elif not limit.default and figure is not None:
            raise UsageError(
                f"tolerance {limit.name}: {figure.num_values} values cannot carry "
                f"{limit.statistic.name}: at least one must lie beyond it; judge a lower percentile"
            )
    return tuple(kept)


def require_telling(judgements: tuple[Judgement, ...], figures: Figures) -> tuple[Judgement, ...]:
    """The judgements as they are; none of them a pass where a simulation that took no time would
    pass them all (a floor above every figure, arrivals that alone decide the throughput, limits
    that nothing exceeds), and TTFT, TPOT or E2E, which nobody judged, is off by more than 10%.
    """
    if any(judgement.tells for judgement in judgements):
        return judgements
    others = (judge(_below(limit, figures), figures, {}) for limit in default_limits())
    off = next((one for one in others if one.outcome == "fail" and one.error is not None), None)
    if off is None:
        return judgements
    return tuple(
        replace(
            one,
            outcome="inconclusive",
            runs_needed=None,
            reason=f"{one.reason}; and {off.name} is off by {off.error:+.1%}: judge it, too",
        )
        if one.outcome == "pass"
        else one
        for one in judgements
    )


def _below(limit: Limit, figures: Figures) -> Limit:
    """A limit whose floor is not above half the figure: there it would hold nothing."""
    figure = figures.by_name.get(limit.name)
    floor = limit.floor if figure is None else min(limit.floor, figure.real_value / 2)
    return replace(limit, floor=floor)


def judge(limit: Limit, figures: Figures, agreements: dict[str, AgreementValue]) -> Judgement:
    """Hold one figure, or one way that requests agree, against its limit."""
    if isinstance(limit.statistic, Agreement):
        return _judge_agreement(limit, limit.statistic, agreements.get(limit.name))
    figure = figures.by_name.get(limit.name)
    if figure is None:
        why = figures.unavailable.get(limit.metric.name, _NO_LIMITS)
        return _unknown(limit, f"not available: {why}")
    return _judge_figure(limit, limit.statistic, figure)


def _judge_figure(limit: Limit, statistic: Statistic, figure: Figure) -> Judgement:
    found = figure.estimate
    by_floor = limit.floor > limit.relative * found.real
    allowed = max(limit.relative, limit.floor / found.real if found.real > 0 else 1.0)
    if found.absolute or allowed >= 1:
        if not found.absolute:
            found = estimate(figure.real, figure.sim, absolute=True)
        bound = max(limit.floor, limit.relative * found.real)
        low, high = -bound, bound
    else:
        low, high = math.log1p(-allowed), math.log1p(allowed)
    outcome = found.outcome(low, high)
    needed = _runs_needed(found, low, high, limit)
    empty = _passed_by(figure, found, low, high)
    unit = limit.metric.unit
    sentences = [_why(outcome, found, needed, limit)]
    if by_floor:
        sentences.append(
            f"the floor of {quantity(limit.floor, unit)} decides, above {limit.relative:.3g} of "
            f"{quantity(found.real, unit)}"
        )
    if empty:
        above = "the floor is above the figure itself: " if limit.floor >= found.real > 0 else ""
        sentences.append(f"{above}a simulation that {empty} would pass it, too")
    if found.interval is None and found.low is not None and found.high is not None:
        sentences.append(
            f"off by {quantity(found.low, unit)} to {quantity(found.high, unit)}, real is zero"
        )
    if statistic.percent is not None and figure.values_beyond < FEW_BEYOND:
        sentences.append(
            f"only {figure.values_beyond:.3g} of {figure.num_values} values lie beyond "
            f"{statistic.name}"
        )
    return Judgement(
        name=limit.name,
        metric=limit.metric.name,
        statistic=statistic.name,
        outcome=outcome,
        real=found.real,
        sim=found.sim,
        unit=unit,
        error=found.error,
        interval=found.interval,
        tolerance=limit.relative,
        floor=limit.floor,
        decided_by="floor" if by_floor else "tolerance",
        num_runs=found.num_runs,
        run_sd=found.relative_sd,
        pooled=found.pooled,
        runs_needed=needed,
        reason="; ".join(sentence for sentence in sentences if sentence),
        tells=not empty,
    )


def _passed_by(figure: Figure, found: Estimate, low: float, high: float) -> str:
    """What a simulation may do that would lie within the bounds and is none, in words."""

    def within(value: float | None) -> bool:
        if value is None:
            return False
        if found.absolute:
            return low <= value - found.real <= high
        return value > 0 and low <= math.log(value / found.real) <= high

    if within(figure.instant):
        return "took no time"
    # Within limits that nothing meets, whatever is slow enough is right.
    return "never answered" if figure.metric is GOODPUT and within(0.0) else ""


def _runs_needed(found: Estimate, low: float, high: float, limit: Limit) -> int | None:
    if found.run_sd is None:
        return STRICT_RUNS if limit.relative <= STRICT else FEW_RUNS
    return found.runs_needed(low, high)


def _why(outcome: Outcome, found: Estimate, needed: int | None, limit: Limit) -> str:
    if outcome == "pass":
        return ""
    if found.low is None:
        if outcome == "fail":
            return f"one real run, but off by more than tolerance and {LONE_RUN_MARGIN:.0%}"
        return f"one real run, whose spread is not known: measure {needed}"
    if outcome == "fail":
        return "off by more than the tolerance"
    spread = found.relative_sd
    varies = f"real runs vary by {spread:.1%}" if spread is not None else "real runs vary"
    more = f"more than {MOST_RUNS}" if needed is None else str(needed)
    return (
        f"the interval crosses the tolerance: {varies}, {more} runs would decide, there "
        f"{'is' if found.num_runs == 1 else 'are'} {found.num_runs}"
    )


def _judge_agreement(limit: Limit, respect: Agreement, value: AgreementValue | None) -> Judgement:
    if value is None:
        return _unknown(limit, "not available: fewer than two requests have it on both sides")
    outcome = value.outcome(limit.relative, upper=respect.upper)
    # Where nothing takes time, each request is 100% off; ranks are blind to any factor.
    tells = limit.relative < 1 and respect.upper
    empty = "took no time" if respect.upper else "is off by any factor"
    reason = "" if tells else f"a simulation that {empty} would pass it, too"
    if outcome == "fail":
        reason = f"{'above' if respect.upper else 'below'} the limit of {limit.relative:.3g}"
    elif outcome == "inconclusive":
        reason = (
            "the interval crosses the limit"
            if value.interval
            else f"fewer than {FEWEST_RUNS} real runs tell no interval"
        )
    return replace(
        _unknown(limit, reason),
        outcome=outcome,
        real=value.real,
        sim=value.sim,
        error=value.sim,
        interval=value.interval,
        num_runs=value.num_runs,
        run_sd=None,
        runs_needed=value.runs_needed(limit.relative),
        tells=tells,
    )


def _unknown(limit: Limit, reason: str) -> Judgement:
    agreement = isinstance(limit.statistic, Agreement)
    return Judgement(
        name=limit.name,
        metric=limit.metric.name,
        statistic=limit.statistic.name,
        outcome="inconclusive",
        real=None,
        sim=None,
        unit="ratio" if agreement else limit.metric.unit,
        error=None,
        interval=None,
        tolerance=limit.relative,
        floor=limit.floor,
        decided_by="limit" if agreement else "tolerance",
        num_runs=0,
        run_sd=None,
        pooled=False,
        runs_needed=None,
        reason=reason,
    )
