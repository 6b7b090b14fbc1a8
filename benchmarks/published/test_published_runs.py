"""Real runs that others have published, simulated from their own profiles.

``GPUSIM_PUBLISHED_DATA`` is a folder of such runs (or one of them); those of several GPUs lie below
``GPUSIM_SHARED_DATA``. ``gpusim published DIR`` prints the same figures as a table.
"""

from __future__ import annotations

import os
from pathlib import Path
from statistics import fmean

import pytest

from pytest_gpusim.llmservingsim.published_run import find_runs
from pytest_gpusim.published import compare_published, published_lines
from pytest_gpusim.registry import builtin_registry

VARIABLE = "GPUSIM_PUBLISHED_DATA"
TOLERANCE = 0.015
"""Of every mean and percentile."""
MEAN_TOLERANCE = {"rtx4090_llama-3.1-8b": 0.003, "rtxpro6000_qwen3-32b": 0.006}
"""Of the mean over all of them, on the runs that were at hand."""


def _runs() -> list[Path]:
    roots = [os.environ[VARIABLE]] if os.environ.get(VARIABLE) else []
    several = Path(os.environ.get("GPUSIM_SHARED_DATA", "")) / "data" / "llmservingsim_tp2"
    return list(find_runs([*roots, several] if several.is_dir() else roots))


@pytest.mark.parametrize("simulator", ["reference", "vidur"])
@pytest.mark.parametrize(
    "directory",
    _runs()
    or [pytest.param(None, marks=pytest.mark.skip(reason=f"{VARIABLE} names no published runs"))],
    ids=lambda path: path.name if path else "none",
)
def test_published_run(directory: Path, simulator: str, tmp_path: Path) -> None:
    document = compare_published(
        [directory], builtin_registry(), simulator=simulator, store=tmp_path / "store"
    )
    print("\n".join(published_lines(document)))
    (run,) = document["runs"]
    errors = {
        f"{metric} {statistic}": figure["error"]
        for metric, figures in run["metrics"].items()
        for statistic, figure in figures.items()
        if figure["error"] is not None
    }
    assert not {name: f"{e:+.2%}" for name, e in errors.items() if abs(e) > TOLERANCE}
    mean = fmean(abs(error) for error in errors.values())
    assert mean <= MEAN_TOLERANCE.get(directory.name, TOLERANCE)
