"""What is said of honest comparisons, and of the same with a defect of the measurement planted.

The simulation is right step by step; what real runs have beyond it is noise (`engine.noisy`). A
check that fails there is a false alarm, as a planted defect that nobody names is a miss.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.verdicts.engine import Price, noisy, serve, truth, work
from benchmarks.verdicts.synthetic import REAL, SIMULATED
from pytest_gpusim.compare import Comparison, compare_runs
from pytest_gpusim.runs import Run
from pytest_gpusim.serving import Step

Slower = Callable[[float], float]
"""A factor on the steps of a real run, by the share of the run that is over."""


@dataclass(frozen=True)
class Setting:
    """A load, and what real runs of it differ by."""

    kind: str
    requests: int = 60
    runs: int = 3
    sigma: float = 0.03

    def label(self) -> str:
        """Its cells of a table."""
        return f"{self.kind} | {self.requests} | {self.sigma:.0%} | {self.runs}"


VARIED: tuple[Mapping[str, Any], ...] = (
    {"sigma": 0.01},
    {},
    {"runs": 5},
    {"runs": 8, "sigma": 0.05},
    {"requests": 30},
    {"requests": 200, "runs": 5},
    {"requests": 500},
)
"""What is varied for each load, around 60 requests in three runs that differ by 3%."""


@dataclass(frozen=True)
class Plant:
    """A defect of the measurement.

    Attributes:
        slower: What it does to a run.
        check: Which check is to name it.
        runs: Which runs have it; None: all.
    """

    slower: Slower
    check: str
    runs: Sequence[int] | None = None


PLANTS: Mapping[str, Plant] = {
    "the first 5% of each run take twice as long": Plant(
        lambda share: 2.0 if share < 0.05 else 1.0, "steady"
    ),
    "the first 20% of each run take half as long again": Plant(
        lambda share: 1.5 if share < 0.2 else 1.0, "steady"
    ),
    "the first 20% of one run take twice as long": Plant(
        lambda share: 2.0 if share < 0.2 else 1.0, "steady", [1]
    ),
    "each run becomes slower, by 60% to its end": Plant(lambda share: 1 + 0.6 * share, "steady"),
    "one run is 40% slower": Plant(lambda _: 1.4, "real_runs_agree", [1]),
}


@dataclass
class Found:
    """Outcomes of many comparisons, counted."""

    trials: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    checks: Counter[tuple[str, str]] = field(default_factory=Counter)
    by_figures: int = 0

    def add(self, comparison: Comparison) -> None:
        """Count one."""
        self.trials += 1
        self.verdicts[comparison.verdict] += 1
        self.checks.update((check.name, check.status) for check in comparison.checks)
        self.by_figures += all(item.outcome == "pass" for item in comparison.judgements)

    def percent(self, count: int) -> str:
        """A count as a percentage."""
        return f"{100 * count / self.trials:.0f}"


def compared(setting: Setting, seed: int, plant: Plant | None = None) -> Comparison:
    """One comparison, judged by the defaults."""
    load = work(setting.kind, setting.requests, seed=seed)
    sim = serve(load, truth, SIMULATED, "sim")
    lasts = float(sim.requests["completion_time_ns"].max()) / 1e9
    rng = np.random.default_rng([seed, setting.runs, round(1000 * setting.sigma)])

    def real(number: int) -> Run:
        price = noisy(rng, setting.sigma)
        if plant is not None and number in (plant.runs or range(setting.runs)):
            price = _slowed(price, plant.slower, lasts)
        return serve(load, price, REAL, f"real-{number}")

    return compare_runs([real(number) for number in range(setting.runs)], sim).judged()


def _slowed(price: Price, slower: Slower, lasts: float) -> Price:
    def priced(step: Step, now: float) -> float:
        return price(step, now) * slower(min(now / lasts, 1.0))

    return priced


def found(setting: Setting, trials: int, plant: Plant | None = None) -> Found:
    """What is said of so many."""
    outcomes = Found()
    for seed in range(trials):
        outcomes.add(compared(setting, seed, plant))
    return outcomes


def row(setting: Setting, outcomes: Found) -> str:
    """A row of the table of honest comparisons."""
    verdicts = "/".join(
        outcomes.percent(outcomes.verdicts[name]) for name in ("pass", "fail", "inconclusive")
    )
    alarms = [
        f"{name} {outcomes.percent(count)}"
        for (name, status), count in sorted(outcomes.checks.items())
        if status in ("fail", "unknown")
    ]
    steady = outcomes.percent(outcomes.checks["steady", "warn"])
    return (
        f"| {setting.label()} | {verdicts} | {outcomes.percent(outcomes.by_figures)} | "
        f"{', '.join(alarms) or 'none'} | {steady} |"
    )


HEADS = (
    "| load | requests | σ | runs | verdict | figures pass | checks that fail | `steady` warns |\n"
    "| --- | ---: | ---: | ---: | --- | ---: | --- | ---: |"
)


def planted_row(name: str, plant: Plant, kinds: Sequence[str], trials: int) -> str:
    """How often a check names a planted defect, fail/warn in percent, by load."""
    cells = []
    for kind in kinds:
        outcomes = found(Setting(kind), trials, plant)
        told = (outcomes.percent(outcomes.checks[plant.check, how]) for how in ("fail", "warn"))
        cells.append("/".join(told))
    return f"| {name} | `{plant.check}` | {' | '.join(cells)} |"
