"""Errors of opposite sign that make the sum look right."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_gpusim.compare.checks.declaration import Finding, Protects, check, listed
from pytest_gpusim.compare.figures import Figures
from pytest_gpusim.compare.metrics import HEADLINES, METRICS
from pytest_gpusim.compare.sides import Sides

if TYPE_CHECKING:
    import pandas as pd

OPPOSED = 0.10
PART_WARN, PART_FAIL = 0.05, 0.10
MIN_REQUESTS = 12


@check(Protects.CASE, rank=120)
def no_cancelling_errors(sides: Sides) -> Finding:
    """E2E is not right only because two errors cancel.

    Fails where TTFT and TPOT are off by more than 10% each, to opposite sides and beyond noise and
    absolute floor, while E2E is off by less than either. The same over the course of the run:
    where the first and the last third of the arrivals are off to opposite sides by more than 5%
    and beyond noise, and the whole by less than 10% and than half as much, it warns, and fails
    where both are off by more than 10%.
    """
    available = [name for name in HEADLINES if sides.has(name)]
    if "e2e" not in available or len(available) < 2:
        return "skip", "TTFT, TPOT and E2E are not all available"
    findings: list[Finding] = []
    if len(available) == 3:
        findings += [_between_metrics(sides.figures, name) for name in ("p50", "mean")]
    findings += [_over_the_run(sides, name) for name in available]
    for status in ("fail", "warn"):
        found = [detail for found, detail in findings if found == status]
        if found:
            return ("fail" if status == "fail" else "warn"), listed(found, 2)
    return "pass", "TTFT, TPOT and the parts of the run are not off to opposite sides"


def _between_metrics(figures: Figures, statistic: str) -> Finding:
    ttft, tpot, e2e = (figures.get(name, statistic) for name in ("ttft", "tpot", "e2e"))
    if ttft is None or tpot is None or e2e is None:
        return "pass", ""
    if ttft.error is None or tpot.error is None or e2e.error is None:
        return "pass", ""
    significant = all(
        abs(part.error or 0.0) > max(OPPOSED, part.noise or 0.0)
        and abs(part.sim - part.real_value) > part.metric.floor_ns
        for part in (ttft, tpot)
    )
    smaller = min(abs(ttft.error), abs(tpot.error))
    if ttft.error * tpot.error < 0 and significant and abs(e2e.error) < smaller:
        return "fail", (
            f"TTFT {statistic} is off by {ttft.error:+.1%} and TPOT {statistic} by "
            f"{tpot.error:+.1%}, so that E2E is off by {e2e.error:+.1%} only"
        )
    return "pass", ""


def _over_the_run(sides: Sides, metric: str) -> Finding:
    table = _means_over_runs(sides, metric)
    if len(table) < MIN_REQUESTS:
        return "pass", ""
    third = len(table) // 3
    parts = [_error(table.iloc[:third]), _error(table.iloc[-third:])]
    whole = _error(table)
    if any(part is None for part in parts) or whole is None:
        return "pass", ""
    (first, first_noise), (last, last_noise) = (part for part in parts if part is not None)
    smaller = min(abs(first), abs(last))
    off = smaller * float(table["real"].mean())
    if (
        first * last >= 0
        or smaller <= max(PART_WARN, first_noise, last_noise)
        or abs(whole[0]) >= min(smaller / 2, PART_FAIL)
        or off <= METRICS[metric].floor_ns
    ):
        return "pass", ""
    return ("fail" if smaller > PART_FAIL else "warn"), (
        f"mean {metric.upper()} is off by {first:+.1%} in the first third of the run and by "
        f"{last:+.1%} in the last, {whole[0]:+.1%} as a whole"
    )


def _means_over_runs(sides: Sides, metric: str) -> pd.DataFrame:
    """Per request, in order of arrival: ``sim``, the metric in each real run, their ``real``."""
    import pandas as pd

    runs = {
        f"real {number}": metrics.requests[metric]
        for number, metrics in enumerate(sides.real_metrics)
    }
    table = pd.DataFrame(runs).dropna()
    table["real"] = table.median(axis=1)
    table["sim"] = sides.sim_metrics.requests[metric]
    table["arrival_time_ns"] = sides.real_metrics[0].requests["arrival_time_ns"]
    return table.dropna().sort_values("arrival_time_ns", kind="stable")


def _error(part: pd.DataFrame) -> tuple[float, float] | None:
    """Error of the mean of a part of the run, and the largest distance of a real run from it."""
    real = float(part["real"].mean())
    if real <= 0:
        return None
    runs = part.filter(regex=r"^real \d+$").mean()
    noise = float((runs - real).abs().max()) / real if len(runs) > 1 else 0.0
    return (float(part["sim"].mean()) - real) / real, noise
