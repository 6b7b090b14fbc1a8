"""Concurrency limits, conversations and refused requests in a workload directory."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_gpusim.errors import GpusimError, InputError, UsageError
from pytest_gpusim.workload import Load, SessionTurn, read_workload
from pytest_gpusim.workload.exporters import export_workload
from pytest_gpusim.workload.generate import Lengths, Seconds, WorkloadSpec, generate_workload
from pytest_gpusim.workload.presets import PRESETS, preset
from pytest_gpusim.workload.prompts import Prompt
from pytest_gpusim.workload.token_ids import continuations, sharing_sequences, token_ids
from tests.factories import make_workload

ROWS = [(10, 5, 0), (20, 6, 0), (30, 7, 0)]
TALK = {0: SessionTurn(4, 0), 2: SessionTurn(4, 1, 1_000)}
# The third prompt is the first one (10 tokens), 5 tokens of its answer, and 15 of its own.
PROMPTS = {
    0: Prompt(0, seed=1, num_tokens=10),
    1: Prompt(1, seed=2, num_tokens=20),
    2: Prompt(2, seed=3, num_tokens=30, prefix_of=0, prefix_tokens=15),
}
CHAT = WorkloadSpec(
    "poisson",
    40,
    2.0,
    5,
    Lengths(5, 9),
    Lengths(2, 4),
    turns=Lengths(1, 4),
    think_time=Seconds(1, 2),
)


def meta_of(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "workload_meta.json").read_text())
    return document


def test_an_open_loop_is_written_as_ever(tmp_path: Path) -> None:
    plain = make_workload(tmp_path / "a", ROWS)
    stated = make_workload(tmp_path / "b", ROWS, load=Load(), sessions={}, refused=())
    assert stated.digest == plain.digest
    assert meta_of(stated.path)["schema_version"] == 1
    assert not {"load", "refused"} & meta_of(stated.path).keys()
    assert not (stated.path / "sessions.csv").exists()
    assert plain.is_open_loop
    plain.require_open_loop("anything")


def test_load_sessions_and_refused_come_back_and_count_in_the_digest(tmp_path: Path) -> None:
    plain = make_workload(tmp_path / "plain", ROWS)
    hows: list[dict[str, Any]] = [
        {"load": Load(3)},
        {"load": Load(4)},
        {"sessions": TALK},
        {"refused": [1]},
        {"load": Load(3), "sessions": TALK, "refused": [1]},
    ]
    made = [make_workload(tmp_path / str(n), ROWS, **how) for n, how in enumerate(hows)]
    assert len({plain.digest, *(workload.digest for workload in made)}) == 6
    for how, workload in zip(hows, made, strict=True):
        assert meta_of(workload.path)["schema_version"] == 2
        assert workload.load == how.get("load", Load())
        assert workload.sessions == how.get("sessions", {})
        assert workload.refused == frozenset(how.get("refused", ()))
    assert meta_of(made[0].path)["load"] == {"kind": "closed", "max_concurrency": 3}
    assert made[2].follows == {2: 0}
    assert (made[2].path / "sessions.csv").read_text() == (
        "request_id,session_id,turn,think_time_ns\n0,4,0,0\n2,4,1,1000\n"
    )
    # A session of one turn holds nothing back, a limit and a second turn do.
    assert [workload.is_open_loop for workload in made] == [False, False, False, True, False]


@pytest.mark.parametrize(
    ("load", "message"),
    [
        ([], 'load: expected {"kind": "open"} or'),
        ({"kind": "half"}, 'load: expected {"kind": "open"} or'),
        ({"kind": "closed"}, "max_concurrency: expected a whole number from 1 on, found None"),
        ({"kind": "closed", "max_concurrency": 0}, "found 0"),
        ({"kind": "closed", "max_concurrency": True}, "found True"),
        ({"kind": "closed", "max_concurrency": 5}, "digest: is .* they were changed"),
    ],
)
def test_a_wrong_load_is_named(tmp_path: Path, load: Any, message: str) -> None:
    folder = make_workload(tmp_path / "w", ROWS, load=Load(4)).path
    (folder / "workload_meta.json").write_text(json.dumps({**meta_of(folder), "load": load}))
    with pytest.raises(InputError, match=message):
        read_workload(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "0,4,0,0\n2,4,0,0\n",
            "line 3, column turn: expected 1, the next turn of session 4, found",
        ),
        (
            "0,4,0,0\n2,4,2,0\n",
            "line 3, column turn: expected 1, the next turn of session 4, found",
        ),
        ("0,4,0,0\n3,4,1,0\n", "line 3, column request_id: .* above 0 and below 3, found 3"),
        ("1,4,0,0\n0,4,1,0\n", "line 3, column request_id: .* above 1 and below 3, found 0"),
        ("0,4,0,x\n", "line 2, column think_time_ns: expected a whole number .* found 'x'"),
        ("0,4,0,-1\n", "line 2, column think_time_ns: .* found '-1'"),
        ("0,4,0,0\n2,4,1,7\n", "digest: .* they were changed"),
    ],
)
def test_a_wrong_session_is_named(tmp_path: Path, text: str, message: str) -> None:
    folder = make_workload(tmp_path / "w", ROWS, sessions=TALK).path
    (folder / "sessions.csv").write_text("request_id,session_id,turn,think_time_ns\n" + text)
    with pytest.raises(InputError, match=message):
        read_workload(folder)


@pytest.mark.parametrize("refused", [[3], [-1], ["0"], 5])
def test_a_wrong_list_of_refused_requests_is_named(tmp_path: Path, refused: Any) -> None:
    folder = make_workload(tmp_path / "w", ROWS, refused=[0]).path
    (folder / "workload_meta.json").write_text(json.dumps({**meta_of(folder), "refused": refused}))
    with pytest.raises(InputError, match="refused: expected a list of request ids below 3"):
        read_workload(folder)


def test_nothing_is_left_where_sessions_are_wrong(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="column turn: expected 1"):
        make_workload(tmp_path / "w", ROWS, sessions={0: SessionTurn(1, 0), 1: SessionTurn(1, 5)})
    assert list(tmp_path.iterdir()) == []


def test_a_turn_goes_on_from_the_answer_before_it(tmp_path: Path) -> None:
    workload = make_workload(tmp_path / "w", ROWS, PROMPTS, sessions=TALK)
    ids = token_ids(workload, 1000)
    assert [len(ids[n]) for n in range(3)] == [10, 20, 30]
    assert ids[2][:10] == ids[0]
    assert continuations(workload) == {2: (0, 15)}
    sequences = sharing_sequences(workload, 1000)
    assert sequences[0] == ids[2][:15]  # prompt and answer
    assert sequences[2] == ids[2]
    others = token_ids(workload, 1000, salt=1)
    assert others[2][:10] == others[0] != ids[0]


def test_an_answer_that_no_earlier_turn_gives_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"takes 5 tokens of an answer to prompt 0, .* gives 0"):
        make_workload(tmp_path / "w", ROWS, PROMPTS)
    longer = {**PROMPTS, 2: replace(PROMPTS[2], prefix_tokens=16)}
    with pytest.raises(InputError, match=r"takes 6 tokens of an answer to prompt 0, .* gives 5"):
        make_workload(tmp_path / "w", ROWS, longer, sessions=TALK)


def test_closed_arrivals_all_wait_from_the_start_or_come_at_a_rate(tmp_path: Path) -> None:
    spec = WorkloadSpec("closed", 30, None, 1, concurrency=4)
    generate_workload(spec, tmp_path / "a")
    workload = read_workload(tmp_path / "a")
    assert workload.load == Load(4)
    assert {request.arrival_time_ns for request in workload.requests} == {0}
    generate_workload(replace(spec, rate=2.0), tmp_path / "b")
    generate_workload(replace(spec, rate=2.0, arrivals="poisson"), tmp_path / "c")
    limited, poisson = read_workload(tmp_path / "b"), read_workload(tmp_path / "c")
    assert limited.load == Load(4)
    assert limited.digest == poisson.digest
    assert limited.requests[-1].arrival_time_ns > 0


def test_conversations_have_their_turns_and_their_context(tmp_path: Path) -> None:
    generate_workload(CHAT, tmp_path / "a")
    generate_workload(CHAT, tmp_path / "b")
    workload = read_workload(tmp_path / "a")
    assert workload.digest == read_workload(tmp_path / "b").digest
    assert {turn.turn for turn in workload.sessions.values()} == {0, 1, 2, 3}
    assert len(workload.sessions) == 40
    ids = token_ids(workload, 500)
    for request_id, before in workload.follows.items():
        request, earlier = workload.requests[request_id], workload.requests[before]
        context = earlier.num_prefill_tokens + earlier.num_decode_tokens
        assert 5 <= request.num_prefill_tokens - context <= 9
        assert 1e9 <= workload.sessions[request_id].think_time_ns <= 2e9
        assert ids[request_id][: earlier.num_prefill_tokens] == ids[before]
    assert len(continuations(workload)) == len(workload.follows)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arrivals": "closed", "rate": None}, "give --concurrency N"),
        ({"rate": None}, "--arrivals poisson: give --rate R"),
        ({"concurrency": 0}, "--concurrency 0: expected at least 1"),
        ({"tokenizer": "x"}, "--turns: conversations are made of token ids"),
        ({"turns": Lengths(3, 2)}, "--turns 3:2: expected 1 <= MIN <= MAX"),
    ],
)
def test_a_spec_that_makes_no_load_is_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        generate_workload(replace(CHAT, **changes), tmp_path / "w")


@pytest.mark.parametrize("text", ["", "-1", "2:1", "x", "nan", "1:inf"])
def test_think_times_are_seconds(text: str) -> None:
    assert Seconds.parse("1.5:2", "--think-time") == Seconds(1.5, 2.0)
    with pytest.raises(UsageError, match=r"--think-time .*: expected S or MIN:MAX, in seconds"):
        Seconds.parse(text, "--think-time")


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_every_preset_can_be_generated(tmp_path: Path, name: str, device: str) -> None:
    generate_workload(preset(name, device), tmp_path / "w")
    workload = read_workload(tmp_path / "w")
    assert workload.is_open_loop == (name not in ("closed", "sessions"))
    assert bool(workload.follows) == (name == "sessions")


@pytest.mark.parametrize("kind", ["vidur", "mooncake", "vllm-bench"])
def test_what_a_format_cannot_hold_is_not_exported(tmp_path: Path, kind: str) -> None:
    workload = make_workload(tmp_path / "w", ROWS, sessions=TALK, load=Load(2))
    with pytest.raises(GpusimError, match=r"the workload has sessions; .* open-loop arrivals only"):
        export_workload(kind, workload, tmp_path / "out")
    assert not (tmp_path / "out").exists()
