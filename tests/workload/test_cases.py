"""Small traces of other tools that once went wrong, each with what is right (made by hand)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pytest_gpusim.bundle import read_bundle
from pytest_gpusim.case.definition import engine_of
from pytest_gpusim.deployment.models import QWEN3_0_6B
from pytest_gpusim.errors import GpusimError
from pytest_gpusim.providers import SimulationInputs
from pytest_gpusim.registry import builtin_registry
from pytest_gpusim.runs import read_run
from pytest_gpusim.simulators.reference import simulate
from pytest_gpusim.workload import Workload, read_workload

CASES = Path(__file__).parents[1] / "data" / "cases"
RECORDING = Path(__file__).parents[2] / "benchmarks" / "recordings" / "qwen3-0.6b-cpu-poisson"
PER_REQUEST = "per_request_lifecycle_metrics.json"
S, MS = 1_000_000_000, 1_000_000


def load(kind: str, place: str, tmp_path: Path, **options: Any) -> Workload:
    out = tmp_path / "workload"
    builtin_registry().workload_importers.get(kind)(CASES / place, out, options)
    return read_workload(out)


def rows(workload: Workload) -> list[tuple[int, int, int]]:
    return [
        (r.arrival_time_ns, r.num_prefill_tokens, r.num_decode_tokens) for r in workload.requests
    ]


MOONCAKE = "53-mooncake"


@pytest.mark.parametrize(
    ("file", "options", "expected"),
    [
        (
            "guidellm_seconds.jsonl",
            {"unit": "s"},
            [(0, 10, 5), (200 * MS, 20, 8), (400 * MS, 15, 6)],
        ),
        ("block16.jsonl", {"block_size": 16}, [(0, 40, 5), (61 * S, 48, 5)]),
        ("qwen_bailian.jsonl", {"block_size": 16, "unit": "s"}, [(61_114 * MS, 40, 5)]),
        ("json_list.json", {}, [(0, 100, 5)]),
        ("string_hash.jsonl", {}, [(0, 100, 5)]),
        ("float_len.jsonl", {"unit": "ms"}, [(1_500_000, 100, 5)]),
        ("zero_input.jsonl", {"skip_bad": True}, [(1 * MS, 10, 5)]),
    ],
)
def test_relatives_of_mooncake(
    file: str, options: dict[str, Any], expected: list[tuple[int, int, int]], tmp_path: Path
) -> None:
    assert rows(load("mooncake", f"{MOONCAKE}/{file}", tmp_path, **options)) == expected


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("guidellm_seconds.jsonl", "may be seconds, as other tools' are; give --unit s or --unit"),
        ("qwen_bailian.jsonl", "has 3 blocks of 512, input_length is 40; give --block-size N"),
        ("block16.jsonl", r"give --block-size N \(14 to 19 would fit\)"),
        ("float_len.jsonl", "give --unit s or --unit ms"),
        ("aiperf_text.jsonl", "line 1, text_input: has no input_length; give --tokenizer DIR"),
        ("no_output.jsonl", "line 1, output_length: is missing"),
        ("one_more_hash.jsonl", "has 3 blocks of 512, input_length is 1024"),
        ("unsorted.jsonl", "line 2, timestamp: 50 is before the line above it; sort the file"),
        ("zero_input.jsonl", "line 1, input_length: expected a whole number of at least 1"),
    ],
)
def test_what_cannot_be_known_is_asked_for(file: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(GpusimError, match=message):
        load("mooncake", f"{MOONCAKE}/{file}", tmp_path)


def test_a_turn_comes_so_long_after_the_one_before(tmp_path: Path) -> None:
    workload = load("mooncake", f"{MOONCAKE}/aiperf_delay.jsonl", tmp_path)
    assert workload.sessions[1].think_time_ns == 500 * MS
    assert workload.follows == {1: 0}
    assert workload.prompts is not None
    assert workload.prompts[1].block_hashes == (0, 1)


def test_both_forms_say_the_same_of_what_is_shared(tmp_path: Path) -> None:
    place = "57-vidur-canary-prefixes"
    canary = load("vidur", f"{place}/canary.csv", tmp_path / "a")
    mooncake = load("mooncake", f"{place}/mooncake.jsonl", tmp_path / "b")
    assert rows(canary) == rows(mooncake) == [(0, 600, 4), (20 * S, 600, 4)]
    assert canary.prompts == mooncake.prompts
    assert canary.prompts is not None
    assert canary.prompts[1].block_hashes == (0, 2)


def test_what_is_shared_is_simulated(tmp_path: Path) -> None:
    """The second request finds 512 tokens; a run of the same prompts (case 58) took as long."""
    workload = load("vidur", "57-vidur-canary-prefixes/canary.csv", tmp_path)
    inputs = SimulationInputs(
        QWEN3_0_6B,
        builtin_registry().hardware.get("cpu"),
        workload,
        read_bundle(RECORDING / "profile"),
        engine_of(read_run(RECORDING / "real" / "1")),
        tmp_path / "run",
    )
    simulate(inputs)
    rows = read_run(tmp_path / "run").requests
    assert rows["num_cached_tokens"].tolist() == [0, 512]
    measured = json.loads((CASES / "58-iperf-shared-prefix" / PER_REQUEST).read_text())
    first = [
        record["info"]["response_metrics"]["output_token_times"][0] - record["start_time"]
        for record in measured
    ]
    assert rows["ttft_ns"].tolist() == pytest.approx([time * S for time in first[:2]], abs=1000)


@pytest.mark.parametrize(
    ("file", "options", "expected", "counts"),
    [
        ("second_half.csv", {}, [(0, 472, 18), (45 * S, 3, 20)], {}),
        ("b2.csv", {}, [(0, 47, 18), (10 * S, 30, 20)], {}),
        ("b2.csv", {"only_model": "GPT-4"}, [(10 * S, 30, 20)], {}),
        ("floats.csv", {}, [(5 * S, 472, 18)], {}),
        (
            "zero_request.csv",
            {"skip_bad": True},
            [(5 * S, 472, 18)],
            {"left_out_bad": 1, "left_out_without_output": 1},
        ),
    ],
)
def test_burstgpt(
    file: str,
    options: dict[str, Any],
    expected: list[tuple[int, int, int]],
    counts: dict[str, int],
    tmp_path: Path,
) -> None:
    workload = load("burstgpt", f"52-burstgpt/{file}", tmp_path, **options)
    assert rows(workload) == expected
    assert workload.meta["generator"]["counts"] == counts


def test_a_request_without_tokens_is_named(tmp_path: Path) -> None:
    with pytest.raises(GpusimError, match=r"line 3, column Request tokens: .* found '0'"):
        load("burstgpt", "52-burstgpt/zero_request.csv", tmp_path)


@pytest.fixture(scope="session")
def words(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tokenizer of one token a word, for w0 to w99."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    vocabulary = {"<unk>": 0, **{f"w{n}": n + 1 for n in range(100)}}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    folder = tmp_path_factory.mktemp("words")
    tokenizer.save(str(folder / "tokenizer.json"))
    return str(folder)


@pytest.mark.parametrize(
    ("file", "expected", "counts"),
    [
        ("sg.jsonl", [(20, 10)] * 3, {}),
        ("custom.jsonl", [(20, 10)] * 3, {}),
        ("messages.json", [(20, 10)], {}),
        ("null.json", [(20, 10)], {"left_out_without_text": 1}),
        (
            "sg.json",
            # The first conversation has two turns, the second of which begins with the first.
            [(20, 10), (35, 3), (50, 10), (3, 2), (20, 10)],
            {"left_out_without_answer": 1, "left_out_single_turn": 1},
        ),
    ],
)
def test_dialects_of_conversations(
    file: str,
    expected: list[tuple[int, int]],
    counts: dict[str, int],
    words: str,
    tmp_path: Path,
) -> None:
    workload = load("sharegpt", f"62-sharegpt/{file}", tmp_path, tokenizer=words, rate=1.0)
    assert [row[1:] for row in rows(workload)] == expected
    assert workload.meta["generator"]["counts"] == counts
    assert workload.follows == ({1: 0} if file == "sg.json" else {})


def test_any_table_by_its_columns(tmp_path: Path) -> None:
    columns = "arrival=Timestamp,prefill=Request tokens,decode=Response tokens,unit=s"
    workload = load("csv", "52-burstgpt/b2.csv", tmp_path, columns=columns)
    assert rows(workload)[1][0] - rows(workload)[0][0] == 10 * S
    lines = "arrival=timestamp,prefill=input_length,decode=output_length,unit=s"
    workload = load("csv", "53-mooncake/guidellm_seconds.jsonl", tmp_path / "j", columns=lines)
    assert rows(workload) == [(0, 10, 5), (200 * MS, 20, 8), (400 * MS, 15, 6)]
    with pytest.raises(GpusimError, match="column Timestamp: its unit is not stated"):
        load("csv", "52-burstgpt/b2.csv", tmp_path / "x", columns=columns.replace(",unit=s", ""))
