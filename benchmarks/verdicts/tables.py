"""Operating characteristics of verdicts: shares of right and wrong ones, from many known truths."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from benchmarks.verdicts.synthetic import Load, Times, load, noisy, serve
from pytest_gpusim.compare.judging.equivalence import estimate

FIGURES = tuple((metric, q) for metric in ("ttft", "tpot", "e2e") for q in (50, 90))
"""What is judged when nobody says."""


def judged(real: Sequence[Sequence[float]], sim: Sequence[float], tolerance: float) -> str:
    """The verdict on several figures: real values per figure and run, simulated ones."""
    low, high = math.log1p(-tolerance), math.log1p(tolerance)
    outcomes = {
        estimate(ours, [theirs]).outcome(low, high) for ours, theirs in zip(real, sim, strict=True)
    }
    return "fail" if "fail" in outcomes else "inconclusive" if len(outcomes) > 1 or (
        "inconclusive" in outcomes) else "pass"  # fmt: skip


def shares(outcomes: Sequence[str]) -> tuple[float, float, float]:
    """Shares of pass, fail and inconclusive."""
    counts = Counter(outcomes)
    found = [counts[kind] / len(outcomes) for kind in ("pass", "fail", "inconclusive")]
    return found[0], found[1], found[2]


def normal(
    tolerance: float,
    sigma: float,
    runs: int,
    error: float,
    *,
    trials: int,
    figures: int = 1,
    correlation: float = 0.0,
    seed: int = 1,
) -> tuple[float, float, float]:
    """Normal noise of ln(figure) between runs; ``figures`` of them, alike by ``correlation``."""
    rng = np.random.default_rng(seed)
    common = rng.standard_normal((trials, 1, runs)) * math.sqrt(correlation)
    own = rng.standard_normal((trials, figures, runs)) * math.sqrt(1 - correlation)
    values = np.exp(sigma * (common + own))
    sim = [1 + error] * figures
    return shares([judged(trial.tolist(), sim, tolerance) for trial in values])


def queued(
    tolerance: float,
    sigma: float,
    runs: int,
    error: float,
    *,
    trials: int,
    pick: Sequence[tuple[str, int]] = FIGURES,
    utilisation: float = 0.5,
    seed: int = 1,
) -> tuple[float, float, float]:
    """Runs whose service times vary by ``sigma``: queues amplify that in TTFT.

    The planted error is one of every figure: all simulated latencies times 1 + error.
    """
    rng = np.random.default_rng(seed)
    work = load(60, seed=3, utilisation=utilisation)
    truth = [value * (1 + error) for value in figures_of(work, serve(work), pick)]
    outcomes = []
    for _ in range(trials):
        many = [
            figures_of(work, noisy(work, rng, sigma_run=sigma, sigma_request=0.02), pick)
            for _ in range(runs)
        ]
        outcomes.append(judged(list(zip(*many, strict=True)), truth, tolerance))
    return shares(outcomes)


def figures_of(work: Load, times: Times, pick: Sequence[tuple[str, int]]) -> list[float]:
    """The percentiles of a run, s."""
    ttft = times.first - work.arrival
    columns = {
        "ttft": ttft,
        "tpot": times.per_token,
        "e2e": ttft + times.per_token * (work.output - 1),
    }
    return [float(np.percentile(columns[metric], q)) for metric, q in pick]


CASES = (
    (0.05, 0.01, (2, 3, 5)),
    (0.05, 0.02, (3, 5, 10)),
    (0.05, 0.03, (3, 5, 10)),
    (0.05, 0.05, (5, 10)),
    (0.10, 0.02, (3,)),
    (0.10, 0.03, (3, 5)),
    (0.10, 0.05, (3, 5)),
)
"""Tolerance, spread between runs, numbers of runs: those of the design."""
Kind = Callable[[float, float, int, float], tuple[float, float, float]]


def table(title: str, kind: Kind, cases: Sequence[tuple[float, float, Sequence[int]]]) -> str:
    """Pass/fail/inconclusive in percent at errors of 0, half the tolerance, it, and twice it."""
    lines = [
        f"### {title}",
        "",
        "| τ | σ | n | e = 0 | e = τ/2 | e = τ | e = 2τ |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for tolerance, sigma, many in cases:
        for runs in many:
            cells = [
                "/".join(f"{100 * share:.0f}" for share in kind(tolerance, sigma, runs, error))
                for error in (0.0, tolerance / 2, tolerance, 2 * tolerance)
            ]
            lines.append(f"| {tolerance:.0%} | {sigma:.0%} | {runs} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])
