"""Operating characteristics of verdicts: shares of right and wrong ones, from many known truths.

All trials of a row are judged at once, by the arithmetic of `judging.equivalence` on arrays; a test
holds the two against each other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np

from benchmarks.verdicts.synthetic import load, noisy_many, percentiles
from pytest_gpusim.compare.judging.equivalence import quantile

FIGURES = tuple((metric, q) for metric in ("ttft", "tpot", "e2e") for q in (50, 90))
"""What is judged when nobody says."""
PASS, INCONCLUSIVE, FAIL = 0, 1, 2
ERRORS = (0.0, 0.5, 1.0, -1.0, 2.0)
"""By how many tolerances a figure is off."""
_ENOUGH = 40_000  # runs that tell what a figure is on average


def outcomes(real: np.ndarray, sim: np.ndarray, tolerance: float) -> np.ndarray:
    """Judge each figure of each trial.

    Args:
        real: Figures, shaped (trials, figures, runs).
        sim: The simulated figures, shaped (figures,).
        tolerance: Of each.

    Returns:
        `PASS`, `INCONCLUSIVE` or `FAIL`, shaped (trials, figures).
    """
    logs = np.log(real)
    runs = logs.shape[-1]
    offset = np.log(sim) - logs.mean(axis=-1)
    half = quantile(runs - 1) * logs.std(axis=-1, ddof=1) / math.sqrt(runs)
    low, high = math.log1p(-tolerance), math.log1p(tolerance)
    inside = (offset - half >= low) & (offset + half <= high)
    outside = (offset - half > high) | (offset + half < low)
    found: np.ndarray = np.where(inside, PASS, np.where(outside, FAIL, INCONCLUSIVE))
    return found


def shares(found: np.ndarray) -> tuple[float, float, float]:
    """Shares of pass, fail and inconclusive comparisons: the worst of a trial's figures counts."""
    worst = found.max(axis=1)
    return tuple(float((worst == kind).mean()) for kind in (PASS, FAIL, INCONCLUSIVE))  # type: ignore[return-value]


Real = Callable[[float, int], np.ndarray]
"""Real figures, shaped (trials, figures, runs), at a spread between runs."""


def normal(
    sigma: float, runs: int, *, trials: int, figures: int = 1, alike: float = 0.0, seed: int = 1
) -> np.ndarray:
    """Figures of truth 1 with normal noise of their logs between runs, ``alike`` of it common."""
    rng = np.random.default_rng(seed)
    common = rng.standard_normal((trials, 1, runs)) * math.sqrt(alike)
    own = rng.standard_normal((trials, figures, runs)) * math.sqrt(1 - alike)
    found: np.ndarray = np.exp(sigma * (common + own))
    return found


@cache
def queued(
    sigma: float, runs: int, *, trials: int, utilisation: float, seed: int = 1
) -> np.ndarray:
    """Figures of runs whose service times vary by ``sigma``, which queues amplify in TTFT.

    Each is divided by what it is on average, the exponential of its mean log over many runs: that
    is the truth that a simulation is off from. The figure of a run without noise is not: where a
    queue magnifies, slow runs lose more than fast ones win.
    """
    rng = np.random.default_rng(seed)
    work = load(60, seed=3, utilisation=utilisation)
    count = max(trials * runs, _ENOUGH)
    many = noisy_many(work, rng, count, sigma_run=sigma, sigma_request=0.02)
    found = percentiles(work, many, FIGURES)
    truth = np.exp(np.log(found).mean(axis=0))
    figures = (found / truth)[: trials * runs].reshape(trials, runs, len(FIGURES))
    return figures.transpose(0, 2, 1)


def rows(
    real: Real,
    cases: Sequence[tuple[float, float, Sequence[int]]],
    *,
    off: Sequence[int] | None = None,
    pick: Sequence[int] | None = None,
) -> list[tuple[float, float, int, list[tuple[float, float, float]]]]:
    """Shares of each case, for each of `ERRORS`.

    Args:
        real: What was measured.
        cases: Tolerance, spread between runs, numbers of runs.
        off: Which figures are off; default: all.
        pick: Which are judged; default: all.
    """
    found = []
    for tolerance, sigma, many in cases:
        for runs in many:
            figures = real(sigma, runs)
            figures = figures if pick is None else figures[:, list(pick)]
            places = range(figures.shape[1]) if off is None else off
            cells = []
            for times in ERRORS:
                sim = np.ones(figures.shape[1])
                sim[list(places)] = 1 + times * tolerance
                cells.append(shares(outcomes(figures, sim, tolerance)))
            found.append((tolerance, sigma, runs, cells))
    return found


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
QUEUED = ((0.05, 0.01, (3, 5)), (0.10, 0.01, (3, 5)), (0.10, 0.03, (3, 5, 10)))


def table(
    title: str, found: Sequence[tuple[float, float, int, Sequence[tuple[float, float, float]]]]
) -> str:
    """Pass/fail/inconclusive in percent."""
    heads = ["0", "τ/2", "τ", "−τ", "2τ"]
    lines = [
        f"### {title}",
        "",
        f"| τ | σ | n | {' | '.join(f'e = {head}' for head in heads)} |",
        "| --- " * (3 + len(heads)) + "|",
    ]
    for tolerance, sigma, runs, cells in found:
        shown = " | ".join("/".join(f"{100 * share:.0f}" for share in cell) for cell in cells)
        lines.append(f"| {tolerance:.0%} | {sigma:.0%} | {runs} | {shown} |")
    return "\n".join([*lines, ""])
