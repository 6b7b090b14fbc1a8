"""Errors of opposite sign, or of some requests alone, that make the whole look right."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pytest_gpusim.compare.checks.declaration import Finding, Protects, check, listed
from pytest_gpusim.compare.figures import Figures
from pytest_gpusim.compare.metrics import HEADLINES, METRICS
from pytest_gpusim.compare.sides import Sides

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

OPPOSED = 0.10
PART_WARN, PART_FAIL = 0.05, 0.10
TAIL_WARN, TAIL_FAIL, TAIL_APART = 0.15, 0.25, 0.15
UNRELATED, RELATED = 0.3, 0.7
MIN_REQUESTS = 12


class _Order(NamedTuple):
    """By what requests are sorted, and what its first and last third are called."""

    column: str
    first: str
    last: str


_ORDERS = (
    _Order("arrival_time_ns", "in the first third of the run", "in the last"),
    _Order("num_prefill_tokens", "for the third with the shortest prompts", "with the longest"),
    _Order("num_tokens", "for the third with the shortest outputs", "with the longest"),
)


@check(Protects.CASE, rank=120)
def no_cancelling_errors(sides: Sides) -> Finding:
    """The totals are not right only because errors cancel, or because only a part is judged.

    Fails where TTFT and TPOT are off by more than 10% each, to opposite sides and beyond their
    intervals and absolute floors, while E2E is off by less than either. The same between parts of
    the requests: where the first and the last third, by arrival, prompt or output length, are off
    to opposite sides by more than 5% and beyond what real runs differ by, and the whole by less
    than 10% and than half as much, it warns, and fails where both are off by more than 10%. Where
    the slowest fifth of the requests is off by more than 25%, by 15% more than the rest and by
    twice as much, it fails too; and where single requests have nothing to do with the real ones,
    which agree among themselves, although the mean is right: one value for all has that.
    """
    available = [name for name in HEADLINES if sides.has(name)]
    if "e2e" not in available or len(available) < 2:
        return "skip", "TTFT, TPOT and E2E are not all available"
    findings = [_single_requests(sides, name) for name in available]
    if len(available) == 3:
        findings += [_between_metrics(sides.figures, name) for name in ("p50", "mean")]
    for name in available:
        table = _means_over_runs(sides, name)
        if len(table) < MIN_REQUESTS:
            continue
        findings += [_between_parts(table, name, order) for order in _ORDERS]
        findings.append(_slowest(table, name))
    for status in ("fail", "warn"):
        found = [detail for found, detail in findings if found == status]
        if found:
            return ("fail" if status == "fail" else "warn"), listed(found, 2)
    return "pass", "neither metrics nor parts of the requests are off to opposite sides"


def _between_metrics(figures: Figures, statistic: str) -> Finding:
    ttft, tpot, e2e = (figures.get(name, statistic) for name in ("ttft", "tpot", "e2e"))
    if ttft is None or tpot is None or e2e is None:
        return "pass", ""
    if ttft.error is None or tpot.error is None or e2e.error is None:
        return "pass", ""
    significant = all(
        abs(part.error or 0.0) > max(OPPOSED, part.half_width)
        and abs(part.sim_value - part.real_value) > part.metric.floor
        for part in (ttft, tpot)
    )
    smaller = min(abs(ttft.error), abs(tpot.error))
    if ttft.error * tpot.error < 0 and significant and abs(e2e.error) < smaller:
        return "fail", (
            f"TTFT {statistic} is off by {ttft.error:+.1%} and TPOT {statistic} by "
            f"{tpot.error:+.1%}, so that E2E is off by {e2e.error:+.1%} only"
        )
    return "pass", ""


def _between_parts(table: pd.DataFrame, metric: str, order: _Order) -> Finding:
    import numpy as np

    third, column = len(table) // 3, table[order.column].to_numpy(dtype=float)
    ordered = np.argsort(column, kind="stable")
    head, tail = ordered[:third], ordered[-third:]
    if column[head[-1]] >= column[tail[0]]:
        return "pass", ""  # too few lengths to tell thirds apart
    values = table.filter(regex=r"^(sim|real|real \d+)$").to_numpy(dtype=float).T
    first, last, whole = (_error(values[:, part]) for part in (head, tail, slice(None)))
    if first is None or last is None or whole is None:
        return "pass", ""
    smaller = min(abs(first.error), abs(last.error))
    off = smaller * float(table["real"].mean())
    if (
        first.error * last.error >= 0
        or smaller <= max(PART_WARN, first.noise, last.noise)
        or abs(whole.error) >= min(smaller / 2, PART_FAIL)
        or off <= METRICS[metric].floor
    ):
        return "pass", ""
    return ("fail" if smaller > PART_FAIL else "warn"), (
        f"mean {metric.upper()} is off by {first.error:+.1%} {order.first} and by "
        f"{last.error:+.1%} {order.last}, {whole.error:+.1%} as a whole"
    )


def _slowest(table: pd.DataFrame, metric: str) -> Finding:
    """The slowest fifth against the rest. A run's own slowest requests are in part its slow
    moments, so each run is also held against the others, on what was slowest there.
    """
    import numpy as np

    runs = table.filter(regex=r"^real \d+$").to_numpy()
    if runs.shape[1] < 2:
        return "pass", ""
    fifth = max(1, len(table) // 5)
    real, sim = table["real"].to_numpy(), table["sim"].to_numpy()

    def off(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float]:
        order = np.argsort(theirs, kind="stable")
        parts = [order[-fifth:], order[:-fifth]]
        ratios = [float(ours[part].mean() / theirs[part].mean()) - 1 for part in parts]
        return ratios[0], ratios[1]

    noise = max(
        abs(off(runs[:, run], np.median(np.delete(runs, run, axis=1), axis=1))[0])
        for run in range(runs.shape[1])
    )
    tail, rest = off(sim, real)
    if abs(rest) > abs(tail) / 2:
        return "pass", ""  # the whole is off, and its figures show it
    apart = abs(tail - rest)
    if abs(tail) <= max(TAIL_WARN, 2 * noise) or apart <= max(TAIL_APART, 2 * noise):
        return "pass", ""
    if abs(tail) * float(np.sort(real)[-fifth:].mean()) <= METRICS[metric].floor:
        return "pass", ""
    return ("fail" if abs(tail) > TAIL_FAIL else "warn"), (
        f"mean {metric.upper()} of the slowest fifth is off by {tail:+.1%}, of the rest by "
        f"{rest:+.1%}"
    )


def _single_requests(sides: Sides, metric: str) -> Finding:
    ranks, errors = (
        sides.agreements.get(f"{metric}_{name}") for name in ("rank_correlation", "mape")
    )
    if ranks is None or errors is None or ranks.real is None or errors.real is None:
        return "pass", ""
    if ranks.sim >= UNRELATED or ranks.real <= RELATED or errors.sim <= 2 * errors.real:
        return "pass", ""
    mean = sides.figures.get(metric, "mean")
    if mean is None or mean.error is None or abs(mean.error) > errors.sim / 2:
        return "pass", ""  # the mean is off itself: nothing cancels
    if errors.sim <= PART_WARN or errors.sim * mean.real_value <= METRICS[metric].floor:
        return "pass", ""  # where all take as long, ranks mean nothing
    return "fail", (
        f"{metric.upper()} of single requests is off by {errors.sim:.0%} ({errors.real:.0%} "
        f"between real runs) with a rank correlation of {ranks.sim:.2f} ({ranks.real:.2f}): errors "
        "that cancel in the mean"
    )


def _means_over_runs(sides: Sides, metric: str) -> pd.DataFrame:
    """Per request: ``sim``, the metric in each real run, their median ``real``, and `_ORDERS`."""
    import numpy as np
    import pandas as pd

    runs = {
        f"real {number}": metrics.requests[metric]
        for number, metrics in enumerate(sides.real_metrics)
    }
    table = pd.DataFrame(runs).dropna()
    table["real"] = np.median(table.to_numpy(), axis=1)
    table["sim"] = sides.sim_metrics.requests[metric]
    for order in _ORDERS:
        table[order.column] = sides.real_metrics[0].requests[order.column]
    return table.dropna()


class _PartError(NamedTuple):
    """Error of the mean of a part, and the largest distance of a real run from it."""

    error: float
    noise: float


def _error(part: np.ndarray) -> _PartError | None:
    """Of requests: rows of each real run, their median, the simulation (`_means_over_runs`)."""
    *runs, real, sim = part.mean(axis=1).tolist()
    if real <= 0:
        return None
    noise = max(abs(run - real) for run in runs) / real if len(runs) > 1 else 0.0
    return _PartError((sim - real) / real, noise)
