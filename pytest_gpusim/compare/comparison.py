"""A comparison: real runs and a simulated one, their figures, checks and verdict."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_gpusim.artifacts import SCHEMA_VERSION
from pytest_gpusim.checks import Check
from pytest_gpusim.compare.attribution import attribute
from pytest_gpusim.compare.causes import likely_causes
from pytest_gpusim.compare.checks import CheckContext, run_checks
from pytest_gpusim.compare.metrics import measure_run
from pytest_gpusim.compare.statistics import compare_metrics
from pytest_gpusim.compare.tolerances import Judgement, Verdict, judge, read_tolerances
from pytest_gpusim.compare.verdict import verdict_of
from pytest_gpusim.errors import CheckFailed, UsageError

if TYPE_CHECKING:
    from pytest_gpusim.report.document import ComparisonDocument
    from pytest_gpusim.runs import Run
    from pytest_gpusim.workload import Workload


@dataclass
class Comparison:
    """Real runs of one workload against one simulated run.

    Attributes:
        metrics: ``metrics`` of ``comparison.json``; a metric that is not available is None.
        reasons: Metric -> why it is None.
        checks: All checks of the contract, in its order.
        judgements: What `judge` or `check` found; empty before.
        path: The comparison's directory, once written.
    """

    context: CheckContext = field(repr=False)
    metrics: dict[str, Any]
    reasons: dict[str, str]
    checks: list[Check]
    judgements: list[Judgement] = field(default_factory=list)
    path: Path | None = None

    @property
    def verdict(self) -> Verdict:
        """``pass``, ``fail`` or ``inconclusive``, by the rules of `verdict.verdict_of`."""
        return verdict_of(self.checks, self.judgements)

    @cached_property
    def attribution(self) -> dict[str, Any]:
        """Where the error comes from (see `attribution.attribute`)."""
        return attribute(self.context)

    @property
    def causes(self) -> list[str]:
        """Likely causes of what does not hold, the likeliest first; one line each."""
        return likely_causes(self.checks, self.judgements, self.attribution)

    def document(self) -> ComparisonDocument:
        """What reports are made from."""
        from pytest_gpusim.compare.writing import document_of

        return document_of(self, self.path)

    def to_json(self) -> dict[str, Any]:
        """The document of ``comparison.json``."""
        return {
            "schema_version": SCHEMA_VERSION,
            "real_runs": [run.run_id for run in self.context.real],
            "sim_run": self.context.sim.run_id,
            "metrics": self.metrics,
            "checks": [check.to_json() for check in self.checks],
            "verdict": self.verdict,
        }

    def figures(self) -> dict[str, Any]:
        """Every figure under a flat name, such as ``ttft_p50_error``; what is None is left out."""
        flat: dict[str, Any] = {}
        for metric, table in self.metrics.items():
            entries = {"": table} if metric == "makespan" else table
            for statistic, entry in (entries or {}).items():
                name = f"{metric}_{statistic}" if statistic else metric
                flat.update({f"{name}_{key}": value for key, value in (entry or {}).items()})
        return {key: value for key, value in flat.items() if value is not None}

    def judge(self, tolerances: Mapping[str, float]) -> list[Judgement]:
        """Hold figures against tolerances, such as ``{"ttft_p50": 0.10}``; raises only on misuse.

        A comparison that lies on disk is brought up to date.

        Raises:
            UsageError: A tolerance of unknown name or impossible value.
        """
        limits = read_tolerances(tolerances)
        self.judgements = [judge(limit, self.metrics, self.reasons) for limit in limits]
        if self.path is not None:
            from pytest_gpusim.compare.writing import update_comparison

            update_comparison(self)
        return self.judgements

    def check(self, tolerances: Mapping[str, float]) -> list[Judgement]:
        """`judge`, and raise unless the verdict is ``pass``.

        Raises:
            CheckFailed: The verdict is ``fail`` or ``inconclusive``; `failure_text` tells all.
            UsageError: A tolerance of unknown name or impossible value.
        """
        judgements = self.judge(tolerances)
        if self.verdict != "pass":
            broken = [check.name for check in self.checks if check.status == "fail"]
            broken += [item.name for item in judgements if item.outcome != "pass"]
            raise CheckFailed(f"comparison is {self.verdict}: {', '.join(broken)} did not hold")
        return judgements

    def failure_text(self) -> str:
        """What does not hold, for the reader of a failed test; empty where all holds."""
        from pytest_gpusim.report.terminal import failure_lines

        if self.verdict == "pass":
            return ""
        return "\n".join(
            failure_lines(
                self.verdict,
                [item.to_json() for item in self.judgements],
                [check.to_json() for check in self.checks],
                self.causes,
                len(self.context.real),
                self.path,
            )
        )


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
    metrics, reasons = compare_metrics(real_metrics, sim_metrics)
    context = CheckContext(
        real, sim, real_metrics, sim_metrics, metrics, reasons, left_out, workload
    )
    return Comparison(context, metrics, reasons, run_checks(context, overrides))
