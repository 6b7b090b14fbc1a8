"""Which prompts the openai backend sends in which pass, and how long the server finds them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_gpusim.errors import UsageError
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

TEXTS = {0: Prompt(0, text="w1 w2 w3 w4"), 1: Prompt(1, text="w1 w2 w5")}
REQUESTS = [(4, 2, 0), (3, 2, 0)]


def sent(stub: StubServer) -> list[Any]:
    return [body["prompt"] for body in stub.asked]


def test_the_probe_leaves_no_prompt_of_the_workload_in_the_cache(
    stub: StubServer, tmp_path: Path
) -> None:
    run_on(stub, tmp_path, REQUESTS, prompts=TEXTS)
    assert sorted(sent(stub)) == sorted(p.text for p in TEXTS.values())


def test_text_goes_out_twice_only_where_the_cache_can_be_emptied(
    stub: StubServer, tmp_path: Path
) -> None:
    runs = run_on(stub, tmp_path, REQUESTS, prompts=TEXTS, warmup="yes", repeat=2)
    assert len(sent(stub)) == 6
    for run in runs:
        assert run.meta["prefix_cache_reset"] is True
        assert run.meta["warmup"]["requests"] == 2
        assert run.meta["warmup"]["others"] is False
        assert run.meta["params"]["prompt_salt"] == 0


def test_text_is_not_warmed_up_with_where_the_cache_cannot_be_emptied(
    stub: StubServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stub.resets = None
    (run,) = run_on(stub, tmp_path, REQUESTS, prompts=TEXTS, warmup="yes")
    assert len(sent(stub)) == 2
    assert (run.meta["warmup"]["passes"], run.meta["warmup"]["requests"]) == (0, 0)
    assert "cannot empty its prefix cache" in run.meta["warmup"]["skipped"]
    assert run.meta["prefix_cache_reset"] is False
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("gpusim: no warm-up: ")
    assert "tokenizer=FILE" in line


def test_text_is_not_measured_again_where_the_cache_cannot_be_emptied(
    stub: StubServer, tmp_path: Path
) -> None:
    stub.resets = None
    with pytest.raises(UsageError, match=r"prefix cache.*tokenizer=FILE, or measure once"):
        run_on(stub, tmp_path, REQUESTS, prompts=TEXTS, repeat=2)
    assert not sent(stub)
    assert not (tmp_path / "run-0").exists()


def test_without_a_prefix_cache_text_may_go_out_again(stub: StubServer, tmp_path: Path) -> None:
    stub.resets = None
    labels = 'block_size="16",enable_prefix_caching="False",num_gpu_blocks="8"'
    stub.pages = {"/metrics": f"vllm:cache_config_info{{{labels}}} 1.0"}
    runs = run_on(stub, tmp_path, REQUESTS, prompts=TEXTS, warmup="yes", repeat=2)
    assert len(sent(stub)) == 6
    assert runs[1].meta["warmup"]["requests"] == 2


def test_a_tokenizer_makes_other_texts_for_every_pass(stub: StubServer, tmp_path: Path) -> None:
    def text_only(body: Body, reply: Reply) -> None:
        if isinstance(body["prompt"], list):
            reply.fail(422, "prompt must be a string")
        else:
            steady()(body, reply)

    stub.answer = text_only
    stub.resets = None
    words = word_tokenizer(tmp_path, TINY.vocab_size)
    given: dict[str, Any] = {"prompts": TEXTS, "warmup": "yes", "repeat": 2, "tokenizer": words}
    (run, _) = run_on(stub, tmp_path, REQUESTS, **given)
    prompts = sent(stub)
    assert len(set(prompts)) == len(prompts) == 6
    assert sorted(len(prompt.split()) for prompt in prompts) == [3, 3, 3, 4, 4, 4]
    assert run.meta["warmup"]["others"] is True
    assert run.meta["params"]["prompts"] == "text"
    assert run.meta["params"]["prompt_lengths"]["as_asked"] == 2


def test_a_tokenizer_makes_token_ids_of_text(stub: StubServer, tmp_path: Path) -> None:
    words = word_tokenizer(tmp_path, TINY.vocab_size)
    run_on(stub, tmp_path, REQUESTS, prompts=TEXTS, tokenizer=words)
    assert sorted(sent(stub)) == [[1, 2, 3, 4], [1, 2, 5]]


def test_text_among_others_needs_a_tokenizer(stub: StubServer, tmp_path: Path) -> None:
    prompts = {0: TEXTS[0], 1: Prompt(1, seed=1, num_tokens=3)}
    with pytest.raises(UsageError, match="some prompts are text, others not: give --param token"):
        run_on(stub, tmp_path, REQUESTS, prompts=prompts)


def test_a_run_has_the_prompt_lengths_that_the_server_counted(
    stub: StubServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def one_more(body: Body, reply: Reply) -> None:
        reply.prompt_tokens += 1 if body["max_tokens"] == 3 else 0
        steady()(body, reply)

    stub.answer = one_more
    (run,) = run_on(stub, tmp_path, [(4, 2, 0), (6, 3, 0)])
    assert run.requests["num_prefill_tokens"].tolist() == [4, 7]
    assert run.meta["params"]["prompt_lengths"] == {"as_asked": 1, "others": 1, "not_told": 0}
    assert "counts other prompt lengths than the workload in 1 of 2" in capsys.readouterr().err


@pytest.mark.parametrize("told", [0, -1])
def test_a_count_that_is_none_leaves_the_lengths_of_the_workload(
    stub: StubServer, tmp_path: Path, told: int
) -> None:
    def uncounted(body: Body, reply: Reply) -> None:
        reply.prompt_tokens = told
        steady()(body, reply)

    stub.answer = uncounted
    (run,) = run_on(stub, tmp_path, [(4, 2, 0)])
    assert run.requests["num_prefill_tokens"].tolist() == [4]
    assert run.meta["params"]["prompt_lengths"]["not_told"] == 1


def test_a_warm_up_of_failures_is_none(stub: StubServer, tmp_path: Path) -> None:
    def fails_at_first(body: Body, reply: Reply) -> None:
        if body["max_tokens"] == 2 and len(stub.asked) <= 1:
            reply.fail(500, "not yet")
        else:
            steady()(body, reply)

    stub.answer = fails_at_first
    (run,) = run_on(stub, tmp_path, [(4, 2, 0)], warmup="yes")
    assert run.requests["status"].tolist() == ["ok"]
    assert run.meta["warmup"]["failed"] == 1
    assert (run.meta["warmup"]["passes"], run.meta["warmup"]["requests"]) == (0, 0)
