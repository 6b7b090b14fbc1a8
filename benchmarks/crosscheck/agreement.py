"""Whether two load generators that met the same server agree: medians against the noise floor.

The floor is that of every comparison here: the largest relative distance of a pass from the median
of its tool's passes, of the tool whose passes differ more. Two clients that agree only because the
machine was restless have shown nothing, so a floor above `TOO_NOISY` settles nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pytest_gpusim.compare.measure import measure_run
from pytest_gpusim.errors import EngineError, UsageError

if TYPE_CHECKING:
    from pytest_gpusim.runs import Run

METRICS = ("ttft", "tpot", "e2e")
TOO_NOISY = 0.25


@dataclass(frozen=True)
class Agreement:
    """Two tools' p50 of one metric; times in ns, shares relative.

    ``noise`` is None for a single pass, whose noise nobody knows; ``agrees`` is None there, too,
    and where there is too much of it.
    """

    ours_ns: int
    theirs_ns: int
    difference: float
    our_noise: float | None
    their_noise: float | None
    noise: float | None
    bias_per_pass: tuple[float, ...]
    agrees: bool | None

    def to_json(self) -> dict[str, Any]:
        """The fields."""
        return asdict(self)


def judge(ours: Sequence[float], theirs: Sequence[float]) -> Agreement:
    """Hold one p50 per pass of each tool, ns, against each other.

    The difference is that of the medians; the bias of a pass that of its two p50, which met the
    same moments of the machine: it says more about the tools than their noise does.
    """
    import numpy as np

    if not ours or len(ours) != len(theirs):
        raise UsageError(f"{len(ours)} and {len(theirs)} passes: expected as many of each tool")
    our_middle, their_middle = float(np.median(ours)), float(np.median(theirs))
    difference = our_middle / their_middle - 1
    our_noise, their_noise = _noise(ours), _noise(theirs)
    noise = None if our_noise is None or their_noise is None else max(our_noise, their_noise)
    agrees: bool | None = None
    if noise is not None and noise <= TOO_NOISY:
        agrees = abs(difference) <= noise
    return Agreement(
        ours_ns=round(our_middle),
        theirs_ns=round(their_middle),
        difference=difference,
        our_noise=our_noise,
        their_noise=their_noise,
        noise=noise,
        bias_per_pass=tuple(our / their - 1 for our, their in zip(ours, theirs, strict=True)),
        agrees=agrees,
    )


def compare(ours: Sequence[Run], theirs: Sequence[Run]) -> dict[str, Agreement]:
    """`judge` each metric over the passes of two tools.

    Raises:
        EngineError: Requests failed, or a run lacks a metric.
    """
    return {
        metric: judge([p50(run, metric) for run in ours], [p50(run, metric) for run in theirs])
        for metric in METRICS
    }


def p50(run: Run, metric: str) -> float:
    """The median of a metric over a run, ns; raises `EngineError` where requests failed."""
    import numpy as np

    if len(run.finished) != len(run.requests):
        raise EngineError(f"{run.path}: {len(run.requests) - len(run.finished)} requests failed")
    measured = measure_run(run)
    values = measured.values(metric)
    if values is None:
        raise EngineError(f"{run.path}: has no {metric}: {measured.unavailable[metric]}")
    return float(np.median(values))


def as_table(rows: Mapping[str, Agreement], ours: str, theirs: str) -> str:
    """The comparison in Markdown."""
    lines = [
        f"| p50 | {ours} | {theirs} | difference | noise floor | agree | bias per pass |",
        "| --- | ---: | ---: | ---: | ---: | --- | --- |",
    ]
    for metric, row in rows.items():
        biases = ", ".join(f"{bias:+.1%}" for bias in row.bias_per_pass)
        lines.append(
            f"| {metric.upper()} | {row.ours_ns / 1e6:.2f} ms | {row.theirs_ns / 1e6:.2f} ms "
            f"| {row.difference:+.1%} | {_share(row.noise)} | {_verdict(row)} | {biases} |"
        )
    return "\n".join(lines) + "\n"


def _noise(values: Sequence[float]) -> float | None:
    import numpy as np

    if len(values) < 2:
        return None
    middle = float(np.median(values))
    return max(abs(value - middle) for value in values) / middle


def _share(noise: float | None) -> str:
    return "unknown" if noise is None else f"{noise:.1%}"


def _verdict(row: Agreement) -> str:
    if row.agrees is None:
        return "unknown: one pass" if row.noise is None else "unknown: too noisy"
    return "yes" if row.agrees else "no"
