"""A run of a closed loop, or of conversations, as the workload that a simulation replays."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_gpusim.errors import GpusimWarning
from pytest_gpusim.providers import SimulationInputs
from pytest_gpusim.registry import builtin_registry
from pytest_gpusim.runs import Run, read_run
from pytest_gpusim.runs.writer import rewrite_run
from pytest_gpusim.simulators.reference import simulate
from pytest_gpusim.workload import Load, SessionTurn, Workload, read_workload
from pytest_gpusim.workload.prompts import Prompt
from pytest_gpusim.workload.token_ids import continuations
from tests.factories import CPU, ENGINE, TINY, make_bundle, make_workload

ROWS = [(40, 6, 0), (56, 5, 0), (30, 4, 3_000_000), (35, 3, 3_000_000)]
TALK = {0: SessionTurn(0, 0), 1: SessionTurn(0, 1, 2_000_000)}
PROMPTS = {n: Prompt(n, seed=n, num_tokens=ROWS[n][0]) for n in (0, 2, 3)}
PROMPTS[1] = Prompt(1, seed=1, num_tokens=56, prefix_of=0, prefix_tokens=46)


def real_run(tmp_path: Path, workload: Workload, **changes: Any) -> Run:
    """A simulated run that says it is a real one, with some metadata changed."""
    bundle = make_bundle(tmp_path / "bundle")
    simulate(SimulationInputs(TINY, CPU, workload, bundle, ENGINE, tmp_path / "made", {}))
    made = read_run(tmp_path / "made")
    rewrite_run(made, tmp_path / "run", {**made.meta, "run_type": "real", **changes})
    return read_run(tmp_path / "run")


def as_workload(run: Run, out: Path) -> Workload:
    builtin_registry().workload_importers.get("run")(run.path, out, {})
    return read_workload(out)


@pytest.mark.parametrize(
    "how", [{"load": Load(2)}, {"sessions": TALK}, {"load": Load(1), "sessions": TALK}]
)
@pytest.mark.parametrize("known", [True, False])
def test_what_was_asked_comes_back_with_or_without_its_workload(
    tmp_path: Path, how: dict[str, Any], known: bool
) -> None:
    workload = make_workload(tmp_path / "w", ROWS, PROMPTS if "sessions" in how else None, **how)
    gone = {} if known else {"workload_dir": None, "workload_digest": None}
    found = as_workload(real_run(tmp_path, workload, **gone), tmp_path / "found")
    assert found.requests == workload.requests
    assert (found.load, found.sessions) == (workload.load, workload.sessions)
    assert found.prompts == (workload.prompts if known else None)


def test_a_turn_takes_no_more_of_an_answer_than_came(tmp_path: Path) -> None:
    workload = make_workload(tmp_path / "w", ROWS, PROMPTS, sessions=TALK)
    run = real_run(tmp_path, workload)
    rows = run.requests
    rows.loc[0, ["num_decode_tokens_actual", "status"]] = [2, "early_stop"]
    short = replace(run, requests=rows, tokens=None)
    rewrite_run(short, tmp_path / "short", {**run.meta, "token_times": False})
    found = as_workload(read_run(tmp_path / "short"), tmp_path / "found")
    assert found.requests[0].num_decode_tokens == 2
    assert found.requests[1].num_prefill_tokens == 56
    assert continuations(found) == {1: (0, 42)}


def test_a_broken_workload_beside_a_run_is_said_and_the_run_still_serves(tmp_path: Path) -> None:
    workload = make_workload(tmp_path / "w", ROWS, PROMPTS, sessions=TALK)
    run = real_run(tmp_path, workload)
    (workload.path / "prompts.jsonl").write_text("{\n")
    with pytest.warns(GpusimWarning, match=r"prompts share is not known: .*prompts\.jsonl: line 1"):
        found = as_workload(run, tmp_path / "found")
    assert found.prompts is None
    assert found.requests == workload.requests
