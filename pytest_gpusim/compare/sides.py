"""The two sides of a comparison, measured: what checks, attribution and tables look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pytest_gpusim.checks import Status
from pytest_gpusim.compare.agreement import AgreementValue, agreements
from pytest_gpusim.compare.figures import Figures
from pytest_gpusim.compare.judging.tolerances import Limit
from pytest_gpusim.compare.measure import RunMetrics

if TYPE_CHECKING:
    from pytest_gpusim.runs import Run
    from pytest_gpusim.workload import Workload


@dataclass(frozen=True)
class Sides:
    """The two sides of a comparison.

    Attributes:
        real: The real runs.
        sims: The simulated run, or one for each seed of a stochastic simulator.
        real_metrics: The metrics of ``real``, in the same order.
        sims_metrics: Those of ``sims``, cut to the real lengths.
        figures: What the metrics come to.
        left_out: Requests that are error rows in any run.
        workload: The workload, where the caller has it.
        limits: What is judged; empty where nothing is.
        findings: What checks found that do not depend on that, by name.
    """

    real: Sequence[Run]
    sims: Sequence[Run]
    real_metrics: Sequence[RunMetrics]
    sims_metrics: Sequence[RunMetrics]
    figures: Figures
    left_out: frozenset[int]
    workload: Workload | None = None
    limits: tuple[Limit, ...] = ()
    findings: dict[str, tuple[Status, str]] = field(default_factory=dict, repr=False)

    @property
    def sim(self) -> Run:
        """The simulated run; of several seeds the first, which stands for all in what seeds do
        not change.
        """
        return self.sims[0]

    @property
    def sim_metrics(self) -> RunMetrics:
        """Its metrics."""
        return self.sims_metrics[0]

    @cached_property
    def agreements(self) -> dict[str, AgreementValue]:
        """How single requests agree, as ``ttft_mape`` (see `agreement.agreements`)."""
        return agreements(self.real_metrics, self.sim_metrics)

    def has(self, metric: str) -> bool:
        """Whether the metric can be had on both sides."""
        return metric not in self.figures.unavailable

    def by_seed(self) -> list[Sides]:
        """The two sides with one seed of the simulation each; figures stay those of all."""
        seeds = zip(self.sims, self.sims_metrics, strict=True)
        return [replace(self, sims=[run], sims_metrics=[own]) for run, own in seeds]

    def pairs(self) -> list[tuple[Run, RunMetrics]]:
        """Each real run with its metrics."""
        return list(zip(self.real, self.real_metrics, strict=True))


def engine(run: Run) -> dict[str, Any]:
    """The resolved engine settings that the run recorded; empty where it recorded none."""
    return dict(run.meta.get("engine") or {})


def assumed(run: Run) -> dict[str, str]:
    """The settings among them that nobody stated, and what they were taken from, in words."""
    found = run.meta.get("assumed")
    return {str(key): str(words) for key, words in found.items()} if isinstance(found, dict) else {}
