"""Does Vidur choose an engine's settings as vLLM does? The measured grid, decided."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from benchmarks.grid import MEASURED, simulate_grid
from pytest_gpusim.errors import CheckFailed

if TYPE_CHECKING:
    from pytest_gpusim.planning.decision import Decision

pytestmark = pytest.mark.cpu


@pytest.fixture(scope="module")
def decision_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate_grid(MEASURED, tmp_path_factory.mktemp("grid"))


def test_the_choice_costs_little(gpusim_decisions, decision_file: Path) -> None:
    """By the means no choice costs more than 15%; what the repeats cannot tell is said."""
    decisions: list[Decision] = gpusim_decisions(decision_file)
    costs = {decision.objective: decision.regret for decision in decisions}
    assert {name: cost for name, cost in costs.items() if cost > 0.15} == {}
    undecided = []
    for decision in decisions:
        try:
            decision.check(regret=0.15)
        except CheckFailed as error:
            if decision.verdict == "different":
                raise
            undecided.append(str(error))
    if undecided:
        pytest.xfail(f"{len(undecided)} of {len(decisions)} are inconclusive; {undecided[0]}")
