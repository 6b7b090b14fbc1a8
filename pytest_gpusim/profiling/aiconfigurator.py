"""Bundles from AIConfigurator's silicon data: ``gpusim profile aiconfigurator``.

Matrix products, attention and collectives are measured; norms, activation, rotary embedding,
token embedding and sampling are not in the tables and are priced by memory traffic.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_gpusim.artifacts import package_version
from pytest_gpusim.bundle import write_bundle
from pytest_gpusim.bundle.schema import (
    ALL_REDUCE,
    ATTENTION,
    MIXED_ATTENTION,
    MLP,
    MOE,
    PER_SEQUENCE,
)
from pytest_gpusim.deployment.settings import release_of
from pytest_gpusim.errors import UsageError
from pytest_gpusim.profiling.composition import (
    attention_rows,
    coverage_of,
    hardware_name,
    mlp_rows,
)
from pytest_gpusim.profiling.silicon_collectives import collectives
from pytest_gpusim.profiling.silicon_fusions import NOTHING, Fusions, default_fusions
from pytest_gpusim.profiling.silicon_layers import WIDTH, dense_ms
from pytest_gpusim.profiling.silicon_moe import DISTRIBUTION, moe_rows
from pytest_gpusim.profiling.silicon_tables import PLAIN, SiliconTables, open_tables
from pytest_gpusim.profiling.silicon_trust import distrusted

if TYPE_CHECKING:
    import pandas as pd

    from pytest_gpusim.deployment import ModelShape
    from pytest_gpusim.registry import Registry

_NS = 1e6


class _Source:
    help = "kernel times that AIConfigurator's authors measured (A100, H100, H200, B200, …)"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--system", required=True, help="such as a100_sxm")
        parser.add_argument("--model", required=True, help="a known name, or a config.json")
        parser.add_argument("--framework", default="vllm", help="whose tables")
        parser.add_argument("--version", help="the framework's release; default: the newest")
        parser.add_argument(
            "--tensor-parallel-size", type=int, default=1, metavar="N", help="GPUs of the model"
        )
        parser.add_argument(
            "--enable-expert-parallel",
            action="store_true",
            help="whole experts on each device, instead of a share of every one",
        )
        parser.add_argument(
            "--kv-cache-dtype", default="auto", help="auto (the checkpoint's), bfloat16 or fp8"
        )
        parser.add_argument(
            "--engine-version",
            metavar="RELEASE",
            help="of the engine that runs, for what it fuses; default: the tables'",
        )
        parser.add_argument(
            "--block-size", type=int, default=16, metavar="TOKENS", help="of a KV block"
        )

    def produce(self, arguments: argparse.Namespace, registry: Registry, out: Path) -> None:
        tables = open_tables(arguments.system, arguments.framework, arguments.version)
        release = release_of(arguments.engine_version or tables.version)
        if release is None:
            wrong = arguments.engine_version
            raise UsageError(f"--engine-version {wrong}: expected a release such as 0.24.0")
        fusions = default_fusions(release, tables.sm_version, arguments.tensor_parallel_size)
        compose(
            tables,
            registry.model(arguments.model),
            tensor_parallel=arguments.tensor_parallel_size,
            expert_parallel=arguments.enable_expert_parallel,
            kv_cache_dtype=arguments.kv_cache_dtype,
            block_size=arguments.block_size,
            fusions=fusions if tables.framework == "vllm" else NOTHING,
            hardware=hardware_name(registry, tables.device_name),
            out=out,
        )


SOURCE = _Source()


def compose(
    tables: SiliconTables,
    shape: ModelShape,
    *,
    tensor_parallel: int,
    block_size: int,
    hardware: str,
    out: Path,
    expert_parallel: bool = False,
    kv_cache_dtype: str = "auto",
    fusions: Fusions = NOTHING,
) -> None:
    """Write the bundle of a model for one tensor-parallel degree.

    ``distrusted`` in its metadata says which of its tables contradict themselves.

    Raises:
        UsageError: The tables do not hold a shape that the model needs, or the degree does not fit.
    """
    _require_divisible(shape, tensor_parallel)
    if tensor_parallel == 1 or tables.fused_all_reduce_ms(tensor_parallel) is None:
        fusions = replace(fusions, all_reduce_bytes=0)
    notes = [
        "norms, activation, rotary embedding, token embedding and sampling are not measured: "
        "memory traffic at the system's bandwidth",
        "attention of a prefill chunk with context c is that of the whole sequence, less that of c",
        "attention of many sequences beyond their longest measured context takes so much more per "
        "token of context as that of fewer",
        "times are those of kernels alone: no time of the engine, none between kernels",
    ]
    cache = shape.kv_cache_dtype(PLAIN, kv_cache_dtype)
    tokens, dense = dense_ms(tables, shape, tensor_parallel, fusions)
    heads = shape.num_q_heads // tensor_parallel
    kv_heads = max(1, shape.num_kv_heads // tensor_parallel)
    whole, prefill_kernel = tables.prefill_ms(heads, kv_heads, shape.head_dim, cache)
    decode, decode_kernel = tables.decode_ms(heads, kv_heads, shape.head_dim, cache)
    prefill = _chunks(whole, decode)
    per_sequence, width = _per_sequence(tables, shape, tensor_parallel)
    if width < shape.vocab_size // tensor_parallel:
        notes.append(f"the LM head is priced as products of the widest measured width, {width}")
    made: dict[str, pd.DataFrame | None] = {}
    if tensor_parallel > 1:
        made[ALL_REDUCE], per_sequence, more = collectives(
            tables, shape, tensor_parallel, tokens, dense, per_sequence, fusions
        )
        notes += more
        if fusions.all_reduce_bytes:
            notes.append(
                f"all-reduces up to {fusions.all_reduce_bytes} bytes run in the kernel of the norm "
                "after them: the time of TensorRT-LLM's all-reduce, and the norm's traffic"
            )
        notes.append(
            "emb includes the all-reduce of the embedding, which is split by vocabulary, lm_head "
            "the all-gather of the logits"
        )
    if shape.experts is not None:
        made[MOE], experts = moe_rows(tables, shape, tensor_parallel, expert_parallel)
        notes.append(f"experts: {experts}, tokens over experts by {DISTRIBUTION}")
    if shape.quantization is not None and shape.quantization.scheme == "fp8_block":
        notes.append(
            "products in blocks were measured without a CUDA graph: where that measured the host, "
            "those with one scale a tensor stand for them"
        )
    made[MLP] = mlp_rows(shape, tensor_parallel, tokens, dense)
    made[ATTENTION] = attention_rows(
        shape,
        tensor_parallel,
        prefill=prefill,
        decode=decode,
        block_size=block_size,
        max_model_len=min(shape.max_position, int(decode["context"].max()) + 1),
        backend=f"{prefill_kernel}, {decode_kernel}",
    )
    made[MIXED_ATTENTION] = _joint(prefill, decode)
    made[PER_SEQUENCE] = per_sequence
    write_bundle(
        out,
        made,
        {
            "model": shape.name,
            "model_shape": shape.to_json(),
            "hardware": hardware,
            "device_name": tables.device_name,
            "engine": tables.framework,
            "engine_version": tables.version,
            "engine_mode": "compiled",
            "dtype": PLAIN,
            "quantization": shape.quantization.scheme if shape.quantization else None,
            "kv_cache_dtype": cache,
            "block_size": block_size,
            "engine_settings": {"enable_expert_parallel": True} if expert_parallel else {},
            "tensor_parallel_sizes": [tensor_parallel],
            "source": "aiconfigurator",
            "calibrated_on": [],
            "coverage": coverage_of(made),
            "repeatability": None,
            "system": tables.system,
            "aiconfigurator_core": package_version("aiconfigurator-core"),
            "notes": notes,
            "distrusted": distrusted(tables, shape, tensor_parallel, expert_parallel),
        },
    )


def _require_divisible(shape: ModelShape, workers: int) -> None:
    """Refuse a degree that vLLM refuses."""
    counts = [(shape.num_q_heads, "heads")]
    if shape.num_dense_layers:
        counts.append((shape.intermediate_size, "columns of the MLP"))
    if shape.experts is not None:
        counts.append((shape.experts.width, "columns of an expert"))
    for count, what in counts:
        if workers < 1 or count % workers:
            raise UsageError(f"--tensor-parallel-size {workers} does not divide {count} {what}")
    if shape.num_kv_heads % workers and workers % shape.num_kv_heads:
        raise UsageError(
            f"--tensor-parallel-size {workers}: {shape.num_kv_heads} key heads can neither be "
            "split nor copied evenly"
        )


def _per_sequence(
    tables: SiliconTables, shape: ModelShape, workers: int
) -> tuple[pd.DataFrame, int]:
    """Rows of ``per_sequence.csv``, and the width at which the LM head was looked up."""
    import pandas as pd

    sequences, head, width = tables.wide_gemm_ms(shape.vocab_size // workers, shape.hidden_size)
    rows: list[dict[str, Any]] = []
    for count, time in zip(sequences, head, strict=True):
        # The sampler reads the logits and writes them in four bytes.
        sampler = tables.memory_ms(count * shape.vocab_size * (WIDTH + 4), kernel=False)
        rows.append({"operator": "lm_head", "sequences": count, "time_ns": round(time * _NS)})
        rows.append({"operator": "sampler", "sequences": count, "time_ns": round(sampler * _NS)})
    return pd.DataFrame(rows).sort_values(["operator", "sequences"], ignore_index=True), width


def _chunks(whole: pd.Series, decode: pd.DataFrame) -> pd.DataFrame:
    """``chunk, context, time_ms`` of single prefill chunks from times of whole prompts.

    The attention of a chunk is the share of the causal triangle that its rows make up; it reads its
    context at least as fast as one decode does, and costs at least what a chunk alone does.
    """
    import numpy as np
    import pandas as pd

    lengths = whole.index.to_numpy(dtype=float)
    log_time = np.log(whole.to_numpy(dtype=float))
    one = decode[decode["sequences"] == decode["sequences"].min()].sort_values("context")
    rows = []
    for chunk in lengths:
        for context in (0.0, *lengths):
            total = chunk + context
            if total > lengths[-1]:
                continue
            time = float(np.exp(np.interp(np.log(total), np.log(lengths), log_time)))
            if context:
                time *= 1 - (context / total) ** 2
                reading = float(np.interp(context, one["context"], one["time_ms"]))
                time = max(time, reading, float(whole[int(chunk)]))
            rows.append({"chunk": int(chunk), "context": int(context), "time_ms": time})
    return pd.DataFrame(rows)


def _joint(prefill: pd.DataFrame, decode: pd.DataFrame) -> pd.DataFrame:
    """``mixed_attention.csv``: a step's prefill chunks in one kernel, its decodes in another."""
    import pandas as pd

    planes = [
        prefill.rename(columns={"chunk": "prefill_chunk", "context": "kv_prefill"}),
        decode.rename(columns={"sequences": "n_decode", "context": "kv_decode"}),
    ]
    joint = pd.concat(planes, ignore_index=True).fillna(0)
    joint["time_ns"] = (joint["time_ms"] * _NS).round()
    axes = ["prefill_chunk", "kv_prefill", "n_decode", "kv_decode"]
    return joint[[*axes, "time_ns"]].astype("int64")
