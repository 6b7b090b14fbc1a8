"""Bundles of AIConfigurator's silicon data, against the package's own parquet tables."""

from __future__ import annotations

import argparse
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pytest_gpusim.bundle import Bundle, read_bundle
from pytest_gpusim.bundle_checks.checks import check_bundle
from pytest_gpusim.cli import main
from pytest_gpusim.deployment import EngineSettings, ModelShape
from pytest_gpusim.deployment.models import (
    LLAMA_3_1_8B,
    LLAMA_3_1_70B,
    MINIMAX_M2_5,
    QWEN3_0_6B,
    QWEN3_30B_A3B,
)
from pytest_gpusim.deployment.quantization import Quantization
from pytest_gpusim.errors import EngineError, InputError, UsageError
from pytest_gpusim.profiling.aiconfigurator import (
    SOURCE,
    _require_divisible,
    compose,
)
from pytest_gpusim.profiling.silicon_collectives import all_reduce_ms, collectives
from pytest_gpusim.profiling.silicon_files import PACKAGE
from pytest_gpusim.profiling.silicon_fusions import NOTHING, Fusions, default_fusions
from pytest_gpusim.profiling.silicon_rows import with_longer_contexts, without_contradictions
from pytest_gpusim.profiling.silicon_tables import SiliconTables, open_tables
from pytest_gpusim.profiling.silicon_trust import distrusted
from pytest_gpusim.registry import builtin_registry
from pytest_gpusim.serving.steptime import StepFeatures, StepTimeModel

needs_package = pytest.mark.skipif(
    find_spec(PACKAGE) is None or find_spec("pyarrow") is None,
    reason="the extra 'silicon' is not installed",
)


def produce(out: Path, *options: str, model: str = QWEN3_0_6B.name) -> Bundle:
    parser = argparse.ArgumentParser()
    SOURCE.add_arguments(parser)
    arguments = parser.parse_args(["--system", "a100_sxm", "--model", model, *options])
    SOURCE.produce(arguments, builtin_registry(), out)
    return read_bundle(out)


def parquet(name: str) -> pd.DataFrame:
    tables = open_tables("a100_sxm", "vllm", "0.14.0")
    (path,) = (tables.root / "data" / "a100_sxm").glob(f"*/vllm/0.14.0/{name}")
    return pd.read_parquet(path)


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return produce(tmp_path_factory.mktemp("qwen") / "bundle")


@needs_package
def test_products_are_those_of_the_tables(qwen: Bundle) -> None:
    gemm = parquet("gemm_perf.parquet")
    row = qwen.mlp[qwen.mlp["num_tokens"] == 128].iloc[0]
    # QKV of 16 + 2 x 8 heads of 128, gate and up of 3,072 each.
    for operator, n, k in (
        ("attn_pre_proj", 4096, 1024),
        ("attn_post_proj", 1024, 2048),
        ("mlp_up_proj", 6144, 1024),
        ("mlp_down_proj", 1024, 3072),
    ):
        rows = gemm[(gemm["m"] == 128) & (gemm["n"] == n) & (gemm["k"] == k)]
        assert row[f"time_stats.{operator}.median"] == pytest.approx(rows["latency"].iloc[0])


@needs_package
def test_attention_is_that_of_the_tables(qwen: Bundle) -> None:
    table = parquet("generation_attention_perf.parquet")
    heads = (table["num_heads"] == 16) & (table["num_key_value_heads"] == 8)
    rows = table[heads & (table["batch_size"] == 8) & (table["step"] == 1023)]
    decode = qwen.attention[~qwen.attention["is_prefill"]]
    ours = decode[(decode["batch_size"] == 8) & (decode["kv_cache_size"] == 1023)]
    assert ours["time_stats.attn_decode.median"].iloc[0] == pytest.approx(rows["latency"].iloc[0])
    prefill = qwen.attention[qwen.attention["is_prefill"]].set_index(
        ["prefill_chunk_size", "kv_cache_size"]
    )["time_stats.attn_prefill.median"]
    table = parquet("context_attention_perf.parquet")
    heads = (table["num_heads"] == 16) & (table["num_key_value_heads"] == 8)
    whole = table[heads & (table["batch_size"] == 1)].set_index("isl")["latency"]
    assert prefill[2048, 0] == pytest.approx(whole[2048])
    # The second half of 4,096 tokens is three quarters of their triangle.
    assert prefill[2048, 2048] == pytest.approx(0.75 * whole[4096], rel=1e-6)


@needs_package
def test_between_measured_widths_products_are_interpolated() -> None:
    tables = open_tables("a100_sxm", "vllm", "0.14.0")
    ms, times = tables.gemm_ms(28672, 4096)
    low, high = (dict(zip(*tables.gemm_ms(n, 4096), strict=True)) for n in (16384, 65536))
    assert times[ms.index(512)] == pytest.approx(0.75 * low[512] + 0.25 * high[512])


@needs_package
def test_what_is_not_measured_is_not_made_up(tmp_path: Path) -> None:
    tables = open_tables("a100_sxm", "vllm", None)
    with pytest.raises(UsageError, match="n is 100000, measured are 32 to 65536"):
        tables.gemm_ms(100_000, 4096)
    with pytest.raises(UsageError, match=r"has no head_dim 96, measured are (\d+, )*128"):
        tables.decode_ms(32, 8, 96)
    with pytest.raises(UsageError, match=r"has no kv_cache_dtype int3, measured are .*bfloat16"):
        tables.decode_ms(32, 8, 128, "int3")
    with pytest.raises(UsageError, match="all_reduce: has no num_gpus 3, measured are 2, 4, 8"):
        tables.collective_ms("all_reduce", 3)
    with pytest.raises(UsageError, match="does not divide 16 heads"):
        produce(tmp_path / "bundle", "--tensor-parallel-size", "3")
    assert not (tmp_path / "bundle").exists()


@needs_package
def test_the_bundle_says_what_was_priced_and_how(qwen: Bundle) -> None:
    notes = " ".join(qwen.meta["notes"])
    assert "memory traffic" in notes
    assert "widest measured width, 65536" in notes
    assert qwen.meta["hardware"] == "a100"
    assert qwen.meta["device_name"] == "NVIDIA A100-SXM4-80GB"
    assert qwen.meta["engine_version"] == "0.14.0"
    checks = check_bundle(qwen.path, registry=builtin_registry(), model=QWEN3_0_6B)
    assert not [check for check in checks if check.status == "fail"]


@needs_package
def test_tensor_parallel_bundles_have_collectives(tmp_path: Path) -> None:
    bundle = produce(tmp_path / "b", "--tensor-parallel-size", "4", model=LLAMA_3_1_8B.name)
    table = parquet("custom_allreduce_perf.parquet")
    row = table[
        (table["num_gpus"] == 4)
        & (table["message_size"] == 1048576)
        & (table["backend"] == "vllm_graph")
    ]
    reduced = bundle.all_reduce.set_index("size_bytes")["time_ns"]
    assert reduced[2 * 1048576] == round(row["latency"].iloc[0] * 1e6)
    alone = produce(tmp_path / "a", model=LLAMA_3_1_8B.name)
    sharded, whole = (
        b.mlp.set_index("num_tokens")["time_stats.mlp_up_proj.median"] for b in (bundle, alone)
    )
    assert sharded[4096] < 0.5 * whole[4096]


class Gathers:
    """Collectives of known times: size / 1,000 ns, up to so many bytes."""

    def __init__(self, largest: int) -> None:
        self._largest = largest

    def collective_ms(self, operation: str, workers: int) -> tuple[np.ndarray, np.ndarray]:
        sizes = np.array([0, self._largest if operation == "all_gather" else 1 << 30])
        return sizes, sizes * 1e-9


def test_gathers_beyond_the_table_are_left_out_not_flattened() -> None:
    per_sequence = pd.DataFrame(
        {"operator": ["lm_head"] * 3 + ["sampler"] * 3, "sequences": [1, 8, 64] * 2, "time_ns": 7}
    )
    logits = LLAMA_3_1_8B.vocab_size * 2
    _, kept, notes = collectives(
        Gathers(8 * logits),  # type: ignore[arg-type]
        LLAMA_3_1_8B,
        4,
        [1],
        {"emb": [0.0]},
        per_sequence,
        NOTHING,
    )
    assert kept["sequences"].tolist() == [1, 8, 1, 8]
    assert kept["time_ns"].tolist() == [7 + round(logits / 1e3), 7 + round(8 * logits / 1e3), 7, 7]
    assert "more than 8 sequences" in notes[-1]
    with pytest.raises(UsageError, match=f"{logits} bytes are needed, measured are 9"):
        collectives(
            Gathers(9),  # type: ignore[arg-type]
            LLAMA_3_1_8B,
            4,
            [1],
            {"emb": [0.0]},
            per_sequence,
            NOTHING,
        )


@pytest.mark.parametrize(
    ("changes", "workers", "words"),
    [
        ({}, 0, "does not divide 32 heads"),
        ({"num_q_heads": 12}, 8, "does not divide 12 heads"),
        ({"num_q_heads": 24, "num_kv_heads": 6}, 4, "6 key heads can neither"),
        ({"intermediate_size": 14338}, 4, "does not divide 14338 columns"),
    ],
)
def test_a_degree_that_does_not_fit_is_refused(
    changes: dict[str, int], workers: int, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        _require_divisible(replace(LLAMA_3_1_8B, **changes), workers)


def test_key_heads_may_be_split_or_copied() -> None:
    for workers in (1, 2, 4, 8, 16, 32):
        _require_divisible(LLAMA_3_1_8B, workers)


@needs_package
@pytest.mark.parametrize(
    ("system", "framework", "version", "words"),
    [
        ("a100", "vllm", None, "--system a100: known are a100_pcie, a100_sxm"),
        ("l4", "vllm", None, "--framework vllm: l4 has none; systems that have it: a100_sxm, "),
        ("a100_sxm", "tgi", None, "--framework tgi: a100_sxm has sglang, trtllm, vllm"),
        ("a100_sxm", "vllm", "0.19.0", "--version 0.19.0: a100_sxm vllm has 0.14.0"),
    ],
)
def test_unknown_names_list_the_known_ones(
    system: str, framework: str, version: str | None, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        open_tables(system, framework, version)


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name, package=None: None)
    with pytest.raises(EngineError, match=r"pytest-gpusim\[silicon\]"):
        open_tables("a100_sxm", "vllm", None)


@needs_package
def test_other_models_of_the_family_compose(tmp_path: Path) -> None:
    shape = replace(QWEN3_0_6B, name="Qwen/Qwen3-8B", hidden_size=4096, num_q_heads=32)
    registry = builtin_registry()
    registry.add_model(replace(shape, intermediate_size=12288, num_layers=36))
    parser = argparse.ArgumentParser()
    SOURCE.add_arguments(parser)
    arguments = parser.parse_args(["--system", "h100_sxm", "--model", "Qwen/Qwen3-8B"])
    SOURCE.produce(arguments, registry, tmp_path / "bundle")
    assert read_bundle(tmp_path / "bundle").meta["hardware"] == "h100"


def test_rows_that_contradict_more_work_are_replaced() -> None:
    nan = float("nan")
    times = pd.DataFrame(
        {
            # A cold first row and a doubled one; a slower kernel below 256 rows is as measured.
            "cold": [31.0, 18.0, 18.0, 52.0, 26.0, 26.5],
            "kernel": [27.0, 47.0, 44.0, 40.0, 34.0, 73.0],
            # One row that is too short does not condemn all before it.
            "short": [20.0, nan, 1.0, 21.0, 22.0, 23.0],
        },
        index=[1, 128, 160, 192, 256, 512],
    )
    mended, found = without_contradictions(times)
    assert mended["cold"].tolist() == [18.0, 18.0, 18.0, 26.5, 26.0, 26.5]
    assert mended["kernel"].tolist() == times["kernel"].tolist()
    assert mended["short"].dropna().tolist() == times["short"].dropna().tolist()
    assert found == (2, 17)


def test_attention_of_many_sequences_grows_as_that_of_fewer() -> None:
    nan = float("nan")
    times = pd.DataFrame(
        {1023: [10.0, 20.0, 41.0], 2047: [20.0, 41.0, nan], 4095: [40.0, nan, nan]},
        index=[64, 128, 256],
    )
    longer = with_longer_contexts(times)
    # 20 ms more for 64 are 40 more for 128, and what 128 take more is twice that for 256.
    assert longer[4095].tolist() == [40.0, 81.0, 41.0 + 2 * (81.0 - 20.0)]
    assert longer[2047].tolist() == [20.0, 41.0, 41.0 + 2 * (41.0 - 20.0)]
    assert longer[1023].tolist() == times[1023].tolist()


@needs_package
def test_weights_and_kv_cache_are_read_from_memory() -> None:
    """Measured alone, what fits an L40S's 96 MB of cache is read faster than its memory can."""
    tables = open_tables("l40s", "vllm", None)
    rate = tables.spec["gpu"]["mem_bw"]
    decode, _ = tables.decode_ms(16, 8, 128)
    read = decode["sequences"] * decode["context"] * 2 * 8 * 128 * 2 / rate * 1e3
    assert (decode["time_ms"] >= read * (1 - 1e-9)).all()
    assert (decode["time_ms"] == read).any()
    _, times = tables.gemm_ms(4096, 4096)
    assert min(times) >= 4096 * 4096 * 2 / rate * 1e3


@needs_package
def test_tables_that_contradict_themselves_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a B200 every twelfth fp8 product takes far longer than one of more rows."""
    tables = open_tables("b200_sxm", "vllm", "0.24.0")
    rows, times = tables.gemm_ms(8192, 8192, "fp8")
    by_rows = dict(zip(rows, times, strict=True))
    assert by_rows[224] < 1.5 * by_rows[225]
    assert by_rows[1] < 1.5 * by_rows[3]
    out = tmp_path / "b"
    model = "nvidia/Llama-3.1-8B-Instruct-FP8"
    command = ["profile", "aiconfigurator", "--system", "b200_sxm", "--model", model]
    assert main([*command, "--out", str(out)]) == 0
    assert "b200_sxm vllm 0.24.0 gemm: 2,153 of 35,742 fp8" in capsys.readouterr().err
    checks = {check.name: check for check in check_bundle(out, registry=builtin_registry())}
    assert checks["source_tables"].status == "warn"
    # Experts in fp8 with one scale: 3 to 5 times bfloat16's on a H200, half of them on a B200.
    shape = replace(QWEN3_30B_A3B, quantization=Quantization("fp8"))
    slow, fast = (
        distrusted(open_tables(system, "vllm", None), shape, 2, False)
        for system in ("h200_sxm", "b200_sxm")
    )
    assert "moe: experts in fp8 take" in slow[-1]
    assert not any("moe" in text for text in fast)


@pytest.mark.parametrize(
    ("release", "capability", "degree", "largest"),
    [
        ((0, 24), 90, 8, 1 << 19),
        ((0, 24), 100, 4, 32 << 20),
        ((0, 18), 103, 4, 0),
        ((0, 24), 103, 4, 64 << 20),
        ((0, 12), 100, 4, 0),
        ((0, 24), 80, 4, 0),
        ((0, 24), 100, 1, 0),
        ((0, 24), 100, 6, 0),
    ],
)
def test_releases_fuse_all_reduces_up_to_a_size(
    release: tuple[int, int], capability: int, degree: int, largest: int
) -> None:
    assert default_fusions(release, capability, degree).all_reduce_bytes == largest


@needs_package
def test_a_fused_all_reduce_takes_its_norm_along(tmp_path: Path) -> None:
    """Two B200, 128 tokens of 8,192: 9.8 us for both (FlashInfer's pull request 1507)."""
    tables, shape = open_tables("b200_sxm", "vllm", "0.24.0"), LLAMA_3_1_70B
    fusions = default_fusions((0, 24), tables.sm_version, 2)
    models = []
    for name, chosen in (("fused", fusions), ("apart", NOTHING)):
        compose(
            tables, shape, tensor_parallel=2, block_size=16, hardware="b200",
            out=tmp_path / name, fusions=chosen,
        )  # fmt: skip
        bundle = read_bundle(tmp_path / name)
        models.append(StepTimeModel(bundle, shape, EngineSettings(tensor_parallel_size=2)))
    fused, apart = (model.layer_times(128) for model in models)
    assert fused["all_reduce"] + fused["input_layernorm"] == pytest.approx(9800, rel=0.05)
    # Without fusion the norm is a kernel, and the all-reduce is vLLM's own.
    assert apart["input_layernorm"] - fused["input_layernorm"] == pytest.approx(3000, rel=1e-3)
    sizes, times = tables.collective_ms("all_reduce", 2)
    assert apart["all_reduce"] == pytest.approx(np.interp(2 << 20, sizes, times) * 1e6, rel=1e-3)
    # A message smaller than one token's, and one beyond the limit, are reduced as before.
    found = all_reduce_ms(tables, 2, 16384, Fusions(1 << 20))
    assert (np.diff(found[0]) > 0).all()
    for size in (16, (1 << 20) + 1, 1 << 24):
        assert np.interp(size, *found) == pytest.approx(np.interp(size, sizes, times))


def hopper() -> SiliconTables:
    return open_tables("h100_sxm", "vllm", "0.24.0")


@needs_package
def test_quantized_products_are_in_the_checkpoints_numbers(tmp_path: Path) -> None:
    """fp8 per tensor, its input quantized by the norm before; fp8 KV; the LM head as it is."""
    tables, shape = hopper(), LLAMA_3_1_8B
    shape = replace(shape, quantization=Quantization("fp8", kv_cache_dtype="fp8"))
    compose(tables, shape, tensor_parallel=1, block_size=16, hardware="h100", out=tmp_path / "b")
    bundle = read_bundle(tmp_path / "b")
    assert (bundle.meta["quantization"], bundle.meta["kv_cache_dtype"]) == ("fp8", "fp8")
    row = bundle.mlp[bundle.mlp["num_tokens"] == 64].iloc[0]
    product = dict(zip(*tables.gemm_ms(4096, 4096, "fp8"), strict=True))[64]
    assert row["time_stats.attn_post_proj.median"] == pytest.approx(product)
    tokens, quantizing = tables.quantize_ms(4096)
    up = dict(zip(*tables.gemm_ms(28672, 4096, "fp8"), strict=True))[64]
    alone = up - quantizing[tokens.index(64)]
    assert row["time_stats.mlp_up_proj.median"] == pytest.approx(alone)
    plain = tables.decode_ms(32, 8, 128)[0].set_index(["sequences", "context"])["time_ms"]
    # Alone: pandas 2 gives a part of a table for a key of an index that has others twice.
    quantized = bundle.attention[bundle.attention["batch_size"] == 64]
    decode = quantized.set_index(["batch_size", "kv_cache_size"])["time_stats.attn_decode.median"]
    assert decode[64, 4095] < 0.75 * plain[64, 4095]
    with pytest.raises(UsageError, match="has no int8 products, only bfloat16"):
        tables.gemm_ms(4096, 4096, "int8")


@needs_package
def test_small_products_in_blocks_are_not_the_hosts_launches() -> None:
    tables = hopper()
    raw = dict(zip(*tables.gemm_ms(4096, 4096, "fp8_block"), strict=True))
    mended = dict(zip(*tables.block_gemm_ms(4096, 4096), strict=True))
    one_scale = dict(zip(*tables.gemm_ms(4096, 4096, "fp8"), strict=True))
    # 16 MB are read in 5 us at the data sheet's rate; the table says more than ten times that.
    assert raw[1] > 0.05
    assert mended[1] == one_scale[1] < 0.02
    # A product that takes the device longer than its launches is as measured.
    assert mended[32768] == raw[32768]


@needs_package
def test_experts_are_those_of_the_moe_table(tmp_path: Path) -> None:
    tables, shape = hopper(), QWEN3_30B_A3B
    out = tmp_path / "b"
    compose(tables, shape, tensor_parallel=2, block_size=16, hardware="h100", out=out)
    bundle = read_bundle(out)
    assert bundle.moe is not None
    frame = tables.moe_rows()
    rows = frame[
        (frame["hidden_size"] == 2048) & (frame["inter_size"] == 768) & (frame["topk"] == 8)
        & (frame["num_experts"] == 128) & (frame["moe_dtype"] == "bfloat16")
        & (frame["moe_tp_size"] == 2) & (frame["moe_ep_size"] == 1)
        & (frame["distribution"] == "power_law_1.2") & (frame["num_tokens"] == 64)
    ]  # fmt: skip
    checks = check_bundle(out, registry=builtin_registry(), model=shape)
    assert not [check for check in checks if check.status == "fail"]
    router = dict(zip(*tables.gemm_ms(128, 2048), strict=True))[64]
    found = bundle.moe[bundle.moe["num_tokens"] == 64]["time_ns"].iloc[0]
    assert found / 1e6 == pytest.approx(rows["latency"].iloc[0] + router, abs=1e-5)
    # No layer has an MLP, and each step reduces twice a layer: after attention and after experts.
    model = StepTimeModel(bundle, shape, EngineSettings(tensor_parallel_size=2))
    parts = model.breakdown(StepFeatures([], 64, 64 * 100, 64))
    assert "mlp_up_proj" not in parts
    assert parts["moe"] == pytest.approx(48 * found)
    sizes, times = tables.collective_ms("all_reduce", 2)
    one = np.interp(64 * 2048 * 2, sizes, times) * 1e6
    assert parts["all_reduce"] == pytest.approx(2 * 48 * one, rel=1e-3)
    with pytest.raises(InputError, match=r"moe.csv.*deals experts out to 2, profiled are 1"):
        StepTimeModel(
            bundle, shape, EngineSettings(tensor_parallel_size=2, enable_expert_parallel=True)
        )


@needs_package
def test_norms_over_all_heads_cost_a_small_all_reduce(tmp_path: Path) -> None:
    out = tmp_path / "b"
    compose(
        hopper(), MINIMAX_M2_5, tensor_parallel=4, block_size=16, hardware="h100", out=out,
        expert_parallel=True,
    )  # fmt: skip
    bundle = read_bundle(out)
    settings = EngineSettings(tensor_parallel_size=4, enable_expert_parallel=True)
    assert bundle.engine_settings.enable_expert_parallel
    model = StepTimeModel(bundle, MINIMAX_M2_5, settings)
    parts = model.breakdown(StepFeatures([], 16, 16 * 100, 16))
    sizes, times = hopper().collective_ms("all_reduce", 4)
    ns = np.interp([16 * 3072 * 2, 16 * 2 * 4], sizes, times) * 1e6
    assert parts["all_reduce"] == pytest.approx(62 * (2 * ns[0] + ns[1]), rel=1e-3)


@needs_package
@pytest.mark.parametrize(
    ("shape", "degree", "message"),
    [
        (replace(QWEN3_30B_A3B, quantization=Quantization("int8")), 1, "has no int8 products"),
        (MINIMAX_M2_5, 8, "need moe_tp_size 8, measured are 1, 2, 4"),
        (replace(QWEN3_30B_A3B, hidden_size=4096), 1, "need inter_size 768"),
    ],
)
def test_experts_that_were_not_measured_are_refused(
    tmp_path: Path, shape: ModelShape, degree: int, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        compose(
            hopper(), shape, tensor_parallel=degree, block_size=16, hardware="h100",
            out=tmp_path / "b",
        )  # fmt: skip
