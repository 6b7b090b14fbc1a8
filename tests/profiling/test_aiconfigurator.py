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
from pytest_gpusim.deployment.models import LLAMA_3_1_8B, QWEN3_0_6B
from pytest_gpusim.errors import EngineError, UsageError
from pytest_gpusim.profiling.aiconfigurator import SOURCE, _collectives, _require_divisible
from pytest_gpusim.profiling.silicon_tables import PACKAGE, open_tables
from pytest_gpusim.registry import builtin_registry

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
    with pytest.raises(UsageError, match="has no head_dim 96"):
        tables.decode_ms(32, 8, 96)
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
    _, kept, notes = _collectives(
        Gathers(8 * logits),  # type: ignore[arg-type]
        LLAMA_3_1_8B,
        4,
        [1],
        {"emb": [0.0]},
        per_sequence,
    )
    assert kept["sequences"].tolist() == [1, 8, 1, 8]
    assert kept["time_ns"].tolist() == [7 + round(logits / 1e3), 7 + round(8 * logits / 1e3), 7, 7]
    assert "more than 8 sequences" in notes[-1]
    with pytest.raises(UsageError, match=f"{logits} bytes are needed, measured are 9"):
        _collectives(
            Gathers(9),  # type: ignore[arg-type]
            LLAMA_3_1_8B,
            4,
            [1],
            {"emb": [0.0]},
            per_sequence,
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
