"""What a workload can reach, against sizes counted by hand."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from pytest_gpusim.bundle_checks.coverage import coverage
from pytest_gpusim.bundle_checks.step_bounds import step_bounds
from pytest_gpusim.workload import Workload, WorkloadRequest
from pytest_gpusim.workload.prompts import Prompt
from tests.factories import ENGINE, make_bundle


def workload(*lengths: tuple[int, int]) -> Workload:
    requests = [WorkloadRequest(i, i, p, d, 0) for i, (p, d) in enumerate(lengths)]
    return Workload(requests, None, {}, Path("none"))


def test_a_lone_request_reaches_its_own_length():
    reach = step_bounds(workload((100, 20)), ENGINE)
    # Resumed after a preemption, its 119 computed tokens are one chunk.
    assert (reach.tokens, reach.chunk, reach.sequences) == (119, 119, 1)
    assert reach.context.tolist() == [119]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, (256, 256, 16)),
        ({"max_num_seqs": 4}, (256, 256, 4)),
        ({"max_num_batched_tokens": 4096}, (1919, 1904, 16)),
        ({"long_prefill_token_threshold": 8}, (143, 128, 16)),
        # 15 usable blocks, 7 a prompt: two at once.
        ({"num_gpu_blocks": 16}, (239, 238, 2)),
    ],
)
def test_the_engines_limits_bound_a_step(change, expected):
    reach = step_bounds(workload(*[(100, 20)] * 30), replace(ENGINE, **change))
    assert (reach.tokens, reach.chunk, reach.sequences) == expected


def test_the_share_of_requests_that_outgrow_the_profile(tmp_path):
    bundle = make_bundle(tmp_path / "bundle", mixed=True)
    engine = replace(ENGINE, max_model_len=None, num_gpu_blocks=100_000)
    long = workload(*[(20_000, 2)] * 3, *[(100, 2)] * 7)
    found = {(each.table, each.feature): each for each in coverage(bundle, long, engine)}
    context = found["mixed_attention.csv", "decode context"]
    assert context.share == pytest.approx(0.3)
    assert context.profiled[1] == 4096
    assert context.possible[1] == 20_001
    assert ("mlp.csv", "num_tokens") not in found


def test_requests_of_one_prompt_hold_its_blocks_once():
    # 15 usable blocks. Each request but the first has one block of its own, the last of its prompt.
    engine = replace(ENGINE, num_gpu_blocks=16)
    requests = [WorkloadRequest(i, 0, 100, 20, 0) for i in range(30)]
    same = Workload(requests, None, {}, Path("none"))
    assert step_bounds(same, engine).sequences == 15
    assert step_bounds(same, engine).kv_tokens is None
    alone = replace(engine, enable_prefix_caching=False)
    assert step_bounds(same, alone).sequences == 2
    assert step_bounds(same, alone).kv_tokens == 15 * 16


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        # Of 7 blocks each, 4 are those of the first prompt: 3 of their own, 5 times in 15.
        (lambda i: Prompt(i, seed=i, num_tokens=100, **after(i, 64)), 5),
        (lambda i: Prompt(i, seed=i, num_tokens=100, **after(i, 50)), 3),
        (lambda i: Prompt(i, seed=i, num_tokens=100), 2),
        # Mooncake's blocks of 64 tokens: the first is known, the second is each prompt's own.
        (lambda i: Prompt(i, block_hashes=(7, 100 + i), block_tokens=64), 5),
        (lambda i: Prompt(i, seed=1, num_tokens=100), 15),
        (lambda i: Prompt(i, token_ids=(1,) * 100), 15),
    ],
)
def test_shared_prefixes_hold_their_blocks_once(prompt, expected):
    requests = [WorkloadRequest(i, i, 100, 20, 0) for i in range(30)]
    prompts = {i: prompt(i) for i in range(30)}
    reach = step_bounds(
        Workload(requests, prompts, {}, Path("none")), replace(ENGINE, num_gpu_blocks=16)
    )
    assert reach.sequences == expected


def after(prompt_id, tokens):
    return {"prefix_of": 0, "prefix_tokens": tokens} if prompt_id else {}


def joint(*points):
    names = ["prefill_chunk", "kv_prefill", "n_decode", "kv_decode", "time_ns"]
    return pd.DataFrame([(*point, 1000) for point in points], columns=names)


PREFILL = [(t, c, 0, 0) for t in (1, 256) for c in (0, 4096)]
DECODE = [(0, 0, n, c) for n in (1, 16) for c in (0, 4096)]


@pytest.mark.parametrize(
    ("points", "tables"),
    [
        ([], {"attention.csv"}),
        (PREFILL, {"attention.csv", "mixed_attention.csv"}),
        (DECODE, {"attention.csv", "mixed_attention.csv"}),
        (PREFILL + DECODE, {"mixed_attention.csv"}),
    ],
)
def test_a_plane_that_the_joint_grid_lacks_is_that_of_the_attention_table(tmp_path, points, tables):
    bundle = make_bundle(tmp_path / "bundle", tables={"mixed_attention.csv": joint(*points)})
    long = workload(*[(20_000, 2)] * 20)
    found = coverage(bundle, long, replace(ENGINE, max_model_len=None, num_gpu_blocks=None))
    assert {each.table for each in found if "context" in each.feature} == tables
    assert all("nan" not in str(each) for each in found)


def test_a_chunk_whose_contexts_end_earlier_is_named(tmp_path):
    # Each size alone lies in its range; 256 tokens are profiled without a context only.
    points = [*PREFILL[:3], *DECODE]
    bundle = make_bundle(tmp_path / "bundle", tables={"mixed_attention.csv": joint(*points)})
    mine = workload(*[(1000, 2)] * 3, *[(200, 2)])
    (found,) = coverage(bundle, mine, ENGINE)
    assert found.feature == "prefill context of a chunk of 256"
    assert (found.profiled, found.possible) == ((0, 0), (0, 1001 - 256))
    # Of the pairs of a request with a chunk that it can have (4 and 3), 3 lie outside.
    assert found.share == pytest.approx(3 / 7)


def test_a_batch_whose_contexts_end_earlier_is_named(tmp_path):
    points = [*PREFILL, (0, 0, 1, 0), (0, 0, 1, 4096), (0, 0, 8, 0), (0, 0, 8, 500), (0, 0, 16, 9)]
    bundle = make_bundle(tmp_path / "bundle", tables={"mixed_attention.csv": joint(*points)})
    mine = workload(*[(999, 2)] * 8)
    (found,) = coverage(bundle, mine, ENGINE)
    assert found.feature == "mean decode context of a batch of 8"
    assert (found.profiled, found.possible) == ((0, 500), (0, 1000))
    assert found.share == pytest.approx((0 + 0.5) / 2)
    # 64 usable blocks hold 1,024 tokens: at most one such request at a time.
    assert coverage(bundle, mine, replace(ENGINE, num_gpu_blocks=65)) == []


def test_a_joint_grid_that_ends_before_its_planes_is_no_failure(tmp_path):
    points = [*PREFILL, *DECODE, *[(t, 0, n, 0) for t in (1, 256) for n in (1, 4)]]
    points += [(t, 4096, n, 4096) for t in (1, 256) for n in (1, 4)]
    bundle = make_bundle(tmp_path / "bundle", tables={"mixed_attention.csv": joint(*points)})
    (found,) = coverage(bundle, workload(*[(100, 2)] * 16), ENGINE)
    assert found.feature == "decode batch in one kernel"
    assert (found.profiled, found.possible, found.severe) == ((1, 4), (1, 15), False)


def test_a_tenth_of_a_million_requests_take_no_time(tmp_path):
    bundle = make_bundle(tmp_path / "bundle")
    stream = random.Random(1)
    many = workload(*[(stream.randint(1, 2000), stream.randint(1, 500)) for _ in range(100_000)])
    before = time.perf_counter()
    coverage(bundle, many, ENGINE)
    assert time.perf_counter() - before < 2
