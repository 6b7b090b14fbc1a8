"""What a workload can reach, against sizes counted by hand."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_gpusim.bundle.coverage import coverage, reach_of
from pytest_gpusim.workload import Workload, WorkloadRequest
from tests.factories import ENGINE, make_bundle


def workload(*lengths: tuple[int, int]) -> Workload:
    requests = [WorkloadRequest(i, i, p, d, 0) for i, (p, d) in enumerate(lengths)]
    return Workload(requests, None, {}, Path("none"))


def test_a_lone_request_reaches_its_own_length():
    reach = reach_of(workload((100, 20)), ENGINE)
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
    reach = reach_of(workload(*[(100, 20)] * 30), replace(ENGINE, **change))
    assert (reach.tokens, reach.chunk, reach.sequences) == expected


def test_the_share_of_requests_that_outgrow_the_profile(tmp_path):
    bundle = make_bundle(tmp_path / "bundle", mixed=True)
    engine = replace(ENGINE, max_model_len=None, num_gpu_blocks=100_000)
    long = workload(*[(20_000, 2)] * 3, *[(100, 2)] * 7)
    found = {(each.table, each.feature): each for each in coverage(bundle, long, engine)}
    context = found["mixed_attention.csv", "decode context"]
    assert context.share == pytest.approx(0.3)
    assert context.profiled[1] == 4096
    assert context.reachable[1] == 20_001
    assert ("mlp.csv", "num_tokens") not in found


def test_a_tenth_of_a_million_requests_take_no_time(tmp_path):
    bundle = make_bundle(tmp_path / "bundle")
    stream = random.Random(1)
    many = workload(*[(stream.randint(1, 2000), stream.randint(1, 500)) for _ in range(100_000)])
    before = time.perf_counter()
    coverage(bundle, many, ENGINE)
    assert time.perf_counter() - before < 2
