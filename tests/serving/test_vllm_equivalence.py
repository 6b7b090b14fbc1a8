"""The scheduler forms the batches that vLLM's own forms: a part of the proof, for every day.

The whole of it: docs/scheduler-equivalence.md.
"""

from __future__ import annotations

import json

import pytest

from pytest_gpusim.workload.load import turns_followed
from tests.serving.vllm_equivalence import draw_case, draw_closed_case, turns_of
from tests.vllm_forks import Done, Forks

RUNS = """
from tests.serving.vllm_equivalence import main
print(main(["--json", "--workloads", "40", "--seed", "7000"]))
print(main(["--json", "--workloads", "30", "--seed", "7000", "--closed"]))
print(main(["--json", "--workloads", "3", "--seed", "7002", "--rules", "0.19.0"]))
"""


@pytest.fixture(scope="module")
def runs(vllm_forks: Forks) -> Done:
    """The harness by the right rules, open and closed loops, then by those of another release."""
    return vllm_forks.run(RUNS)


@pytest.mark.parametrize("place", [0, 2], ids=["open", "closed"])
def test_no_step_differs_from_vllms_own_scheduler(runs: Done, place: int) -> None:
    document, code = runs.stdout.splitlines()[-6:][place : place + 2]
    totals = json.loads(document)
    assert (totals["differences"], code) == (0, "0"), runs.stderr
    assert totals["workloads"] == (30 if place else 40)
    # The workloads must have asked for what is compared.
    assert totals["preemptions"] > 100
    assert totals["cached_tokens"] > 1000
    assert 10 < totals["asynchronous"] < 30


def test_the_rules_of_another_release_are_caught_and_shown_small(runs: Done) -> None:
    document, code = runs.stdout.splitlines()[-2:]
    assert json.loads(document)["differences"] > 0
    assert code == "1"
    assert "first difference, seed 70" in runs.stderr
    assert "smallest workload: planning step" in runs.stderr


def test_cases_are_drawn_from_their_seed_alone() -> None:
    for draw in (draw_case, draw_closed_case):
        assert draw(3) == draw(3)
        assert draw(3) != draw(4)


def test_closed_cases_have_limits_and_turns() -> None:
    cases = [draw_closed_case(seed) for seed in range(30)]
    assert len({case.limit for case in cases}) > 4
    followed = [len(turns_followed(turns_of(case))) for case in cases]
    assert sum(count > 0 for count in followed) > 8
    assert max(followed) > 10
