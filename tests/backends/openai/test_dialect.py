"""How the openai backend finds out what a server accepts."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_gpusim.errors import EngineError
from pytest_gpusim.workload.prompts import Prompt
from tests.backends.stub_server import (
    Body,
    Reply,
    StubServer,
    run_on,
    steady,
    word_tokenizer,
)
from tests.factories import TINY

pytest.importorskip("aiohttp", reason="aiohttp is not installed (extra 'server')")


def test_a_server_that_refuses_extras_is_asked_without_them(
    stub: StubServer, tmp_path: Path
) -> None:
    def strict(body: Body, reply: Reply) -> None:
        if "ignore_eos" in body or "continuous_usage_stats" in body["stream_options"]:
            reply.fail(400, "unknown argument")
        else:
            steady(usage=False)(body, reply)

    stub.answer = strict
    (run,) = run_on(stub, tmp_path, [(4, 2, 0)])
    assert run.requests["status"].tolist() == ["ok"]
    assert run.meta["params"]["exact_length"] == ["min_tokens"]


def test_a_server_that_refuses_token_ids_gets_text(stub: StubServer, tmp_path: Path) -> None:
    def text_only(body: Body, reply: Reply) -> None:
        if isinstance(body["prompt"], list):
            reply.fail(422, "prompt must be a string")
        else:
            steady()(body, reply)

    stub.answer = text_only
    texts = {0: Prompt(0, text="some words of mine")}
    (run,) = run_on(stub, tmp_path, [(4, 2, 0)], prompts=texts)
    assert stub.bodies[-1]["prompt"] == "some words of mine"
    assert run.meta["params"]["prompts"] == "text"
    with pytest.raises(
        EngineError, match=r"refuses prompts of token_ids \(HTTP422: prompt must.*tokenizer=FILE"
    ):
        run_on(stub, tmp_path / "other", [(4, 2, 0)])


@pytest.mark.parametrize("refusal", ["HTTP500", "HTTP501", "ErrorInStream", "BrokenStream"])
def test_a_server_that_fails_on_token_ids_gets_text(
    stub: StubServer, tmp_path: Path, refusal: str
) -> None:
    def fails(body: Body, reply: Reply) -> None:
        if isinstance(body["prompt"], str):
            steady()(body, reply)
        elif refusal.startswith("HTTP"):
            reply.fail(int(refusal[4:]), "list has no attribute strip")
        else:
            if refusal == "ErrorInStream":
                reply.event({"error": {"message": "list has no attribute strip"}})
            reply.done()

    stub.answer = fails
    words = word_tokenizer(tmp_path, TINY.vocab_size)
    (run,) = run_on(stub, tmp_path, [(4, 2, 0)], tokenizer=words)
    assert run.meta["params"]["prompts"] == "text"
    assert run.requests["status"].tolist() == ["ok"]
    assert run.meta["params"]["prompt_lengths"] == {"as_asked": 1, "others": 0, "not_told": 0}


def test_a_server_that_fails_on_everything_is_said_so_with_its_words(
    stub: StubServer, tmp_path: Path
) -> None:
    stub.answer = lambda body, reply: reply.fail(500, "out of order")
    with pytest.raises(EngineError, match=r"token_ids \(HTTP500: out of order\)"):
        run_on(stub, tmp_path, [(4, 2, 0)])
    stub.answer = lambda body, reply: reply.fail(503, "loading")
    with pytest.raises(EngineError, match="HTTP503: loading"):
        run_on(stub, tmp_path / "other", [(4, 2, 0)])


def test_a_server_that_ignores_ignore_eos_is_asked_for_min_tokens(
    stub: StubServer, tmp_path: Path
) -> None:
    def short(body: Body, reply: Reply) -> None:
        steady()({**body, "max_tokens": body.get("min_tokens", 1)}, reply)

    stub.answer = short
    (run,) = run_on(stub, tmp_path, [(4, 5, 0)])
    assert run.requests["num_decode_tokens_actual"].tolist() == [5]
    assert run.meta["params"]["exact_length"] == ["min_tokens"]
    assert run.meta["params"]["tokens_counted_by"] == ["usage"]


def test_a_server_that_ignores_both_stops_early_and_that_is_said(
    stub: StubServer, tmp_path: Path
) -> None:
    stub.answer = lambda body, reply: steady()({**body, "max_tokens": 3}, reply)
    (run,) = run_on(stub, tmp_path, [(4, 5, 0)])
    assert run.requests["status"].tolist() == ["early_stop"]
    assert run.meta["params"]["exact_length"] is None
