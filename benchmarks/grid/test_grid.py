"""Does Vidur choose the engine's settings as vLLM does? The measured grid, simulated and decided."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from benchmarks.grid import MEASURED, simulate_grid

if TYPE_CHECKING:
    from pytest_gpusim.planning.decision import Decision

pytestmark = pytest.mark.cpu


@pytest.fixture(scope="module")
def decision_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate_grid(MEASURED, tmp_path_factory.mktemp("grid"))


def test_the_choice_costs_little(gpusim_decisions, decision_file: Path) -> None:
    decisions: list[Decision] = gpusim_decisions(decision_file)
    for decision in decisions:
        decision.check(regret=0.10)
