"""From samples whose times are known to tables, by hand."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from pytest_gpusim.bundle import read_bundle, write_bundle
from pytest_gpusim.deployment import EngineSettings
from pytest_gpusim.deployment.experts import Experts
from pytest_gpusim.profiling.vllm.campaign import Sample
from pytest_gpusim.profiling.vllm.grid import Shape, shapes_of
from pytest_gpusim.profiling.vllm.tables import repeatability, tables_of
from pytest_gpusim.serving.steptime import StepFeatures, StepTimeModel
from tests.factories import TINY
from tests.profiling.test_vllm_grid import CPU_BENCHMARK

ENGINE = {
    "tensor_parallel_size": 1,
    "block_size": 16,
    "max_model_len": 256,
    "max_num_batched_tokens": 21,
    "attention_backend": "CPU_ATTN",
}
MODEL = replace(TINY, num_layers=4)
PREFILL, DECODE = Shape(((10, 0),), 0, 0), Shape((), 3, 33)
MIXED = Shape(((20, 16),), 3, 33)
OPERATORS = (
    "emb", "input_layernorm", "attn_pre_proj", "qk_norm", "attn_rope", "attention",
    "attn_post_proj", "post_attention_layernorm", "mlp_up_proj", "mlp_act", "mlp_down_proj",
    "final_layernorm", "lm_head", "sampler",
)  # fmt: skip


def _samples() -> list[Sample]:
    """Operator i of a step of n tokens: (i + 1) * n * 4000 ns; engine time: 5000 ns a pass."""
    samples = []
    for number in range(3):
        for shape in (PREFILL, DECODE, MIXED):
            times = {name: (i + 1) * shape.num_tokens * 4000 for i, name in enumerate(OPERATORS)}
            wall = sum(times.values()) + 5000 * (number + 1)
            context = shape.decode_context + 0.5 if not shape.prefills else 33.0
            samples.append(Sample(shape, number, wall, context, times))
    return samples


def test_experts_are_a_table_of_their_own(tmp_path: Path) -> None:
    """Layers with experts have no MLP; with them the tables give back the steps' times."""
    experts = Experts(num_experts=8, per_token=2, width=32)
    model = replace(MODEL, architecture="Qwen3MoeForCausalLM", experts=experts)
    mlp = ("mlp_up_proj", "mlp_act", "mlp_down_proj")
    samples = []
    for sample in _samples():
        times = {name: time for name, time in sample.operators.items() if name not in mlp}
        gone = sum(time for name, time in sample.operators.items() if name in mlp)
        times["moe"] = gone
        samples.append(replace(sample, operators=times))
    tables = tables_of(samples, None, model, ENGINE)
    moe = tables["moe.csv"].set_index("num_tokens")["time_ns"]
    # Operators 8 to 10 of 4 layers: (9 + 10 + 11) * tokens * 4000 ns.
    assert moe[10] == 30 * 10 * 1000
    assert tables["mlp.csv"]["time_stats.mlp_up_proj.median"].eq(0).all()
    known = tables_of(_samples(), None, MODEL, ENGINE)
    pd.testing.assert_frame_equal(tables["overhead.csv"], known["overhead.csv"])


def test_tables_hold_times_per_layer_and_per_step(tmp_path: Path) -> None:
    tables = tables_of(_samples(), None, MODEL, ENGINE)
    mlp = tables["mlp.csv"].set_index("num_tokens")
    # In ms; operator 2 of 4 layers, and emb once per step.
    assert math.isclose(mlp.loc[10, "time_stats.attn_pre_proj.median"], 3 * 10 * 1e-3)
    assert math.isclose(mlp.loc[3, "time_stats.emb.median"], 1 * 3 * 4e-3)
    assert list(mlp.index) == [3, 10, 23]

    attention = tables["attention.csv"]
    decode = attention[~attention["is_prefill"]].iloc[0]
    assert (decode["batch_size"], decode["kv_cache_size"]) == (3, 34)
    assert math.isclose(decode["time_stats.attn_decode.median"], 6 * 3 * 1e-3)

    rows = tables["mixed_attention.csv"].to_numpy().tolist()
    assert rows == [
        [0, 0, 3, 34, 6 * 3 * 1000],
        [10, 0, 0, 0, 6 * 10 * 1000],
        [20, 16, 3, 33, 6 * 23 * 1000],
    ]
    head = tables["per_sequence.csv"].query("operator == 'lm_head'")
    assert head[["sequences", "time_ns"]].to_numpy().tolist() == [
        [1, 13 * 10 * 4000], [3, 13 * 3 * 4000], [4, 13 * 23 * 4000],
    ]  # fmt: skip
    overhead = tables["overhead.csv"].to_numpy().tolist()
    assert overhead == [[0, 3, 10_000], [10, 1, 10_000], [20, 4, 10_000]]

    meta = {"model": MODEL.name, "model_shape": MODEL.to_json(), "dtype": "float32"}
    write_bundle(tmp_path / "bundle", tables, meta)
    assert len(read_bundle(tmp_path / "bundle").mlp) == 3


def test_the_joint_grid_is_not_closed_beyond_what_is_measured() -> None:
    alone, beside = Shape(((30, 0),), 0, 0), Shape(((20, 0),), 3, 33)
    samples = [
        Sample(shape, 0, 10**9, 33.0, dict.fromkeys(OPERATORS, 4000 * shape.num_tokens))
        for shape in (PREFILL, alone, beside)
    ]
    rows = tables_of(samples, None, MODEL, {**ENGINE, "max_num_batched_tokens": 500})
    grid = rows["mixed_attention.csv"].query("n_decode > 0")
    assert grid[["prefill_chunk", "time_ns"]].to_numpy().tolist() == [[20, 23_000], [30, 33_000]]


def test_a_batch_at_one_context_tells_nothing_of_attention() -> None:
    """Two sequences at two contexts, three at one: attention is known of two alone."""
    shapes = (PREFILL, Shape((), 2, 33), Shape((), 2, 65), DECODE)
    samples = [
        Sample(shape, 0, 10**6, shape.decode_context + 0.5, dict.fromkeys(OPERATORS, 4000))
        for shape in shapes
    ]
    tables = tables_of(samples, None, MODEL, ENGINE)
    decode = tables["attention.csv"].query("~is_prefill")
    assert decode["batch_size"].tolist() == [2, 2]
    assert tables["mlp.csv"]["num_tokens"].tolist() == [2, 3, 10]
    assert sorted(set(tables["overhead.csv"]["num_sequences"]) - {1}) == [2, 3]


def test_another_engines_steps_set_the_engine_time() -> None:
    samples = _samples()
    walls = [replace(s, operators={}, wall_ns=s.wall_ns - 7_000_000) for s in samples]
    overhead = tables_of(samples, walls, MODEL, ENGINE)["overhead.csv"]
    assert overhead["time_ns"].tolist() == [10_000 - 7_000_000] * 3


def test_engine_time_makes_up_for_the_skew_of_steps() -> None:
    # In every third pass a step takes half as long again: the mean is 7/6 of the median.
    def wall(sample: Sample) -> int:
        return round(6e9 * (1.5 if sample.number == 2 else 1.0))

    samples = [replace(s, wall_ns=wall(s), operators={}) for s in _samples()]
    overhead = tables_of(samples, None, MODEL, ENGINE)["overhead.csv"]
    assert overhead["time_ns"].tolist() == [7_000_000_000] * 3


def test_repeatability_is_the_spread_between_passes() -> None:
    found = repeatability(_samples())
    assert found["passes"] == 3
    assert found["coefficient_of_variation"]["lm_head"] == 0.0
    assert found["coefficient_of_variation"]["step"] > 0.0
    assert "served_engine" not in found


def test_repeatability_of_the_served_engine_is_told_apart() -> None:
    samples = _samples()
    walls = [replace(s, operators={}, wall_ns=1000 * (s.number + 9)) for s in samples]
    found = repeatability(samples, walls)
    assert found["coefficient_of_variation"] == repeatability(samples)["coefficient_of_variation"]
    # Population deviation of 9, 10 and 11 over their mean.
    assert found["served_engine"] == {"passes": 3, "coefficient_of_variation": {"step": 0.0816}}


@pytest.mark.parametrize("quick", [False, True])
def test_a_linear_engine_is_reproduced_everywhere_within_its_limits(
    tmp_path: Path, quick: bool
) -> None:
    def operator_ns(tokens: int) -> int:
        return 40_000 + 4000 * tokens

    def attention_ns(chunk: int, context: float, decodes: int, decode_context: float) -> float:
        return 8000 + 400 * chunk + 40 * context + decodes * (200 + 4 * decode_context)

    samples = []
    for shape in shapes_of(CPU_BENCHMARK, quick=quick):
        chunk = sum(tokens for tokens, _ in shape.prefills)
        context = sum(cached for _, cached in shape.prefills)
        middle = shape.decode_context + 0.5 * (not shape.prefills)
        times = dict.fromkeys(OPERATORS, operator_ns(shape.num_tokens))
        times["lm_head"] = times["sampler"] = 50_000
        times["attention"] = round(attention_ns(chunk, context, shape.num_decodes, middle))
        wall = sum(times.values()) + 1_000_000
        samples.append(Sample(shape, 0, wall, middle, times))
    tables = tables_of(samples, None, MODEL, {**ENGINE, **CPU_BENCHMARK})
    meta = {"model": MODEL.name, "model_shape": MODEL.to_json(), "dtype": "float32"}
    write_bundle(tmp_path / "bundle", tables, meta)
    model = StepTimeModel(read_bundle(tmp_path / "bundle"), MODEL, EngineSettings())

    draw = random.Random(0)
    for _ in range(300):
        decodes = draw.randint(0, 24)
        # 300 blocks of 32 tokens hold so much; half a block each is lost.
        longest = min(480, 9000 // max(1, decodes) - 32)
        contexts = [draw.randint(4, longest) for _ in range(decodes)]
        chunk = draw.randint(1, 512 - decodes if decodes else 400)
        chunk = draw.choice([0, chunk]) if decodes else chunk
        context = draw.choice([0, 32]) if chunk else 0
        features = StepFeatures(
            [(chunk, context)] if chunk else [], decodes, sum(contexts), decodes + bool(chunk)
        )
        mean = sum(contexts) / decodes if decodes else 0
        expected = (len(OPERATORS) - 3) * operator_ns(chunk + decodes) + 1_100_000
        expected += attention_ns(chunk, context, decodes, mean)
        found = model.time(features)
        assert math.isclose(found.time_ns, expected, rel_tol=0.02), features
        if not quick:
            assert not found.extrapolated, features
