"""A comparison: real runs and a simulated one, their figures, checks and verdict."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pytest_gpusim.artifacts import SCHEMA_VERSION
from pytest_gpusim.checks import Check
from pytest_gpusim.compare.attribution import attribute
from pytest_gpusim.compare.checks import run_checks
from pytest_gpusim.compare.figures import Figures, compare_metrics
from pytest_gpusim.compare.judging.causes import likely_causes
from pytest_gpusim.compare.judging.tolerances import Judgement, Verdict, judge, read_tolerances
from pytest_gpusim.compare.judging.verdict import verdict_of
from pytest_gpusim.compare.measure import measure_run
from pytest_gpusim.compare.sides import Sides
from pytest_gpusim.errors import CheckFailed, UsageError

if TYPE_CHECKING:
    from pytest_gpusim.runs import Run
    from pytest_gpusim.workload import Workload


@dataclass(frozen=True)
class Comparison:
    """Real runs of one workload against one simulated run.

    Attributes:
        sides: The runs and their metrics.
        checks: All checks, the most decisive first.
        judgements: What `judged` found; empty before.
    """

    sides: Sides = field(repr=False)
    checks: tuple[Check, ...]
    judgements: tuple[Judgement, ...] = ()

    @property
    def figures(self) -> Figures:
        """Each metric under each statistic, on both sides."""
        return self.sides.figures

    @property
    def metrics(self) -> dict[str, Any]:
        """``metrics`` of ``comparison.json``; a metric that is not available is None."""
        return self.figures.to_json()

    @property
    def verdict(self) -> Verdict:
        """``pass``, ``fail`` or ``inconclusive``, by the rules of `verdict.verdict_of`."""
        return verdict_of(self.checks, self.judgements)

    @cached_property
    def attribution(self) -> dict[str, Any]:
        """Where the error comes from (see `attribution.attribute`)."""
        return attribute(self.sides)

    @property
    def causes(self) -> list[str]:
        """Likely causes of what does not hold, the likeliest first; one line each."""
        return likely_causes(self.checks, self.judgements, self.attribution)

    def to_json(self) -> dict[str, Any]:
        """The document of ``comparison.json``."""
        return {
            "schema_version": SCHEMA_VERSION,
            "real_runs": [run.run_id for run in self.sides.real],
            "sim_run": self.sides.sim.run_id,
            "metrics": self.metrics,
            "checks": [check.to_json() for check in self.checks],
            "verdict": self.verdict,
        }

    def flat_figures(self) -> dict[str, Any]:
        """Every figure under a flat name, such as ``ttft_p50_error``; what is None is left out."""
        return {
            f"{name}_{key}": value
            for name, figure in self.figures.by_name.items()
            for key, value in figure.to_json().items()
            if value is not None
        }

    def judged(self, tolerances: Mapping[str, float]) -> Comparison:
        """The comparison held against tolerances, such as ``{"ttft_p50": 0.10}``.

        Raises:
            UsageError: A tolerance of unknown name or impossible value.
        """
        limits = read_tolerances(tolerances)
        return replace(self, judgements=tuple(judge(limit, self.figures) for limit in limits))

    def require_pass(self) -> None:
        """Raise `CheckFailed` unless the verdict is ``pass``; names what did not hold."""
        if self.verdict != "pass":
            broken = [check.name for check in self.checks if check.status == "fail"]
            broken += [item.name for item in self.judgements if item.outcome != "pass"]
            raise CheckFailed(f"comparison is {self.verdict}: {', '.join(broken)} did not hold")


def compare_runs(
    real: Sequence[Run],
    sim: Run,
    *,
    workload: Workload | None = None,
    overrides: Collection[str] = (),
) -> Comparison:
    """Compare real runs of one workload with a simulated run of it.

    A request that is an error row in any run is left out of all of them. Where the simulation was
    made before the real run, its token series are cut to what the first real run produced.

    Args:
        real: One or more real runs; more than one gives the noise floor.
        sim: The simulated run.
        workload: The workload, if at hand: tells whether prompts share prefixes.
        overrides: Names of checks whose failure shall not count.

    Raises:
        UsageError: No real run, or an unknown check in ``overrides``.
    """
    if not real:
        raise UsageError("a comparison needs at least one real run")
    left_out = frozenset(
        int(i)
        for run in (*real, sim)
        for i in run.requests.loc[run.requests["status"] == "error", "request_id"]
    )
    real_metrics = [measure_run(run, leave_out=left_out) for run in real]
    produced = real_metrics[0].requests["num_tokens"]
    lengths = {int(i): int(count) for i, count in produced.items()}
    sim_metrics = measure_run(sim, lengths=lengths, leave_out=left_out)
    figures = compare_metrics(real_metrics, sim_metrics)
    sides = Sides(real, sim, real_metrics, sim_metrics, figures, left_out, workload)
    return Comparison(sides, tuple(run_checks(sides, overrides)))
