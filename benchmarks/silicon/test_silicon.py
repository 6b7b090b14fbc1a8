"""Vidur and AIConfigurator agree on the same tables; needs the extras silicon and vidur."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks.silicon import rows

pytestmark = pytest.mark.skipif(
    any(find_spec(name) is None for name in ("aiconfigurator_core", "pyarrow", "vidur")),
    reason="the extras 'silicon' and 'vidur' are not installed",
)
TOLERANCE = 0.10


def test_vidur_agrees_with_aiconfigurators_own_estimate(tmp_path: Path) -> None:
    wrong = {}
    for row in rows(tmp_path):
        prefill, tpot = row.errors
        if abs(tpot) > TOLERANCE or (abs(prefill) > TOLERANCE and not row.cause):
            point = (row.model, row.degree, row.batch, row.prompt)
            wrong[point] = f"prefill {prefill:+.1%}, TPOT {tpot:+.1%}"
    assert not wrong
