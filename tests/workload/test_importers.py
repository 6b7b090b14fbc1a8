"""Other tools' traces as workloads: times to the nanosecond, and each bad record named."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from pytest_gpusim.errors import GpusimError, InputError, UsageError
from pytest_gpusim.registry import builtin_registry
from pytest_gpusim.runs import write_run
from pytest_gpusim.workload import Workload, read_workload
from pytest_gpusim.workload.importers.options import (
    ImportOptions,
    add_import_arguments,
    options_from,
)
from pytest_gpusim.workload.prompts import Prompt
from pytest_gpusim.workload.token_ids import continuations, token_ids
from pytest_gpusim.workload.trace import OUTPUTS
from tests.factories import make_workload
from tests.runs.factory import META, REQUESTS, TOKENS
from tests.workload.tokenizer import make_tokenizer


def run_import(kind: str, file: Path, out: Path, **options: Any) -> Workload:
    builtin_registry().workload_importers.get(kind)(file, out, options)
    return read_workload(out)


def rows(workload: Workload) -> list[tuple[int, int, int]]:
    """(arrival, prefill, decode) of each request."""
    return [
        (r.arrival_time_ns, r.num_prefill_tokens, r.num_decode_tokens) for r in workload.requests
    ]


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write_file(text: str, name: str = "trace.csv") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write_file


AZURE = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\n"
    "2023-11-16 23:59:59.9999999,374,44\n"
    "2023-11-17 00:00:00.0000001,396,109\n"
    "2023-11-17 00:00:10,5,0\n"
    "2023-11-17 00:00:11.5,7,1\n"
)


def test_azure_times_are_exact_across_midnight(write: Any, tmp_path: Path) -> None:
    workload = run_import("azure", write(AZURE), tmp_path / "w")
    assert rows(workload) == [(0, 374, 44), (200, 396, 109), (11_500_000_100, 7, 1)]
    assert workload.prompts is None
    assert workload.meta["generator"]["counts"] == {"left_out_without_output": 1}


def test_azure_times_with_a_zone(write: Any, tmp_path: Path) -> None:
    text = (
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2024-05-10 00:00:00.009930+00:00,10,20\n"
        "2024-05-10 02:00:01.009930+02:00,10,20\n"
    )
    assert rows(run_import("azure", write(text), tmp_path / "w")) == [
        (0, 10, 20),
        (1_000_000_000, 10, 20),
    ]


def test_azure_as_vidur_processed_it_is_told_by_its_header(write: Any, tmp_path: Path) -> None:
    path = write("arrived_at,num_prefill_tokens,num_decode_tokens\n0.5,374,44\n0.75,9,0\n1,396,1\n")
    workload = run_import("azure", path, tmp_path / "w")
    assert rows(workload) == [(500_000_000, 374, 44), (1_000_000_000, 396, 1)]
    assert workload.meta["generator"]["form"] == "processed"
    assert workload.meta["generator"]["counts"] == {"left_out_without_output": 1}


def test_burstgpt_is_read_by_column_name(write: Any, tmp_path: Path) -> None:
    text = (
        "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
        "5,ChatGPT,472,18,490,Conversation log\n"
        "45.25,GPT-4,1087,0,1087,API log\n"
        "118,ChatGPT,417,276,693,Conversation log\n"
    )
    workload = run_import("burstgpt", write(text), tmp_path / "w")
    assert rows(workload) == [(5_000_000_000, 472, 18), (118_000_000_000, 417, 276)]
    assert workload.meta["generator"]["counts"] == {"left_out_without_output": 1}


def test_lengths_get_generated_arrivals(write: Any, tmp_path: Path) -> None:
    path = write("num_decode_tokens,num_prefill_tokens\n5,50\n6,60\n7,70\n")
    fixed = run_import("lengths", path, tmp_path / "a", rate=4.0, arrivals="fixed", first=2)
    assert rows(fixed) == [(0, 50, 5), (250_000_000, 60, 6)]
    digests = {
        run_import("lengths", path, tmp_path / name, rate=4.0, seed=seed).digest
        for name, seed in (("b", 1), ("c", 1), ("d", 2))
    }
    assert len(digests) == 2
    burst = run_import("lengths", path, tmp_path / "f", rate=4.0, arrivals="burst", burst_size=2)
    assert [time for time, _, _ in rows(burst)] == [0, 0, 500_000_000]
    with pytest.raises(UsageError, match="lengths: has no arrivals, give --rate R"):
        run_import("lengths", path, tmp_path / "e")


def agentic(**changes: Any) -> dict[str, Any]:
    """A session of three calls, of which the second goes on from the answer to the first."""
    first = list(range(100, 140))
    calls = [
        {"input_toks": 40, "output_toks": 3, "tool_duration_ns": 7, "input_tok_ids": first},
        {"input_toks": 45, "output_toks": 2, "tool_duration_ns": 9},
        {"input_toks": 50, "output_toks": 1, "tool_duration_ns": 0},
    ]
    calls[0]["output_tok_ids"] = [1, 2, 3]
    calls[1]["input_tok_ids"] = [*first, 1, 2, 3, 8, 9]
    calls[1]["output_tok_ids"] = [4, 5]
    calls[2]["input_tok_ids"] = [*first[:30], *range(20)]
    return {"session_id": "s", "arrival_time_ns": 50, "sub_requests": calls, **changes}


def test_llmservingsims_sessions_become_conversations(write: Any, tmp_path: Path) -> None:
    flat = {"input_toks": 20, "output_toks": 2, "arrival_time_ns": 10}
    flat["input_tok_ids"] = [*range(100, 115), 0, 0, 0, 0, 0]
    lone = agentic(arrival_time_ns=60)
    lone["sub_requests"] = lone["sub_requests"][:1]
    text = "".join(json.dumps(line) + "\n" for line in (agentic(), flat, lone))
    workload = run_import("llmservingsim", write(text), tmp_path / "w")
    assert rows(workload) == [(10, 20, 2), (50, 40, 3), (50, 45, 2), (50, 50, 1), (60, 40, 3)]
    assert workload.follows == {2: 1, 3: 2}
    assert [turn.think_time_ns for turn in workload.sessions.values()] == [0, 7, 9]
    # As the second has it, all of the answer; as the third, 30 tokens of the first prompt.
    assert continuations(workload) == {2: (1, 43)}
    ids = token_ids(workload, 1000)
    assert ids[2][:40] == ids[1]
    assert ids[3][:30] == ids[1][:30]
    assert ids[3][30] != ids[1][30]
    assert ids[4] == ids[1]
    assert ids[0][:15] == ids[1][:15]


def test_sessions_without_token_ids_share_nothing(write: Any, tmp_path: Path) -> None:
    calls = [{"input_toks": 4, "output_toks": 2}, {"input_toks": 9, "output_toks": 1}]
    line = {"session_id": "s", "arrival_time_ns": 0, "sub_requests": calls}
    workload = run_import("llmservingsim", write(json.dumps(line)), tmp_path / "w")
    assert workload.prompts is None
    assert workload.follows == {1: 0}


MOONCAKE = [
    {"timestamp": 0, "input_length": 1000, "output_length": 5, "hash_ids": [46, 47]},
    {"timestamp": 27.000001, "input_length": 1025, "output_length": 8, "hash_ids": [46, 47, 9]},
    {"timestamp": 30, "input_length": 600, "output_length": 1, "hash_ids": []},
]


def json_lines(records: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def test_mooncake_blocks_stay_shared(write: Any, tmp_path: Path) -> None:
    workload = run_import("mooncake", write(json_lines(MOONCAKE)), tmp_path / "w")
    assert rows(workload) == [(0, 1000, 5), (27_000_001, 1025, 8), (30_000_000, 600, 1)]
    ids = token_ids(workload, 50_000)
    assert [len(ids[n]) for n in range(3)] == [1000, 1025, 600]
    assert ids[0] == ids[1][:1000]
    assert ids[2][0] != ids[0][0]


def test_clipping_cuts_the_blocks_too(write: Any, tmp_path: Path) -> None:
    path = write(json_lines(MOONCAKE))
    workload = run_import("mooncake", path, tmp_path / "w", clip_prefill=512, clip_decode=4)
    assert rows(workload) == [(0, 512, 4), (27_000_001, 512, 4), (30_000_000, 512, 1)]
    assert workload.prompts is not None
    assert workload.prompts[1].block_hashes == (46,)
    assert workload.meta["generator"]["counts"] == {"clipped_prefill": 3, "clipped_decode": 2}


def test_sharegpt_is_counted_by_the_tokenizer(write: Any, tmp_path: Path) -> None:
    reference = make_tokenizer(tmp_path / "tokenizer", special_tokens=True)
    talk = [
        {"conversations": [{"from": "human", "value": "alpha beta"}, {"value": "gamma"}]},
        {"conversations": [{"from": "human", "value": "alone"}]},
        {"conversations": [{"from": "human", "value": "eta"}, {"from": "gpt", "value": ""}]},
        {"conversations": [{"value": "eta theta zeta"}, {"value": "beta beta"}, {"value": "x"}]},
    ]
    path = write(json.dumps(talk), "talk.json")
    options = {"tokenizer": reference, "rate": 2.0, "arrivals": "fixed"}
    workload = run_import("sharegpt", path, tmp_path / "w", **options)
    # The frame of two special tokens is the prompt's.
    assert rows(workload) == [(0, 4, 1), (500_000_000, 5, 2)]
    assert workload.meta["generator"]["counts"] == {
        "left_out_single_turn": 1,
        "left_out_empty": 1,
    }
    assert {n: len(ids) for n, ids in token_ids(workload, 100).items()} == {0: 4, 1: 5}
    clipped = run_import("sharegpt", path, tmp_path / "c", clip_prefill=4, **options)
    assert token_ids(clipped, 100)[1] == token_ids(workload, 100)[1][:4]
    with pytest.raises(UsageError, match="give --tokenizer DIR"):
        run_import("sharegpt", path, tmp_path / "x", rate=1.0)


def test_turns_of_a_conversation_wait_a_think_time(write: Any, tmp_path: Path) -> None:
    reference = make_tokenizer(tmp_path / "tokenizer")
    talk = [{"messages": [{"content": text} for text in ("alpha", "beta", "gamma", "eta")]}]
    path = write(json.dumps(talk), "talk.json")
    options = {"tokenizer": reference, "rate": 2.0}
    workload = run_import("sharegpt", path, tmp_path / "w", think_time="1.5:2", **options)
    (first, second) = workload.sessions.values()
    assert first.think_time_ns == 0
    assert 1_500_000_000 <= second.think_time_ns <= 2_000_000_000
    again = run_import("sharegpt", path, tmp_path / "a", think_time="1.5:2", **options)
    assert again.digest == workload.digest
    with pytest.raises(UsageError, match="--think-time 2:1: expected S or MIN:MAX"):
        run_import("sharegpt", path, tmp_path / "x", think_time="2:1", **options)


def outputs_of(workload: Workload) -> list[list[int]]:
    text = (workload.path / OUTPUTS).read_text()
    return [json.loads(line)["token_ids"] for line in text.splitlines()]


def test_llmservingsim_keeps_all_token_ids(published_data: Path, tmp_path: Path) -> None:
    path = published_data / "rtx4090_llama-3.1-8b" / "workload.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    workload = run_import("llmservingsim", path, tmp_path / "w")
    assert rows(workload) == [
        (line["arrival_time_ns"], line["input_toks"], line["output_toks"]) for line in lines
    ]
    ids = token_ids(workload, 128_256)
    assert [ids[n] for n in range(len(lines))] == [line["input_tok_ids"] for line in lines]
    assert outputs_of(workload) == [line["output_tok_ids"] for line in lines]
    clipped = run_import("llmservingsim", path, tmp_path / "c", first=20, clip_decode=9)
    assert [len(ids) for ids in outputs_of(clipped)] == [9] * 20


def test_a_real_trace_to_the_nanosecond(trace_data: Path, tmp_path: Path) -> None:
    path = trace_data / "azure_llm_2023_conv.csv"
    lines = path.read_text().splitlines()[1:]
    workload = run_import("vidur", path, tmp_path / "w")
    assert len(workload.requests) == len(lines) == 19366
    for request, line in zip(workload.requests, lines, strict=True):
        arrived, prefill, decode = line.split(",")
        assert Decimal(request.arrival_time_ns) == (Decimal(arrived) * 10**9).to_integral_value()
        assert (request.num_prefill_tokens, request.num_decode_tokens) == (
            int(prefill),
            int(decode),
        )
    small = run_import(
        "vidur", path, tmp_path / "s", first=20, clip_prefill=512, clip_decode=64, rate=0.25
    )
    assert len(small.requests) == 20
    span = small.requests[-1].arrival_time_ns - small.requests[0].arrival_time_ns
    assert 19 / (span / 1e9) == pytest.approx(0.25)
    assert max(r.num_prefill_tokens for r in small.requests) == 512
    assert small.meta["generator"]["counts"]["clipped_prefill"] > 0


VIDUR = "arrived_at,num_prefill_tokens,num_decode_tokens\n" + "".join(
    f"{n},{100 + n},{10 + n}\n" for n in range(10)
)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"first": 2}, [(0, 100, 10), (1_000_000_000, 101, 11)]),
        ({"start": 2.5, "end": 5}, [(500_000_000, 103, 13), (1_500_000_000, 104, 14)]),
        ({"start": 8, "first": 5}, [(0, 108, 18), (1_000_000_000, 109, 19)]),
        ({"first": 2, "rate_scale": 4}, [(0, 100, 10), (250_000_000, 101, 11)]),
        ({"first": 3, "rate": 0.5}, [(0, 100, 10), (2 * 10**9, 101, 11), (4 * 10**9, 102, 12)]),
        ({"first": 1, "max_model_len": 105}, [(0, 100, 5)]),
        ({"first": 1, "max_model_len": 100}, [(0, 99, 1)]),
        ({"first": 1, "clip_prefill": 7, "clip_decode": 3}, [(0, 7, 3)]),
        ({"first": 1, "rate": 2.0}, [(0, 100, 10)]),
    ],
)
def test_options(
    write: Any, tmp_path: Path, options: dict[str, Any], expected: list[tuple[int, int, int]]
) -> None:
    workload = run_import("vidur", write(VIDUR), tmp_path / "w", **options)
    assert rows(workload) == expected
    assert workload.meta["generator"]["options"] == options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"first": 0}, "--first 0: expected at least 1"),
        ({"max_model_len": 1}, "--max-model-len 1: expected at least 2"),
        ({"rate": float("nan")}, "--rate nan: expected a number above 0"),
        ({"rate_scale": 0}, "--rate-scale 0: expected"),
        ({"rate": 1.0, "rate_scale": 2.0}, "--rate and --rate-scale: give one"),
        ({"start": 5.0, "end": 5.0}, "--start 5.0 --end 5.0: expected 0 <= start < end"),
        ({"start": 50.0}, "no record is left by --start 50.0"),
        ({"end": float("inf")}, "--end inf: expected 0 <= start < end"),
        ({"rate_scale": 1e-300}, "--rate-scale 1e-300: too low, the trace would take centuries"),
        ({"rate": 1e-300}, "--rate 1e-300: too low, the trace would take centuries"),
    ],
)
def test_options_that_make_no_sense(
    write: Any, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(GpusimError, match=message):
        run_import("vidur", write(VIDUR), tmp_path / "w", **options)
    assert not (tmp_path / "w").exists()


def test_the_command_line_gives_the_same_options() -> None:
    parser = argparse.ArgumentParser()
    add_import_arguments(parser)
    line = "--first 5 --start 1.5 --rate 2 --clip-decode 64 --arrivals burst --drop-failed"
    assert options_from(parser.parse_args(line.split())) == {
        "first": 5, "start": 1.5, "rate": 2.0, "clip_decode": 64, "arrivals": "burst",
        "drop_failed": True,
    }  # fmt: skip
    assert options_from(parser.parse_args([])) == {}
    with pytest.raises(UsageError, match="--first -1"):
        options_from(parser.parse_args(["--first", "-1"]))
    assert ImportOptions.of({"first": None, "note": "of another importer"}) == ImportOptions()


def mooncake(**changes: Any) -> str:
    record = {"timestamp": 5, "input_length": 10, "output_length": 5, "hash_ids": [1], **changes}
    return json_lines([MOONCAKE[0], record])


def servingsim(**changes: Any) -> str:
    record: dict[str, Any] = {"input_toks": 2, "output_toks": 1, "input_tok_ids": [4, 5]}
    return json_lines([{**record, "arrival_time_ns": 5, **changes}])


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        ("azure", "", "is empty"),
        ("azure", "TIMESTAMP,ContextTokens\n", "column GeneratedTokens: is missing; columns found"),
        ("azure", "TIMESTAMP,ContextTokens,GeneratedTokens\n", "has no records"),
        ("azure", AZURE.replace("10,5,0", "10,5"), "line 4: has 2 cells, the header has 3"),
        ("azure", AZURE.replace("396", "many"), "line 3, column ContextTokens: .* found 'many'"),
        ("azure", AZURE.replace("396", "-396"), "line 3, column ContextTokens: .* found '-396'"),
        ("azure", AZURE.replace("109", "10.5"), "line 3, column GeneratedTokens: .* '10.5'"),
        ("azure", AZURE.replace("2023-11-17 00:00:10", "1700179210.5"), "line 4, column TIMESTAMP"),
        (
            "azure",
            AZURE.replace("00:00:11.5", "25:00:11.5"),
            "line 5, column TIMESTAMP: expected a",
        ),
        ("azure", AZURE.replace("17 00:00:10", "15 00:00:10"), "line 4.*before the record above"),
        ("vidur", VIDUR.replace("3,103", "nan,103"), "line 5, column arrived_at: .* found 'nan'"),
        ("vidur", VIDUR.replace("0,100", "-1,100"), "line 2, column arrived_at: expected seconds"),
        ("vidur", VIDUR.replace("3,103", "1e999999999,103"), "line 5, column arrived_at"),
        ("vidur", VIDUR.replace("3,103", "0.5,103"), "line 5.*before the record above it; sort"),
        ("vidur", VIDUR.replace(",13\n", ",0\n"), "line 5, column num_decode_tokens: .*found '0'"),
        ("burstgpt", VIDUR, "column Timestamp: is missing"),
        ("lengths", "num_prefill_tokens,num_decode_tokens\n5,\n", "line 2, column num_decode_tok"),
        ("mooncake", "{}\n", "line 1, timestamp: expected milliseconds from 0 on, found None"),
        ("mooncake", mooncake(timestamp=-1), "line 2, timestamp: expected milliseconds"),
        ("mooncake", mooncake(timestamp="5 ms"), "line 2, timestamp: expected .* found '5 ms'"),
        ("mooncake", mooncake(input_length=1.5), "line 2, input_length: .* found 1.5"),
        ("mooncake", mooncake(output_length=None), "line 2, output_length: is missing"),
        ("mooncake", mooncake(hash_ids=[1, "2"]), "line 2, hash_ids: expected whole numbers"),
        ("mooncake", mooncake(hash_ids=[1, 2]), "line 2, hash_ids: has 2 blocks of 512, input_len"),
        ("mooncake", mooncake() + mooncake(), "line 3, timestamp: 0 is before the line above it"),
        ("mooncake", mooncake() + "[5]\n", "line 3: expected a JSON object"),
        ("mooncake", mooncake() + "{5\n", "line 3: not JSON"),
        ("llmservingsim", servingsim(input_tok_ids=[4]), "line 1, input_tok_ids: has 1 ids, input"),
        ("llmservingsim", servingsim(output_tok_ids=[1, 2]), "line 1, output_tok_ids: has 2 ids"),
        ("llmservingsim", servingsim(arrival_time_ns=-4), "line 1, arrival_time_ns: expected a wh"),
        ("llmservingsim", servingsim(sub_requests=[]), "line 1, sub_requests: expected a list"),
        (
            "llmservingsim",
            servingsim(sub_requests=[{"input_toks": 1, "output_toks": 0}]),
            r"line 1, sub_requests\[0\], output_toks: expected a whole number of at least 1",
        ),
        (
            "llmservingsim",
            servingsim(sub_requests=[{"input_toks": 1, "output_toks": 1, "tool_duration_ns": -1}]),
            r"line 1, sub_requests\[0\], tool_duration_ns: expected a whole number",
        ),
        ("llmservingsim", "", "has no requests"),
    ],
)
def test_a_bad_record_is_named_in_one_line(
    write: Any, tmp_path: Path, kind: str, text: str, message: str
) -> None:
    path = write(text)
    with pytest.raises(GpusimError, match=message) as caught:
        run_import(kind, path, tmp_path / "w", rate=1.0)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({}, "expected a JSON array of conversations"),
        ([5], "conversation 0: expected a JSON object"),
        ([{"id": "a"}], "conversation 0, conversations: expected an array"),
        (
            [{"conversations": [{"value": "alpha"}, {"value": None}]}],
            r"conversation 0, conversations\[1\].value: expected a text",
        ),
    ],
)
def test_bad_conversations_are_named(
    write: Any, tmp_path: Path, document: Any, message: str
) -> None:
    reference = make_tokenizer(tmp_path / "tokenizer")
    path = write(json.dumps(document), "talk.json")
    with pytest.raises(InputError, match=message):
        run_import("sharegpt", path, tmp_path / "w", tokenizer=reference, rate=1.0)


@pytest.mark.parametrize("kind", ["azure", "vidur", "mooncake", "llmservingsim", "run"])
def test_a_missing_file_is_named(tmp_path: Path, kind: str) -> None:
    with pytest.raises(InputError, match="absent: no such"):
        run_import(kind, tmp_path / "absent", tmp_path / "w")


def write_measured(folder: Path, workload: Workload | None) -> Path:
    """The run of `tests.runs.factory`: request 2 failed, the others made 3, 2 and 1 tokens."""
    named: Mapping[str, Any] = {}
    if workload is not None:
        named = {"workload_dir": str(workload.path), "workload_digest": workload.digest}
    write_run(folder, requests=REQUESTS, tokens=TOKENS, meta={**META, **named})
    return folder


PROMPTS = {
    0: Prompt(0, seed=1, num_tokens=16),
    1: Prompt(1, seed=2, num_tokens=16, prefix_of=0, prefix_tokens=9),
}


def test_the_workload_of_a_run(tmp_path: Path) -> None:
    asked = [(16, 9, 0), (16, 9, 100), (16, 4, 200), (16, 9, 300)]
    workload = make_workload(tmp_path / "asked", asked, PROMPTS, prompt_ids=[0, 1, 0, 1])
    folder = write_measured(tmp_path / "run", workload)
    found = run_import("run", folder, tmp_path / "w")
    assert rows(found) == [(0, 16, 3), (100, 16, 2), (200, 16, 4), (300, 16, 1)]
    assert [request.prompt_id for request in found.requests] == [0, 1, 0, 1]
    assert found.prompts == PROMPTS
    assert found.meta["model"] == "tiny/model"
    assert found.meta["generator"]["counts"] == {"failed_as_asked": 1}
    assert found.meta["generator"]["prompts"] == "as measured"

    dropped = run_import("run", folder, tmp_path / "d", drop_failed=True)
    assert rows(dropped) == [(0, 16, 3), (100, 16, 2), (300, 16, 1)]
    assert dropped.meta["generator"]["source_request_ids"] == [0, 1, 3]
    assert dropped.meta["generator"]["counts"] == {"failed_left_out": 1}


def test_the_ids_of_chosen_requests_are_those_of_the_run(tmp_path: Path) -> None:
    folder = write_measured(tmp_path / "run", None)
    found = run_import("run", folder, tmp_path / "w", start=1.5e-7, first=1)
    assert found.meta["generator"]["source_request_ids"] == [2]
    dropped = run_import("run", folder, tmp_path / "d", start=1.5e-7, drop_failed=True)
    assert dropped.meta["generator"]["source_request_ids"] == [3]
    assert "source_request_ids" not in run_import("run", folder, tmp_path / "a").meta["generator"]


def test_a_failed_request_that_knows_no_length_has_that_of_the_workload(tmp_path: Path) -> None:
    asked = [(16, 9, 0), (16, 9, 100), (16, 9, 200), (16, 9, 300)]
    workload = make_workload(tmp_path / "asked", asked, PROMPTS, prompt_ids=[0, 1, 0, 1])
    unknown = {"num_prefill_tokens": 0, "num_decode_tokens": 0}
    requests = [{**row, **unknown} if row["status"] == "error" else row for row in REQUESTS]
    meta = {**META, "workload_dir": str(workload.path), "workload_digest": workload.digest}
    write_run(tmp_path / "run", requests=requests, tokens=TOKENS, meta=meta)
    assert rows(run_import("run", tmp_path / "run", tmp_path / "w"))[2] == (200, 16, 9)
    write_run(tmp_path / "alone", requests=requests, tokens=TOKENS, meta=META)
    assert rows(run_import("run", tmp_path / "alone", tmp_path / "v"))[2] == (200, 1, 1)


def test_a_rate_needs_two_moments(write: Any, tmp_path: Path) -> None:
    path = write("arrived_at,num_prefill_tokens,num_decode_tokens\n5,1,1\n5,1,1\n")
    assert rows(run_import("vidur", path, tmp_path / "w", first=1, rate=3.0)) == [(5 * 10**9, 1, 1)]
    with pytest.raises(UsageError, match=r"all records of .* arrive at once"):
        run_import("vidur", path, tmp_path / "v", rate=3.0)


def test_a_prompt_whose_beginning_is_not_used_keeps_it(tmp_path: Path) -> None:
    workload = make_workload(tmp_path / "asked", [(16, 9, 0)] * 4, PROMPTS, prompt_ids=[1] * 4)
    found = run_import("run", write_measured(tmp_path / "run", workload), tmp_path / "w")
    assert token_ids(found, 999)[1] == token_ids(workload, 999)[1]


def test_prompts_of_a_changed_or_absent_workload_are_not_known(tmp_path: Path) -> None:
    first = make_workload(tmp_path / "a", [(16, 9, 0)] * 4, PROMPTS, prompt_ids=[0, 1, 0, 1])
    folder = write_measured(tmp_path / "run", first)
    moved = first.path.rename(tmp_path / "moved")
    found = run_import("run", folder, tmp_path / "w")
    assert found.prompts is None
    assert found.meta["generator"]["prompts"] == "not known"
    assert run_import("run", folder, tmp_path / "v", workload_dir=moved).prompts == PROMPTS
    make_workload(first.path, [(16, 8, 0)] * 4, PROMPTS, prompt_ids=[0, 1, 0, 1])
    assert run_import("run", folder, tmp_path / "x").prompts is None


def test_one_bad_row_among_many_is_named(tmp_path: Path) -> None:
    lines = [f"{n},100,10" for n in range(50_000)]
    lines[41_234] = "41234,100,ten"
    path = tmp_path / "trace.csv"
    path.write_text("arrived_at,num_prefill_tokens,num_decode_tokens\n" + "\n".join(lines))
    with pytest.raises(InputError, match=r"line 41236, column num_decode_tokens: .* found 'ten'"):
        run_import("vidur", path, tmp_path / "w")
