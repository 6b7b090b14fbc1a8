"""The two sides of a comparison, measured: what checks, attribution and tables look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_gpusim.compare.figures import Figures
from pytest_gpusim.compare.measure import RunMetrics

if TYPE_CHECKING:
    from pytest_gpusim.runs import Run
    from pytest_gpusim.workload import Workload


@dataclass(frozen=True)
class Sides:
    """The two sides of a comparison.

    Attributes:
        real: The real runs.
        sim: The simulated run.
        real_metrics: Their metrics, in the same order.
        sim_metrics: Its metrics, cut to the real lengths.
        figures: What the metrics come to.
        left_out: Requests that are error rows in any run.
        workload: The workload, where the caller has it.
    """

    real: Sequence[Run]
    sim: Run
    real_metrics: Sequence[RunMetrics]
    sim_metrics: RunMetrics
    figures: Figures
    left_out: frozenset[int]
    workload: Workload | None = None

    def has(self, metric: str) -> bool:
        """Whether the metric can be had on both sides."""
        return metric not in self.figures.unavailable

    def pairs(self) -> list[tuple[Run, RunMetrics]]:
        """Each real run with its metrics."""
        return list(zip(self.real, self.real_metrics, strict=True))


def engine(run: Run) -> dict[str, Any]:
    """The resolved engine settings that the run recorded; empty where it recorded none."""
    return dict(run.meta.get("engine") or {})
