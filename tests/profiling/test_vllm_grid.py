"""The shapes of a profile are ones that the engine can run, and reach its limits."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_gpusim.profiling.vllm.grid import Shape, shapes_of

CPU_BENCHMARK = {
    "max_num_seqs": 32,
    "max_num_batched_tokens": 512,
    "max_model_len": 512,
    "block_size": 32,
    "num_gpu_blocks": 300,
}


@given(
    seats=st.integers(1, 300),
    budget=st.integers(1, 9000),
    longest=st.integers(48, 40_000),
    block=st.sampled_from([16, 32, 128]),
    blocks=st.integers(2, 5000),
    quick=st.booleans(),
)
def test_every_shape_can_be_run(
    seats: int, budget: int, longest: int, block: int, blocks: int, quick: bool
) -> None:
    engine = {
        "max_num_seqs": seats,
        "max_num_batched_tokens": budget,
        "max_model_len": longest,
        "block_size": block,
        "num_gpu_blocks": blocks,
    }
    for shape in shapes_of(engine, quick=quick):
        assert 1 <= shape.num_tokens <= budget
        assert len(shape.prefills) + shape.num_decodes <= seats
        assert shape.blocks(block) <= blocks - 1
        for tokens, context in shape.prefills:
            assert tokens + context < longest
            assert context % block == 0
        if shape.num_decodes:
            # Each of them yields a token in the settling step and in each measured one.
            assert shape.decode_context % block == 1
            assert shape.decode_context + shape.steps + 1 <= longest


def _extent(shapes: list[Shape], value: Any) -> tuple[int, int]:
    values = [value(shape) for shape in shapes]
    return min(values), max(values)


@pytest.mark.parametrize("quick", [False, True])
def test_the_benchmark_settings_are_covered(quick: bool) -> None:
    shapes = shapes_of(CPU_BENCHMARK, quick=quick)
    assert _extent(shapes, lambda s: s.num_tokens) == (1, 512)
    decodes = [s for s in shapes if not s.prefills]
    assert _extent(decodes, lambda s: s.num_decodes) == (1, 32)
    assert _extent(decodes, lambda s: s.decode_context) == (1, 481)
    alone = [s for s in shapes if len(s.prefills) == 1 and not s.num_decodes]
    assert _extent(alone, lambda s: s.prefills[0][0]) == (1, 507)
    assert max(s.prefills[0][1] for s in alone) == 480
    mixed = [s for s in shapes if s.prefills and s.num_decodes]
    assert _extent(mixed, lambda s: s.num_decodes) == (1, 24)


def test_quick_is_less() -> None:
    def cost(quick: bool) -> int:
        return sum(s.num_tokens * s.steps for s in shapes_of(CPU_BENCHMARK, quick=quick))

    assert cost(True) < cost(False) * 0.7
