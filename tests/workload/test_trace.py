"""The workload directory: written whole, read strictly, the same after a round trip."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_gpusim.artifacts import digest_files
from pytest_gpusim.errors import InputError, UsageError
from pytest_gpusim.workload import WorkloadRequest, read_workload, write_workload
from pytest_gpusim.workload.prompts import Prompt
from tests.factories import make_workload

ROWS = [(10, 5, 0), (20, 6, 1_000), (30, 7, 5_000)]
PROMPTS = {n: Prompt(n, seed=n, num_tokens=10 * (n + 1)) for n in range(3)}


def damage(folder: Path, file: str, old: str, new: str, *, digest: bool = True) -> None:
    """Replace ``old`` in a file, and make the digest hold again unless told otherwise."""
    text = (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new, 1))
    if digest:
        names = ("trace_lengths.csv", "trace_intervals.csv", "prompts.jsonl")
        meta = json.loads((folder / "workload_meta.json").read_text())
        meta["digest"] = digest_files(folder / name for name in names)
        (folder / "workload_meta.json").write_text(json.dumps(meta))


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("trace_lengths.csv", "1,1,20,6", "1,1,x,6", "line 3, column num_prefill_tokens: .* 'x'"),
        ("trace_lengths.csv", "1,1,20,6", "1,1,20,-6", "line 3, column num_decode_tokens: .*'-6'"),
        ("trace_lengths.csv", "1,1,20,6", "1,1,20,nan", "line 3, column num_decode_tokens: .*nan"),
        ("trace_lengths.csv", "1,1,20,6", "1,1,20", "line 3, column num_decode_tokens"),
        ("trace_lengths.csv", "1,1,20,6", "1,1,20,0", "column num_decode_tokens: expected at leas"),
        ("trace_lengths.csv", "1,1,20,6", "7,1,20,6", "column request_id: expected 1, found 7"),
        ("trace_lengths.csv", "1,1,20,6", "1,9,20,6", "line 3, column prompt_id: prompt 9 is not"),
        ("trace_lengths.csv", "1,1,20,6", "1,1,21,6", "is 21, prompt 1 has 20 tokens"),
        ("trace_lengths.csv", "1,1,20,6", "1,0,20,6", "is 20, prompt 0 has 10 tokens in an earl"),
        ("trace_lengths.csv", "1,1,20,6\n", "", "line 3, column request_id: expected 1, found 2"),
        ("trace_lengths.csv", "2,2,30,7\n", "", "differ in their row count"),
        ("trace_lengths.csv", "num_decode_tokens", "decode", "column num_decode_tokens: is missin"),
        ("trace_lengths.csv", "prompt_id", "request_id", "column request_id: is there twice"),
        ("trace_intervals.csv", "1,1000,1000", f"1,{2**63},1000", "line 3, .*does not fit 64 bit"),
        ("trace_intervals.csv", "1,1000,1000", "1,-5,1000", "column inter_arrival_ns: .* '-5'"),
        ("trace_intervals.csv", "1,1000,1000", "1,1000,-5", "column arrival_time_ns: .* '-5'"),
        ("trace_intervals.csv", "1,1000,1000", "1,1e3,1000", "column inter_arrival_ns: .* '1e3'"),
        ("trace_intervals.csv", "1,1000,1000", "1,1000,1001", "expected 1000, found 1001"),
        ("prompts.jsonl", '"num_tokens":20', '"num_tokens":0', "line 2, num_tokens: is needed"),
        ("workload_meta.json", '"tokenizer_ref": null', '"tokenizer_ref": 5', "expected a string"),
        ("workload_meta.json", '"kind": "test"', '"notes": "x"', "generator, notes: expected an a"),
        ("workload_meta.json", '"schema_version": 1', '"schema_version": 9', "9 is newer than"),
    ],
)
def test_a_damaged_workload_is_named(
    tmp_path: Path, file: str, old: str, new: str, message: str
) -> None:
    folder = make_workload(tmp_path / "w", ROWS, PROMPTS).path
    damage(folder, file, old, new)
    with pytest.raises(InputError, match=message) as caught:
        read_workload(folder)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_changed_file_breaks_the_digest(tmp_path: Path) -> None:
    folder = make_workload(tmp_path / "w", ROWS).path
    damage(folder, "trace_lengths.csv", "1,1,20,6", "1,1,20,7", digest=False)
    with pytest.raises(InputError, match=r"workload_meta.json: digest: .* they were changed"):
        read_workload(folder)


def test_what_is_no_workload_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such workload directory; make one with 'gpusim work"):
        read_workload(tmp_path / "absent")
    with pytest.raises(InputError, match=r"incomplete: no workload_meta.json"):
        read_workload(tmp_path)
    folder = make_workload(tmp_path / "w", ROWS).path
    (folder / "trace_intervals.csv").unlink()
    with pytest.raises(InputError, match=r"trace_intervals\.csv: no such file"):
        read_workload(folder)


def test_columns_in_any_order_with_others_between(tmp_path: Path) -> None:
    folder = make_workload(tmp_path / "w", ROWS).path
    (folder / "trace_lengths.csv").write_text(
        "num_decode_tokens,note,prompt_id,request_id,num_prefill_tokens\n"
        "5,a,0,0,10\n6,b,1,1,20\n\n7,c,2,2,30\n"
    )
    damage(folder, "trace_lengths.csv", "6,b", "6,c")
    assert [tuple(r) for r in read_workload(folder).requests] == [
        (0, 0, 10, 5, 0), (1, 1, 20, 6, 1_000), (2, 2, 30, 7, 5_000)
    ]  # fmt: skip


def test_nothing_is_left_of_a_workload_that_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="column inter_arrival_ns") as caught:
        make_workload(tmp_path / "w", [(1, 1, 50), (1, 1, 40)])
    assert str(tmp_path / "w" / "trace_intervals.csv") in str(caught.value)
    with pytest.raises(InputError, match="is 33, prompt 0 has at most 32 tokens"):
        make_workload(
            tmp_path / "w", [(33, 1, 0)], {0: Prompt(0, block_hashes=(1, 2), block_tokens=16)}
        )
    with pytest.raises(InputError, match="is 4, prompt 0 has 3 tokens in an earlier request"):
        make_workload(tmp_path / "w", [(3, 1, 0), (4, 1, 0)], prompt_ids=[0, 0])
    with pytest.raises(UsageError, match="at least one request"):
        make_workload(tmp_path / "w", [])
    assert list(tmp_path.iterdir()) == []


def test_a_workload_longer_than_the_context_names_its_request(tmp_path: Path) -> None:
    workload = make_workload(tmp_path / "w", ROWS)
    workload.require_fits(37)
    workload.require_fits(None)
    with pytest.raises(
        UsageError, match="request 2 has 37 tokens, the engine's max_model_len is 3"
    ):
        workload.require_fits(36)


tokens = st.integers(1, 2**40)
contents = st.one_of(
    st.builds(lambda n: Prompt(0, seed=n, num_tokens=7), st.integers(-(2**70), 2**70)),
    st.builds(lambda t: Prompt(0, text=t), st.text()),
    st.builds(
        lambda ids: Prompt(0, token_ids=tuple(ids)),
        st.lists(st.integers(0, 2**31 - 1), min_size=7, max_size=7),
    ),
    st.builds(
        lambda h: Prompt(0, block_hashes=tuple(h), block_tokens=8),
        st.lists(st.integers(-(2**63), 2**64), min_size=1, max_size=4),
    ),
)


@given(
    gaps=st.lists(st.integers(0, 2**50), min_size=1, max_size=12),
    decode=tokens,
    content=st.one_of(st.none(), contents),
    seed=st.one_of(st.none(), st.integers()),
)
@settings(max_examples=60, deadline=None)
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory,
    gaps: list[int],
    decode: int,
    content: Prompt | None,
    seed: int | None,
) -> None:
    out = tmp_path_factory.mktemp("trip") / "w"
    requests, clock = [], 0
    for number, gap in enumerate(gaps):
        clock += gap
        requests.append(WorkloadRequest(number, 0, 7, decode, clock))
    prompts = {0: content} if content is not None else None
    write_workload(out, requests, prompts, name="trip", seed=seed, generator={"a": [1]})
    workload = read_workload(out)
    assert workload.requests == requests
    assert workload.prompts == prompts
    assert workload.meta["seed"] == seed
    assert workload.workload_id.endswith(workload.digest[:12])
