"""A comparison: real runs and a simulated one, their figures, checks and verdict."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pytest_gpusim.compare.agreement import AgreementValue
from pytest_gpusim.compare.attribution import attribute
from pytest_gpusim.compare.checks import ComparisonCheck, run_checks
from pytest_gpusim.compare.figures import Figures, compare_metrics
from pytest_gpusim.compare.judging.causes import likely_causes
from pytest_gpusim.compare.judging.judgement import (
    Judgement,
    judge,
    require_carried,
    require_telling,
)
from pytest_gpusim.compare.judging.tolerances import default_limits, duration_ns, read_limits
from pytest_gpusim.compare.judging.verdict import Verdict, verdict_of, worse_of
from pytest_gpusim.compare.measure import measure_run
from pytest_gpusim.compare.metrics import PER_REQUEST
from pytest_gpusim.compare.sides import Sides
from pytest_gpusim.compare.stating import state
from pytest_gpusim.compare.tolerance import Given
from pytest_gpusim.errors import CheckFailed, UsageError

if TYPE_CHECKING:
    from pytest_gpusim.compare.judging.equivalence import RunSpread
    from pytest_gpusim.runs import Run
    from pytest_gpusim.workload import Workload

COMPARISON_SCHEMA = 2
"""``schema_version`` of ``comparison.json``.

2: four verdicts, judgements, checks that may be unknown or accepted, throughput, goodput and
distribution; the real figure is the geometric mean of the runs. 1: the median, with its noise.
"""


@dataclass(frozen=True)
class Comparison:
    """Real runs of one workload against one simulated run, or several seeds of one.

    Attributes:
        sides: The runs and their metrics.
        checks: All checks, the most decisive first.
        judgements: What `judged` found; empty before.
        asked: Whether anything was to be judged.
        name: Of the case; empty where it has none.
        left_out: Figures that are judged by default and cannot be here, and why.
        accepted: Names of checks that the user accepts.
        history: Spread between earlier real runs, by name of the figure.
    """

    sides: Sides = field(repr=False)
    checks: tuple[ComparisonCheck, ...]
    judgements: tuple[Judgement, ...] = ()
    asked: bool = False
    left_out: Mapping[str, str] = field(default_factory=dict)
    name: str = ""
    accepted: tuple[str, ...] = ()
    history: Mapping[str, RunSpread] = field(default_factory=dict, repr=False)

    @property
    def figures(self) -> Figures:
        """Each metric under each statistic, on both sides."""
        return self.sides.figures

    @property
    def metrics(self) -> dict[str, Any]:
        """``metrics`` of ``comparison.json``; a metric that is not available is None."""
        return self.figures.metrics_json()

    @property
    def verdict(self) -> Verdict:
        """``pass``, ``fail``, ``inconclusive`` or ``not_judged`` (see `verdict.verdict_of`)."""
        return verdict_of(self.checks, self.judgements, asked=self.asked)

    @property
    def agreements(self) -> dict[str, AgreementValue]:
        """How single requests agree, as ``ttft_mape`` (see `agreement.agreements`)."""
        return self.sides.agreements

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
            "schema_version": COMPARISON_SCHEMA,
            "real_runs": [run.run_id for run in self.sides.real],
            "sim_run": self.sides.sim.run_id,
            "metrics": self.metrics,
            "throughput": self.figures.throughput_json(),
            "goodput": self.figures.goodput_json(),
            "distribution": {name: value.to_json() for name, value in self.agreements.items()},
            "checks": [check.to_json() for check in self.checks],
            "judgements": [judgement.to_json() for judgement in self.judgements],
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

    def judged(
        self,
        tolerances: Mapping[str, Given] | None = None,
        *,
        accept: Collection[str] = (),
        slo: Mapping[str, str] | None = None,
    ) -> Comparison:
        """The comparison held against tolerances, beside those that it was held against before: of
        a figure that is judged again the worse outcome stays.

        Args:
            tolerances: By name, such as ``{"ttft_p50": 0.10, "tpot_p50": Tolerance(0.05, "1ms")}``;
                empty: nothing is judged. None: TTFT, TPOT and E2E at p50 and p90 within 10%.
            accept: Names of checks that the user accepts, beside those accepted before.
            slo: Limits that goodput counts within, such as ``{"ttft": "200ms", "tpot": "20ms"}``.

        Raises:
            UsageError: An unknown name, an impossible value, a percentile that the number of
                requests cannot carry, or a check that cannot be accepted.
        """
        limits = default_limits() if tolerances is None else read_limits(tolerances)
        accepted = tuple(dict.fromkeys((*self.accepted, *accept)))
        sides = self.sides
        if slo is not None:
            figures = compare_metrics(
                sides.real_metrics, sides.sims_metrics, slo=_slo(slo), history=self.history
            )
            sides = replace(sides, figures=figures)
        carried = require_carried(limits, sides.figures)
        again = {limit.name for limit in carried}
        before = tuple(limit for limit in self.sides.limits if limit.name not in again)
        sides = replace(sides, limits=(*before, *carried))
        _keep_computed(self.sides, sides)
        left_out = {
            limit.name: sides.figures.unavailable.get(
                limit.metric.name, f"too few requests for {limit.statistic.name}"
            )
            for limit in limits
            if limit not in carried
        }
        found = replace(
            self,
            sides=sides,
            checks=run_checks(sides, accepted),
            asked=self.asked or bool(limits),
            left_out={**self.left_out, **left_out},
            accepted=accepted,
        )
        judgements = [judge(limit, sides.figures, found.agreements) for limit in sides.limits]
        judgements = worse_of(self.judgements, judgements)
        judged = replace(found, judgements=require_telling(tuple(judgements), sides.figures))
        _keep_computed(self, judged)
        return judged

    def require_pass(self) -> None:
        """Raise `CheckFailed` unless the verdict is ``pass``; names what did not hold."""
        if self.verdict != "pass":
            broken = [
                check.name
                for check in self.checks
                if check.status == "fail" or (check.needed and check.status == "unknown")
            ]
            broken += [item.name for item in self.judgements if item.outcome != "pass"]
            raise CheckFailed(
                f"comparison is {self.verdict}: {', '.join(broken) or 'nothing was judged'}"
            )


def compare_runs(
    real: Sequence[Run],
    sim: Run | Sequence[Run],
    *,
    workload: Workload | None = None,
    accept: Collection[str] = (),
    stated: Mapping[str, Any] | None = None,
    history: Mapping[str, RunSpread] | None = None,
    name: str = "",
) -> Comparison:
    """Compare real runs of one workload with a simulated run of it.

    A request that is an error row in any run is left out of all of them. Where the simulation was
    made before the real run, its token series are cut to what the first real run produced.

    Args:
        real: One or more real runs; what they differ by decides how well an error is known.
        sim: The simulated run; several are the seeds of a stochastic simulator.
        workload: The workload, if at hand: tells whether prompts share prefixes.
        accept: Names of checks that the user accepts.
        stated: What runs do not say themselves (see `stating.state`).
        history: Spread between earlier real runs of this case, by name of the figure.
        name: Of the case, for a history.

    Returns:
        The comparison, not yet judged.

    Raises:
        UsageError: No run on one side, a check that cannot be accepted, or a statement that
            contradicts a run.
    """
    sides = sides_of(real, sim, workload=workload, stated=stated, history=history)
    return Comparison(
        sides,
        run_checks(sides, accept),
        name=name,
        accepted=tuple(accept),
        history=dict(history or {}),
    )


def sides_of(
    real: Sequence[Run],
    sim: Run | Sequence[Run],
    *,
    workload: Workload | None = None,
    stated: Mapping[str, Any] | None = None,
    history: Mapping[str, RunSpread] | None = None,
) -> Sides:
    """What the checks of a comparison look at; arguments and errors are those of `compare_runs`."""
    from pytest_gpusim.runs import Run

    sims = [sim] if isinstance(sim, Run) else list(sim)
    if not real or not sims:
        raise UsageError("a comparison needs at least one real run and a simulated one")
    real, sims = state(real, sims, stated or {})
    left_out = frozenset(
        int(i)
        for run in (*real, *sims)
        for i in run.requests.loc[run.requests["status"] == "error", "request_id"]
    )
    real_metrics = [measure_run(run, leave_out=left_out) for run in real]
    produced = real_metrics[0].requests["num_tokens"]
    lengths = {int(i): int(count) for i, count in produced.items()}
    sims_metrics = [measure_run(run, lengths=lengths, leave_out=left_out) for run in sims]
    figures = compare_metrics(real_metrics, sims_metrics, history=history)
    return Sides(real, sims, real_metrics, sims_metrics, figures, left_out, workload)


def _keep_computed(before: object, after: object) -> None:
    """Take over cached properties: what was found of the runs themselves no tolerance changes."""
    vars(after).update({k: v for k, v in vars(before).items() if k not in vars(after)})


def _slo(given: Mapping[str, str]) -> dict[str, float]:
    for metric in given:
        if metric not in PER_REQUEST:
            raise UsageError(f"slo {metric!r}: expected one of {', '.join(PER_REQUEST)}")
    return {metric: duration_ns(text, f"slo {metric}") for metric, text in given.items()}
