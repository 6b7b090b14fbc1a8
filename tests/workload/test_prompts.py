"""What prompts share, and what they share after expansion into token ids."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_gpusim.errors import InputError, UsageError
from pytest_gpusim.workload.prompts import Prompt, read_prompts
from pytest_gpusim.workload.token_ids import sharing_token_ids, token_ids
from tests.factories import make_workload
from tests.workload.tokenizer import make_tokenizer

VOCABULARY = 5000


def common_prefix(first: list[int], second: list[int]) -> int:
    count = 0
    for a, b in zip(first, second, strict=False):
        if a != b:
            break
        count += 1
    return count


def test_a_prefix_is_shared_exactly_so_far(tmp_path: Path) -> None:
    prompts = {
        0: Prompt(0, seed=1, num_tokens=100),
        1: Prompt(1, seed=2, num_tokens=120, prefix_of=0, prefix_tokens=70),
        2: Prompt(2, seed=3, num_tokens=90, prefix_of=1, prefix_tokens=90),
        3: Prompt(3, seed=4, num_tokens=90),
    }
    rows = [(prompts[n].num_tokens or 0, 5, 0) for n in range(4)]
    workload = make_workload(tmp_path / "w", rows, prompts)
    for salt in (0, 1, 2):
        ids = token_ids(workload, VOCABULARY, salt=salt)
        assert [len(ids[n]) for n in range(4)] == [100, 120, 90, 90]
        assert common_prefix(ids[0], ids[1]) == 70
        assert ids[1][:90] == ids[2]
        assert common_prefix(ids[0], ids[3]) == 0
        assert all(0 <= token < VOCABULARY for row in ids.values() for token in row)
    assert sorted(sharing_token_ids(workload, VOCABULARY)) == [0, 1, 2]


def test_a_salt_changes_the_ids_and_nothing_else(tmp_path: Path) -> None:
    prompts = {
        0: Prompt(0, token_ids=(4, 8, 15, 16, 23)),
        1: Prompt(1, token_ids=(4, 8, 15, 42, 7)),
        2: Prompt(2, seed=9, num_tokens=5),
    }
    workload = make_workload(tmp_path / "w", [(5, 1, 0)] * 3, prompts)
    plain = token_ids(workload, VOCABULARY)
    assert plain[0] == [4, 8, 15, 16, 23]
    for salt in (1, 2, 7919):
        # 7919 is the vocabulary that a shift by a multiple of 7919 would leave as it is.
        for vocabulary in (50, 7919, VOCABULARY):
            salted = token_ids(workload, vocabulary, salt=salt)
            assert common_prefix(salted[0], salted[1]) == 3
            assert common_prefix(salted[0], plain[0]) == 0
            assert common_prefix(salted[2], token_ids(workload, vocabulary)[2]) < 3


def test_blocks_share_by_hash(tmp_path: Path) -> None:
    prompts = {
        0: Prompt(0, block_hashes=(11, 12, 13), block_tokens=16),
        1: Prompt(1, block_hashes=(11, 12, -5), block_tokens=16),
    }
    workload = make_workload(tmp_path / "w", [(40, 1, 0), (48, 1, 0)], prompts)
    for salt in (0, 3):
        ids = token_ids(workload, VOCABULARY, salt=salt)
        assert (len(ids[0]), len(ids[1])) == (40, 48)
        assert common_prefix(ids[0], ids[1]) == 32
    assert token_ids(workload, VOCABULARY, salt=3)[0] != token_ids(workload, VOCABULARY)[0]


def test_a_repeated_prompt_shares_everything(tmp_path: Path) -> None:
    rows = [(30, 1, 0), (30, 1, 5), (20, 1, 9)]
    workload = make_workload(tmp_path / "w", rows, prompt_ids=[0, 0, 1])
    assert sorted(sharing_token_ids(workload, VOCABULARY)) == [0]
    seeded = {n: Prompt(n, seed=n, num_tokens=[30, 20][n]) for n in range(2)}
    workload = make_workload(tmp_path / "v", rows, seeded, prompt_ids=[0, 0, 1])
    assert sorted(sharing_token_ids(workload, VOCABULARY)) == [0]


def test_one_seed_twice_is_one_content(tmp_path: Path) -> None:
    prompts = {0: Prompt(0, seed=5, num_tokens=30), 1: Prompt(1, seed=5, num_tokens=20)}
    workload = make_workload(tmp_path / "w", [(30, 1, 0), (20, 1, 0)], prompts)
    shared = sharing_token_ids(workload, VOCABULARY)
    assert shared[0][:20] == shared[1]


def test_unrelated_prompts_are_never_expanded(tmp_path: Path) -> None:
    prompts = {n: Prompt(n, seed=n, num_tokens=10**9) for n in range(50)}
    workload = make_workload(tmp_path / "w", [(10**9, 1, 0)] * 50, prompts)
    assert sharing_token_ids(workload, VOCABULARY) == {}
    assert token_ids(workload, VOCABULARY, only=[]) == {}


def test_a_long_chat_is_expanded(tmp_path: Path) -> None:
    turns = 3000
    prompts = {0: Prompt(0, seed=0, num_tokens=1)}
    for n in range(1, turns):
        prompts[n] = Prompt(n, seed=n, num_tokens=n + 1, prefix_of=n - 1, prefix_tokens=n)
    workload = make_workload(tmp_path / "w", [(n + 1, 1, 0) for n in range(turns)], prompts)
    last = token_ids(workload, VOCABULARY, only=[turns - 1])
    assert list(last) == [turns - 1]
    assert len(last[turns - 1]) == turns


def test_texts_are_cut_by_the_workloads_tokenizer(tmp_path: Path) -> None:
    workload = make_workload(tmp_path / "w", [(2, 1, 0)], {0: Prompt(0, text="beta alpha")})
    with pytest.raises(UsageError, match="text prompts need a tokenizer"):
        token_ids(workload, VOCABULARY)
    workload.meta["tokenizer_ref"] = make_tokenizer(tmp_path / "tokenizer")
    assert token_ids(workload, VOCABULARY) == {0: [4, 3]}


def test_ids_outside_the_vocabulary_are_refused(tmp_path: Path) -> None:
    workload = make_workload(tmp_path / "w", [(2, 1, 0)], {0: Prompt(0, token_ids=(3, 100))})
    for salt in (0, 1):
        with pytest.raises(UsageError, match="prompt 0 has a token id outside the vocabulary of 9"):
            token_ids(workload, 99, salt=salt)


GOOD = '{"prompt_id":0,"seed":1,"num_tokens":4}\n'


def test_a_line_beyond_the_limit_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPUSIM_MAX_DOCUMENT_BYTES", "60")
    path = tmp_path / "prompts.jsonl"
    path.write_text(GOOD + '{"prompt_id":1,"text":"' + "a" * 60)
    with pytest.raises(InputError, match=r"line 2: is longer than 60; .*GPUSIM_MAX_DOCUMENT"):
        read_prompts(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "line 1: not JSON"),
        ("[1]", "line 1: expected a JSON object"),
        ('{"prompt_id":0}', "line 1: expected exactly one of block_hashes, seed, text, token_ids"),
        ('{"prompt_id":0,"text":"a","seed":1}', "line 1: expected exactly one of"),
        ('{"text":"a"}', "line 1, prompt_id: is missing"),
        ('{"prompt_id":0,"text":5}', "line 1, text: is not a valid text"),
        ('{"prompt_id":0,"token_ids":[1,-2]}', "line 1, token_ids: is not a valid"),
        ('{"prompt_id":0,"token_ids":[1,true]}', "line 1, token_ids: is not a valid"),
        ('{"prompt_id":0,"token_ids":[1,NaN]}', "line 1, token_ids: is not a valid"),
        ('{"prompt_id":0,"token_ids":[1,2147483648]}', "line 1, token_ids: is not a valid"),
        ('{"prompt_id":-1,"text":"a"}', "line 1, prompt_id: is not a valid"),
        ('{"prompt_id":0,"seed":1}', "line 1, num_tokens: is needed with seed"),
        ('{"prompt_id":0,"block_hashes":[1]}', "line 1, block_tokens: is needed with block"),
        (GOOD + GOOD, "line 2, prompt_id: 0 comes twice"),
        (
            GOOD + '{"prompt_id":1,"seed":1,"num_tokens":4,"prefix_of":0,"prefix_tokens":5}',
            "prompt_id 1: prefix_tokens is longer",
        ),
        (
            GOOD + '{"prompt_id":1,"seed":1,"num_tokens":4,"prefix_of":7,"prefix_tokens":2}',
            "prompt_id 1: prefix_of and prefix_tokens go together",
        ),
        (
            GOOD + '{"prompt_id":1,"seed":1,"num_tokens":4,"prefix_of":1,"prefix_tokens":2}',
            "prompt_id 1: prefix_of must name an earlier prompt",
        ),
    ],
)
def test_bad_prompts_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_prompts(path)
    assert str(caught.value).startswith(str(path))
