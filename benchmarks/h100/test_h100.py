"""Calibrated at 4 requests per second and judged at 8: the other way round is in the table."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks.h100 import judge

DATA = Path(os.environ.get("GPUSIM_SHARED_DATA", "")) / "data" / "h100_qwen3-14b"
pytestmark = [
    pytest.mark.skipif(
        any(find_spec(name) is None for name in ("aiconfigurator_core", "pyarrow")),
        reason="the extra 'silicon' is not installed",
    ),
    pytest.mark.skipif(not DATA.is_dir(), reason="GPUSIM_SHARED_DATA names no runs of an H100"),
]


def test_a_calibration_carries_over_to_another_load(tmp_path: Path) -> None:
    (row,) = judge(DATA, tmp_path, ["r8"], plain=False)
    assert row.mean_error <= 0.025
    assert row.worst_error <= 0.06
    for comparison in row.comparisons:
        checks = {check.name: check.status for check in comparison.checks}
        assert checks["not_calibrated_on"] == "pass"
        assert checks["clock_counted"] == "pass"
