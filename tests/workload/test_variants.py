"""Traces as they come in practice: clocks of an epoch, files cut off, columns for other uses."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from pytest_gpusim.errors import GpusimError
from pytest_gpusim.registry import builtin_registry
from pytest_gpusim.workload import Workload, read_workload
from tests.workload.tokenizer import make_tokenizer

S, MS = 1_000_000_000, 1_000_000
LINE = '{{"timestamp": {}, "input_length": 100, "output_length": 5}}\n'


def load(kind: str, text: str | bytes, tmp_path: Path, name: str = "t", **options: Any) -> Workload:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    out = tmp_path / f"workload-{len(list(tmp_path.iterdir()))}"
    builtin_registry().workload_importers.get(kind)(path, out, options)
    return read_workload(out)


def arrivals(workload: Workload) -> list[int]:
    return [request.arrival_time_ns for request in workload.requests]


def test_seconds_since_1970_are_not_taken_for_milliseconds(tmp_path: Path) -> None:
    text = LINE.format(1_795_475_000) + LINE.format(1_795_475_002)
    with pytest.raises(GpusimError, match="1795475000 and others may be seconds since 1970"):
        load("mooncake", text, tmp_path)
    assert arrivals(load("mooncake", text, tmp_path, unit="s")) == [0, 2 * S]


def test_milliseconds_since_1970_count_from_the_first(tmp_path: Path) -> None:
    text = LINE.format(1_795_475_000_123) + LINE.format(1_795_475_002_123)
    assert arrivals(load("mooncake", text, tmp_path)) == [0, 2 * S]


@pytest.mark.parametrize("time", [1_795_475_000_123_456, 1_795_475_000_123_456_789])
def test_finer_clocks_since_1970_are_refused(tmp_path: Path, time: int) -> None:
    with pytest.raises(GpusimError, match="line 1, timestamp: expected milliseconds from 0 on"):
        load("mooncake", LINE.format(time), tmp_path)


VIDUR = "arrived_at,num_prefill_tokens,num_decode_tokens\n0.5,100,5\n1.5,100,5\n2.5,1"
AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n2024-05-10 00:00:00.5,100,5\n2024-05-10 00:00"
TABLE = "in,out,ts\n100,5,0\n100,5,1000\n1"


@pytest.mark.parametrize(
    ("kind", "text", "options", "expected"),
    [
        ("vidur", VIDUR, {}, [S // 2, 3 * S // 2]),
        ("azure", AZURE, {}, [0]),
        ("mooncake", LINE.format(0) + LINE.format(7) + '{"timesta', {}, [0, 7 * MS]),
        ("csv", TABLE, {"columns": "arrival=ts,prefill=in,decode=out,unit=ms"}, [0, S]),
    ],
)
def test_the_tail_of_an_aborted_export(
    tmp_path: Path, kind: str, text: str, options: dict[str, Any], expected: list[int]
) -> None:
    with pytest.raises(GpusimError, match="line "):
        load(kind, text, tmp_path, **options)
    workload = load(kind, text, tmp_path, **options, skip_bad=True)
    assert arrivals(workload) == expected
    assert workload.meta["generator"]["counts"] == {"left_out_bad": 1}


@pytest.mark.parametrize("kind", ["vidur", "azure", "mooncake"])
def test_bom_crlf_and_gzip_change_nothing(tmp_path: Path, kind: str) -> None:
    texts = {
        "vidur": VIDUR.rpartition("\n")[0] + "\n",
        "azure": AZURE.rpartition("\n")[0] + "\n",
        "mooncake": LINE.format(0) + LINE.format(7),
    }
    plain = load(kind, texts[kind], tmp_path)
    windows = b"\xef\xbb\xbf" + texts[kind].replace("\n", "\r\n").encode()
    packed = load(kind, gzip.compress(windows), tmp_path, "t.gz")
    assert packed.requests == plain.requests


@pytest.mark.parametrize(
    ("kind", "text", "options", "note"),
    [
        (
            "burstgpt",
            "Timestamp,Session ID,Model,Request tokens,Response tokens\n5,s,GPT-4,100,5\n",
            {},
            "Session ID is passed over: arrivals are the file's",
        ),
        (
            "mooncake",
            LINE.format(0).replace("{", '{"chat_id": 1, "turn": 1, "session_id": "a", ')
            + LINE.format(9).replace("{", '{"chat_id": 2, "turn": 2, "session_id": "a", '),
            {},
            "passed over: chat_id, session_id, turn (arrivals are the file's)",
        ),
        (
            "csv",
            "in,out,ts,who\n100,5,0,a\n",
            {"columns": "arrival=ts,prefill=in,decode=out,session=who,unit=s"},
            "a trace has no use for session: passed over",
        ),
    ],
)
def test_what_is_passed_over_is_said(
    tmp_path: Path, kind: str, text: str, options: dict[str, Any], note: str
) -> None:
    assert note in load(kind, text, tmp_path, **options).meta["generator"]["notes"]


def test_one_model_of_a_trace_that_names_them(tmp_path: Path) -> None:
    text = "".join(
        LINE.format(time).replace("{", f'{{"model": "{model}", ')
        for time, model in ((0, "a"), (9, "b"))
    )
    assert arrivals(load("mooncake", text, tmp_path, only_model="b")) == [9 * MS]


def test_a_unit_that_the_file_states(tmp_path: Path) -> None:
    text = LINE.format(1.5).replace("{", '{"timestamp_unit": "s", ')
    workload = load("mooncake", text, tmp_path)
    assert arrivals(workload) == [3 * S // 2]
    assert workload.meta["generator"]["notes"] == ["times are in s (as the file says)"]


PARTS = [{"type": "text", "text": "alpha beta"}, {"type": "text", "text": "gamma"}]
ANSWER = {"role": "assistant", "content": [{"type": "output_text", "text": "delta zeta"}]}


@pytest.mark.parametrize("layout", ["array", "lines", "one"])
def test_messages_may_be_lists_of_texts(tmp_path: Path, layout: str) -> None:
    entry = {"messages": [{"role": "user", "content": PARTS}, ANSWER]}
    text = {
        "array": json.dumps([entry]),
        "lines": json.dumps(entry) + "\n",
        "one": json.dumps(entry, indent=2),
    }[layout]
    words = make_tokenizer(tmp_path / "words")
    workload = load("sharegpt", text, tmp_path, tokenizer=words, rate=1.0)
    assert [(r.num_prefill_tokens, r.num_decode_tokens) for r in workload.requests] == [(3, 2)]


def test_a_picture_is_no_text(tmp_path: Path) -> None:
    content = [*PARTS, {"type": "image_url", "image_url": {"url": "x"}}]
    text = json.dumps([{"messages": [{"role": "user", "content": content}, ANSWER]}])
    words = make_tokenizer(tmp_path / "words")
    with pytest.raises(
        GpusimError, match="expected a text, found parts of the kinds text, text, i"
    ):
        load("sharegpt", text, tmp_path, tokenizer=words, rate=1.0)


@pytest.mark.parametrize("indent", [None, 4])
def test_the_configuration_of_a_generator_holds_no_conversations(
    tmp_path: Path, indent: int | None
) -> None:
    document = {
        "filetype": "generate_conversations", "num_conversations": 24, "text_files": ["t.txt"],
        "prompt_input": {"num_turns": {"distribution": "uniform", "min": 12, "max": 18}},
    }  # fmt: skip
    words = make_tokenizer(tmp_path / "words")
    text = json.dumps(document, indent=indent)
    with pytest.raises(GpusimError, match=r"benchmarks/multi_turn how to make .* --output-file"):
        load("sharegpt", text, tmp_path, tokenizer=words, rate=1.0)


def test_questions_without_answers_are_no_load(tmp_path: Path) -> None:
    text = json.dumps([{"messages": [{"role": "user", "content": "alpha"}]}])
    words = make_tokenizer(tmp_path / "words")
    with pytest.raises(GpusimError, match=r"no question in it has an answer \(1 left_out_single"):
        load("sharegpt", text, tmp_path, tokenizer=words, rate=1.0)


@pytest.mark.parametrize("part", [{"first": 2}, {"end": 0.001}, {"only_model": "m"}])
def test_a_part_of_a_trace_is_held_against_its_unit(tmp_path: Path, part: dict[str, Any]) -> None:
    """Seconds, as GuideLLM writes them, are no milliseconds when fewer of them are taken."""
    text = "".join(
        LINE.format(time).replace("{", '{"model": "m", ') for time in (0.0, 0.25, 0.5, 0.75)
    )
    with pytest.raises(GpusimError, match="no whole milliseconds, as Mooncake's are"):
        load("mooncake", text, tmp_path, **part)
    workload = load("mooncake", text, tmp_path, unit="s", first=2)
    assert workload.meta["generator"]["notes"] == ["times are in s (as asked for)"]


def test_a_turn_without_an_answer_leaves_no_gap(tmp_path: Path) -> None:
    turns = [(5, '"timestamp": 0'), (0, '"delay": 10'), (7, '"delay": 20')]
    text = "".join(
        f'{{"session_id": "a", {when}, "input_length": 9, "output_length": {decode}}}\n'
        for decode, when in turns
    )
    workload = load("mooncake", text, tmp_path)
    assert [turn.turn for turn in workload.sessions.values()] == [0, 1]
    assert workload.meta["generator"]["counts"] == {"left_out_without_output": 1}


@pytest.mark.parametrize("separator", [";", "\t"])
@pytest.mark.parametrize("kind", ["vidur", "azure"])
def test_traces_by_other_signs_than_commas(tmp_path: Path, kind: str, separator: str) -> None:
    text = {"vidur": VIDUR, "azure": AZURE}[kind].rpartition("\n")[0] + "\n"
    other = load(kind, text.replace(",", separator), tmp_path)
    assert other.requests == load(kind, text, tmp_path).requests


def test_pictures_of_azures_trace_are_said_to_be_left_out(tmp_path: Path) -> None:
    text = AZURE.rpartition("\n")[0].replace(",5", ",5,2").replace("Tokens\n", "Tokens,NumImages\n")
    notes = load("azure", text + "\n", tmp_path).meta["generator"]["notes"]
    assert notes == ["NumImages is passed over: pictures are not simulated"]


def test_shared_prefixes_that_azures_kind_does_not_read_are_said_to_be_left_out(
    tmp_path: Path,
) -> None:
    text = "arrived_at,num_prefill_tokens,num_decode_tokens,block_hash_ids\n0,100,5,[1]\n"
    (note,) = load("azure", text, tmp_path).meta["generator"]["notes"]
    assert note.startswith("block_hash_ids is passed over: the kind vidur reads")


def test_two_columns_of_one_name(tmp_path: Path) -> None:
    text = VIDUR.replace("num_decode_tokens", "num_decode_tokens,arrived_at", 1)
    with pytest.raises(GpusimError, match="column arrived_at: comes twice"):
        load("vidur", text.replace("100,5", "100,5,9"), tmp_path)


def test_several_models_are_taken_together_and_that_is_said(tmp_path: Path) -> None:
    text = "Timestamp,Model,Request tokens,Response tokens\n5,ChatGPT,100,5\n6,GPT-4,100,5\n"
    notes = load("burstgpt", text, tmp_path).meta["generator"]["notes"]
    said = "requests of 2 models are taken together (ChatGPT, GPT-4); --only-model takes one's"
    assert notes == [said]
    assert "notes" not in load("burstgpt", text, tmp_path, only_model="GPT-4").meta["generator"]


def test_a_tables_moments_may_be_dates(tmp_path: Path) -> None:
    text = "in,out,ts\n100,5,2024-05-01T00:00:00Z\n100,5,2024-05-01T00:00:02.5Z\n"
    columns = "arrival=ts,prefill=in,decode=out"
    assert arrivals(load("csv", text, tmp_path, columns=columns)) == [0, 5 * S // 2]


def test_hashes_as_pandas_writes_texts(tmp_path: Path) -> None:
    head = "arrived_at,num_prefill_tokens,num_decode_tokens,block_hash_ids,block_size\n"
    rows = "0,100,4,\"['a', 'b']\",64\n1,100,4,\"['a', 'c']\",64\n"
    prompts = load("vidur", head + rows, tmp_path).prompts
    assert prompts is not None
    assert [prompt.block_hashes for prompt in prompts.values()] == [(-1, -2), (-1, -3)]


def test_blank_rows_and_comments_of_a_trace(tmp_path: Path) -> None:
    text = VIDUR.rpartition("\n")[0]
    plain = load("vidur", text + "\n", tmp_path)
    assert load("vidur", f"# mine\n{text}\n,,\n# end\n", tmp_path).requests == plain.requests
