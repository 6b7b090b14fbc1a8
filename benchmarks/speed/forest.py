"""``python -m benchmarks.speed.forest PROFILE``: interpolation against Vidur's random forest.

PROFILE is a folder with LLMServingSim's ``dense.csv`` and ``attention.csv``. Every fifth interior
point of each operator is held out of both; Vidur's features, and the forest of its grid that is
largest, are taken (``vidur/execution_time_predictor/sklearn_execution_time_predictor.py``).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from pytest_gpusim.serving.interpolation import Point, ragged_grid

EVERY = 5
FOREST = {"n_estimators": 750, "max_depth": 32, "min_samples_split": 2, "random_state": 0}
Predict = Callable[[Sequence[Point]], Sequence[float]]
Fit = Callable[[Sequence[Point], Sequence[float]], Predict]


class Score(NamedTuple):
    """Mean absolute relative error on held-out points, and seconds to fit and predict them."""

    error: float
    seconds: float


def fit_interpolation(points: Sequence[Point], values: Sequence[float]) -> Predict:
    """The project's own."""
    grid = ragged_grid(points, values)
    return lambda places: [grid.at(*place)[0] for place in places]


def fit_forest(points: Sequence[Point], values: Sequence[float], **given: int) -> Predict:
    """What Vidur trains; ``given`` is another choice of its grid."""
    from sklearn.ensemble import RandomForestRegressor

    forest = RandomForestRegressor(**{**FOREST, **given}).fit(np.asarray(points), values)
    return lambda places: list(forest.predict(np.asarray(places)))


def score(table: pd.DataFrame, axes: list[str], time_column: str, fit: Fit) -> Score:
    """Hold out every fifth interior point of a table and predict it from the others."""
    inside = np.ones(len(table), dtype=bool)
    for axis in axes:
        inside &= (table[axis] > table[axis].min()) & (table[axis] < table[axis].max())
    held = np.zeros(len(table), dtype=bool)
    held[np.flatnonzero(inside)[2::EVERY]] = True
    points = [tuple(float(x) for x in row) for row in table[axes].to_numpy()]
    values = table[time_column].to_numpy(dtype=float)
    start = time.perf_counter()
    predict = fit([p for p, h in zip(points, held, strict=True) if not h], list(values[~held]))
    found = np.asarray(predict([p for p, h in zip(points, held, strict=True) if h]))
    seconds = time.perf_counter() - start
    return Score(float(np.mean(np.abs(found / values[held] - 1))), seconds)


def compare(profile: Path, forest: Fit = fit_forest) -> dict[str, tuple[Score, Score]]:
    """Per operator, the scores of interpolation and of the forest."""
    dense = pd.read_csv(profile / "dense.csv")
    attention = pd.read_csv(profile / "attention.csv")
    tables = {
        str(name): (rows.reset_index(drop=True), ["tokens"])
        for name, rows in dense.groupby("layer")
    }
    pure = attention[attention["n_decode"] == 0].reset_index(drop=True)
    tables["attn_prefill"] = pure, ["prefill_chunk", "kv_prefill"]
    pure = attention[attention["prefill_chunk"] == 0].reset_index(drop=True)
    tables["attn_decode"] = pure, ["n_decode", "kv_decode"]
    return {
        name: (
            score(table, axes, "time_us", fit_interpolation),
            score(table, axes, "time_us", forest),
        )
        for name, (table, axes) in tables.items()
    }


def main() -> None:
    """Print errors and seconds per operator."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("profile", type=Path)
    scores = compare(parser.parse_args().profile)
    print(f"{'operator':<18}{'interpolation':>24}{'random forest':>24}")
    for name, pair in scores.items():
        cells = "".join(f"{s.error:>13.2%}{s.seconds * 1e3:>8.1f} ms" for s in pair)
        print(f"{name:<18}{cells}")


if __name__ == "__main__":
    main()
