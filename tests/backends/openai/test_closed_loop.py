"""Closed loops and conversations against a stub: one at a time, and each turn after its answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_gpusim.backends.openai.backend import measure
from pytest_gpusim.deployment import EngineSettings
from pytest_gpusim.errors import UsageError
from pytest_gpusim.providers import MeasureInputs
from pytest_gpusim.runs import Run, read_run
from pytest_gpusim.workload import Load, SessionTurn, Workload
from pytest_gpusim.workload.prompts import Prompt
from tests.backends.stub_server import Body, Reply, StubServer, steady
from tests.factories import CPU, TINY, make_workload

pytest.importorskip("aiohttp", reason="aiohttp is not installed (extra 'server')")

MS = 1_000_000
# Turn 1 of a conversation: the first prompt (12 tokens), its answer of 3, and 5 of its own.
TALK_ROWS = [(12, 3, 0), (20, 2, 0), (7, 2, 0)]
TALK = {0: SessionTurn(0, 0), 1: SessionTurn(0, 1, 20 * MS)}
PROMPTS = {
    0: Prompt(0, seed=1, num_tokens=12),
    1: Prompt(1, seed=2, num_tokens=20, prefix_of=0, prefix_tokens=15),
    2: Prompt(2, seed=3, num_tokens=7),
}


def run_of(stub: StubServer, workload: Workload, out: Path, **params: Any) -> Run:
    given = {"url": stub.url, "warmup": "no", **params}
    measure(MeasureInputs(TINY, CPU, workload, EngineSettings(), [out], given))
    return read_run(out)


def telling_ids(first: int = 500) -> Callable[[Body, Reply], None]:
    """A server that tells the ids of its tokens where it is asked to: ``first``, and so on."""

    def answer(body: Body, reply: Reply) -> None:
        for index in range(body["max_tokens"]):
            last = index == body["max_tokens"] - 1
            choice: Body = {"index": 0, "text": " w", "finish_reason": "length" if last else None}
            if body.get("return_token_ids"):
                choice["token_ids"] = [first + index]
            usage = {"prompt_tokens": reply.prompt_tokens, "completion_tokens": index + 1}
            reply.event({"choices": [choice], "usage": usage})
        reply.event({"choices": [], "usage": usage})
        reply.done()

    return answer


@pytest.mark.parametrize("clients", [1, 3])
def test_no_more_than_the_limit_are_under_way(
    stub: StubServer, tmp_path: Path, clients: int
) -> None:
    lock, under_way = threading.Lock(), [0, 0]  # now, at most
    slow = steady(0.001, first_s=0.01)

    def answer(body: Body, reply: Reply) -> None:
        with lock:
            under_way[0] += 1
            under_way[1] = max(under_way)
        time.sleep(0.01)
        with lock:
            under_way[0] -= 1
        slow(body, reply)

    stub.answer = answer
    rows = [(5 + n, 2, 0) for n in range(9)]
    workload = make_workload(tmp_path / "w", rows, load=Load(clients))
    run = run_of(stub, workload, tmp_path / "r")
    assert under_way[1] == clients
    assert sorted(len(body["prompt"]) for body in stub.asked) == [5 + n for n in range(9)]
    # First come in input order; the server's threads may still swap two that are sent together.
    assert run.requests.sort_values("request_id")["sent_time_ns"].is_monotonic_increasing
    table = run.requests
    assert (table["arrival_time_ns"][clients:] > 10 * MS).all()
    # It waited for a client, not for the server: that is no part of its TTFT.
    assert (table["ttft_ns"] < table["completion_time_ns"].max() / 2).all()
    late = table["sent_time_ns"] - table["arrival_time_ns"]
    assert late.between(0, table["completion_time_ns"].max() / 2).all()
    assert table["due_time_ns"].tolist() == [0] * 9
    assert run.meta["load"] == {"kind": "closed", "max_concurrency": clients}


def test_a_turn_goes_on_from_what_the_server_answered(stub: StubServer, tmp_path: Path) -> None:
    stub.answer = telling_ids()
    workload = make_workload(tmp_path / "w", TALK_ROWS, PROMPTS, sessions=TALK)
    run = run_of(stub, workload, tmp_path / "r")
    by_length = {len(body["prompt"]): body for body in stub.asked}
    assert by_length[20]["prompt"][:15] == by_length[12]["prompt"] + [500, 501, 502]
    assert by_length[12]["return_token_ids"] is True
    assert "return_token_ids" not in by_length[7]
    table = run.requests.set_index("request_id")
    assert table["arrival_time_ns"][1] >= table["completion_time_ns"][0] + 20 * MS
    assert run.sessions == TALK
    assert run.meta["params"]["answers_in_context"] == "as generated"


def test_a_server_that_tells_no_ids_gets_made_up_answers_and_the_user_is_told(
    stub: StubServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stub.answer = steady()
    workload = make_workload(tmp_path / "w", TALK_ROWS, PROMPTS, sessions=TALK)
    run = run_of(stub, workload, tmp_path / "r")
    by_length = {len(body["prompt"]): body for body in stub.asked}
    assert by_length[20]["prompt"][:12] == by_length[12]["prompt"]
    assert run.meta["params"]["answers_in_context"] == "made up"
    assert "does not tell token ids, so later turns go on from made-up" in capsys.readouterr().err


def test_a_failed_turn_does_not_hold_the_next_one_back(stub: StubServer, tmp_path: Path) -> None:
    stub.answer = lambda body, reply: (
        reply.fail(400, "no") if body["max_tokens"] == 3 else steady()(body, reply)
    )
    rows = [(12, 3, 0), (20, 2, 0), (7, 2, 0)]
    workload = make_workload(tmp_path / "w", rows, load=Load(1), sessions=TALK)
    run = run_of(stub, workload, tmp_path / "r")
    assert run.requests["status"].tolist() == ["error", "ok", "ok"]


def test_a_limit_beside_a_closed_loop_is_refused(stub: StubServer, tmp_path: Path) -> None:
    workload = make_workload(tmp_path / "w", [(5, 2, 0)], load=Load(1))
    with pytest.raises(UsageError, match=r"max_concurrency=2: .* says itself what is sent when"):
        run_of(stub, workload, tmp_path / "r", max_concurrency=2)
