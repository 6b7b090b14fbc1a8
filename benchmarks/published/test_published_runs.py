"""Real runs that others have published, simulated from their own profiles.

``GPUSIM_PUBLISHED_DATA`` is a folder of such runs (or one of them); ``gpusim published DIR`` prints
the same figures as a table.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pytest_gpusim.llmservingsim.published_run import find_runs
from pytest_gpusim.published import compare_published, published_lines
from pytest_gpusim.registry import builtin_registry

VARIABLE = "GPUSIM_PUBLISHED_DATA"
TOLERANCE = 0.015
"""Of every mean and percentile."""


def _runs() -> list[Path]:
    root = os.environ.get(VARIABLE)
    return list(find_runs([root])) if root else []


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
    wrong = {
        f"{metric} {statistic}": f"{figure['error']:+.2%}"
        for metric, figures in run["metrics"].items()
        for statistic, figure in figures.items()
        if figure["error"] is not None and abs(figure["error"]) > TOLERANCE
    }
    assert not wrong
