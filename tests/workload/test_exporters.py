"""Workloads for other tools: read back, they are the same; vLLM's own reader takes its format."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_gpusim.errors import GpusimError, UsageError
from pytest_gpusim.registry import builtin_registry
from pytest_gpusim.workload import Workload, read_workload
from pytest_gpusim.workload.exporters import EXPORT_KINDS, export_workload
from pytest_gpusim.workload.generate import Lengths, WorkloadSpec, generate_workload
from pytest_gpusim.workload.prompts import Prompt
from pytest_gpusim.workload.token_ids import token_ids
from pytest_gpusim.workload.tokenizer import load_tokenizer
from tests.factories import make_workload
from tests.vllm_forks import Forks
from tests.workload.tokenizer import make_tokenizer


def run_import(kind: str, file: Path, out: Path) -> Workload:
    builtin_registry().workload_importers.get(kind)(file, out, {})
    return read_workload(out)


@given(
    gaps=st.lists(st.integers(0, 2**56), min_size=1, max_size=20),
    lengths=st.tuples(st.integers(1, 10**6), st.integers(1, 10**6)),
    kind=st.sampled_from(["vidur", "mooncake"]),
)
@settings(max_examples=60, deadline=None)
def test_times_and_lengths_survive_a_round_trip(
    tmp_path_factory: pytest.TempPathFactory,
    gaps: list[int],
    lengths: tuple[int, int],
    kind: str,
) -> None:
    folder = tmp_path_factory.mktemp("trip")
    rows, clock = [], 0
    for gap in gaps:
        clock += gap
        rows.append((*lengths, clock))
    workload = make_workload(folder / "w", rows)
    export_workload(kind, workload, folder / "file")
    again = run_import(kind, folder / "file", folder / "again")
    assert [r[2:] for r in again.requests] == [r[2:] for r in workload.requests]


def test_vidur_reads_seconds_as_numbers(tmp_path: Path) -> None:
    workload = make_workload(tmp_path / "w", [(10, 2, 0), (20, 3, 1_500_000_001)])
    export_workload("vidur", workload, tmp_path / "trace.csv")
    assert (tmp_path / "trace.csv").read_text() == (
        "arrived_at,num_prefill_tokens,num_decode_tokens\n0,10,2\n1.500000001,20,3\n"
    )
    assert pd.read_csv(tmp_path / "trace.csv")["arrived_at"].tolist() == [0.0, 1.500000001]


def test_a_mooncake_trace_survives_as_it_was(tmp_path: Path) -> None:
    text = (
        '{"timestamp": 0, "input_length": 1000, "output_length": 5, "hash_ids": [46, 47]}\n'
        '{"timestamp": 27.5, "input_length": 1025, "output_length": 8, "hash_ids": [46, 47, 9]}\n'
    )
    (tmp_path / "a.jsonl").write_text(text)
    workload = run_import("mooncake", tmp_path / "a.jsonl", tmp_path / "w")
    export_workload("mooncake", workload, tmp_path / "b.jsonl")
    assert (tmp_path / "b.jsonl").read_text() == text
    assert run_import("mooncake", tmp_path / "b.jsonl", tmp_path / "v").digest == workload.digest


def test_shared_blocks_are_told_apart_for_mooncake(tmp_path: Path) -> None:
    prompts = {
        0: Prompt(0, seed=1, num_tokens=1500),
        1: Prompt(1, seed=2, num_tokens=1400, prefix_of=0, prefix_tokens=1100),
        2: Prompt(2, seed=3, num_tokens=600),
    }
    rows = [(1500, 1, 0), (1400, 1, 0), (600, 1, 0), (600, 1, 0)]
    workload = make_workload(tmp_path / "w", rows, prompts, prompt_ids=[0, 1, 2, 2])
    export_workload("mooncake", workload, tmp_path / "a.jsonl")
    lines = (tmp_path / "a.jsonl").read_text().splitlines()
    first, second, third, fourth = (json.loads(line)["hash_ids"] for line in lines)
    # 1,100 common tokens are two common blocks of 512.
    assert first[:2] == second[:2]
    assert first[2] != second[2]
    assert third == fourth
    assert len({*first, *second, *third}) == 3 + 1 + 2
    again = run_import("mooncake", tmp_path / "a.jsonl", tmp_path / "v")
    ids = token_ids(again, 1000)
    assert ids[0][:1024] == ids[1][:1024]
    assert ids[2] == ids[3]


def text_workload(folder: Path) -> Workload:
    reference = make_tokenizer(folder / "tokenizer")
    generate_workload(
        WorkloadSpec("poisson", 12, 4.0, 3, Lengths(3, 30), Lengths(1, 9), tokenizer=reference),
        folder / "w",
    )
    return read_workload(folder / "w")


def test_vllm_bench_gets_texts_and_output_lengths(tmp_path: Path) -> None:
    workload = text_workload(tmp_path)
    export_workload("vllm-bench", workload, tmp_path / "d.jsonl")
    records = [json.loads(line) for line in (tmp_path / "d.jsonl").read_text().splitlines()]
    tokenizer = load_tokenizer(str(tmp_path / "tokenizer"))
    assert [len(tokenizer.encode(r["prompt"])) for r in records] == [
        request.num_prefill_tokens for request in workload.requests
    ]
    assert [r["output_tokens"] for r in records] == [
        request.num_decode_tokens for request in workload.requests
    ]


_READ = """
import json, sys
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast
from vllm.benchmarks.datasets import CustomDataset
tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_file(sys.argv[2]))
dataset = CustomDataset(dataset_path=sys.argv[1], disable_shuffle=True)
sampled = dataset.sample(tokenizer, 12, skip_chat_template=True)
print("FOUND" + json.dumps([[s.prompt_len, s.expected_output_len] for s in sampled]))
"""


def test_vllms_own_reader_takes_the_file(tmp_path: Path, vllm_forks: Forks) -> None:
    workload = text_workload(tmp_path)
    export_workload("vllm-bench", workload, tmp_path / "d.jsonl")
    done = vllm_forks.run(_READ, tmp_path / "d.jsonl", tmp_path / "tokenizer" / "tokenizer.json")
    assert json.loads(done.stdout.partition("FOUND")[2]) == [
        [request.num_prefill_tokens, request.num_decode_tokens] for request in workload.requests
    ]


def test_token_ids_become_text_only_where_that_is_exact(tmp_path: Path) -> None:
    prompts = {0: Prompt(0, token_ids=(3, 4, 3))}
    workload = make_workload(tmp_path / "w", [(3, 1, 0)], prompts)
    workload.meta["tokenizer_ref"] = make_tokenizer(tmp_path / "tokenizer")
    export_workload("vllm-bench", workload, tmp_path / "d.jsonl")
    assert json.loads((tmp_path / "d.jsonl").read_text())["prompt"] == "alpha beta alpha"
    prompts = {0: Prompt(0, token_ids=(3, 99, 3))}
    workload = make_workload(tmp_path / "v", [(3, 1, 0)], prompts)
    workload.meta["tokenizer_ref"] = str(tmp_path / "tokenizer")
    with pytest.raises(GpusimError, match="prompt 0: its token ids are not those of any text"):
        export_workload("vllm-bench", workload, tmp_path / "e.jsonl")
    with pytest.raises(UsageError, match=r"prompt 0 has none; generate .* with --tokenizer DIR"):
        export_workload("vllm-bench", make_workload(tmp_path / "u", [(3, 1, 0)]), tmp_path / "e")
    assert not list(tmp_path.glob(".*"))
    assert not (tmp_path / "e.jsonl").exists()


def test_an_export_overwrites_nothing(tmp_path: Path) -> None:
    workload = make_workload(tmp_path / "w", [(3, 1, 0)])
    (tmp_path / "kept").write_text("mine")
    with pytest.raises(UsageError, match="exists; name an absent file"):
        export_workload("vidur", workload, tmp_path / "kept")
    assert (tmp_path / "kept").read_text() == "mine"
    with pytest.raises(UsageError, match="unknown kind 'csv'; known are vidur, vllm-bench, moonca"):
        export_workload("csv", workload, tmp_path / "x")
    with pytest.raises(UsageError, match="cannot be written"):
        export_workload("vidur", workload, tmp_path / "kept" / "x")
    assert set(EXPORT_KINDS) == {"vidur", "vllm-bench", "mooncake"}
