"""Small bundles and workloads whose step times can be computed by hand.

All times of the synthetic bundle are (bi)linear in their features, so interpolation between the
profiled points must reproduce `hand_step_ns` exactly.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from pytest_gpusim.bundle import Bundle, read_bundle, write_bundle
from pytest_gpusim.deployment import EngineSettings, Hardware, ModelShape
from pytest_gpusim.workload import Workload, WorkloadRequest, read_workload, write_workload
from pytest_gpusim.workload.prompts import Prompt

TINY = ModelShape(
    name="tiny/model",
    architecture="Qwen3ForCausalLM",
    num_layers=2,
    hidden_size=64,
    num_q_heads=4,
    num_kv_heads=2,
    head_dim=16,
    intermediate_size=128,
    vocab_size=1000,
    max_position=8192,
    tie_word_embeddings=True,
    attention_bias=False,
    qk_norm=True,
    torch_dtype="float32",
    rms_norm_eps=1e-6,
    rope_theta=10000.0,
)
CPU = Hardware("cpu", "cpu", r".", memory_gb=64, fp16_tflops=1)
ENGINE = EngineSettings(
    max_num_seqs=16,
    max_num_batched_tokens=256,
    max_model_len=4096,
    block_size=16,
    num_gpu_blocks=512,
    enable_prefix_caching=True,
    async_scheduling=False,
    long_prefill_token_threshold=0,
    scheduler_reserve_full_isl=True,
    dtype="float32",
    tensor_parallel_size=1,
    enforce_eager=True,
    engine_version="0.32.0",
)

TOKEN_POINTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)
SEQUENCE_POINTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
CONTEXT_POINTS = (0, 16, 64, 256, 1024, 4096)
# Operator -> (ns, ns per token), for one layer.
LAYER_NS = {
    "input_layernorm": (1000, 10),
    "attn_pre_proj": (4000, 100),
    "qk_norm": (500, 5),
    "attn_rope": (600, 10),
    "attn_post_proj": (3000, 80),
    "add": (0, 0),
    "post_attention_layernorm": (1000, 10),
    "mlp_up_proj": (5000, 200),
    "mlp_act": (700, 10),
    "mlp_down_proj": (4000, 120),
}
# Operator -> (ns, ns per token), for one step.
STEP_NS = {"emb": (2000, 20), "final_layernorm": (1000, 10)}
KV_SAVE_NS = (300, 2)
# Operator -> (ns, ns per sequence), for one step.
SEQUENCE_NS = {"lm_head": (50_000, 1000), "sampler": (20_000, 500)}
OVERHEAD_NS = (100_000, 10, 2000)


def prefill_attention_ns(tokens: int, context: int) -> float:
    """Attention of one prefill chunk in one layer."""
    return 2000 + 40 * tokens + 2 * context


def decode_attention_ns(sequences: int, context: float) -> float:
    """Attention of a decode batch of mean ``context`` in one layer."""
    return 1000 + 300 * sequences + 2 * sequences * context


def mixed_attention_ns(tokens: int, context: float, sequences: int, decode_context: float) -> float:
    """Attention of prefill and decodes in one kernel, in one layer."""
    time = 500.0
    if tokens:
        time += 50 * tokens + 3 * context
    if sequences:
        time += 250 * sequences + sequences * decode_context
    return time


def hand_step_ns(
    chunks: Sequence[tuple[int, int]],
    decode_contexts: Sequence[int],
    *,
    mixed: bool = False,
    overhead: bool = True,
) -> float:
    """The time of a step on the synthetic bundle, in closed form.

    Args:
        chunks: (tokens, context) of each prefill chunk.
        decode_contexts: Context of each decoding sequence.
        mixed: The bundle has a joint attention grid.
        overhead: The bundle has a table of engine time.
    """
    prefill = sum(tokens for tokens, _ in chunks)
    decodes = len(decode_contexts)
    tokens, sequences = prefill + decodes, len(chunks) + decodes
    layer = sum(a + b * tokens for a, b in [*LAYER_NS.values(), KV_SAVE_NS])
    mean = sum(decode_contexts) / decodes if decodes else 0
    if mixed:
        # Several chunks are one of the same attention work: tokens x mean keys, causal halves.
        keys = sum(t * (c + t / 2) for t, c in chunks)
        context = keys / prefill - prefill / 2 if prefill else 0.0
        layer += mixed_attention_ns(prefill, context, decodes, mean)
    else:
        layer += sum(prefill_attention_ns(*chunk) for chunk in chunks)
        layer += decode_attention_ns(decodes, mean) if decodes else 0
    step = sum(a + b * tokens for a, b in STEP_NS.values())
    step += sum(a + b * sequences for a, b in SEQUENCE_NS.values())
    if overhead:
        step += OVERHEAD_NS[0] + OVERHEAD_NS[1] * prefill + OVERHEAD_NS[2] * sequences
    return TINY.num_layers * layer + step


def make_bundle(
    out: Path,
    *,
    model: ModelShape = TINY,
    tensor_parallel_sizes: Sequence[int] = (1,),
    mixed: bool = False,
    overhead: bool = True,
    tables: Mapping[str, pd.DataFrame | None] | None = None,
    meta: Mapping[str, Any] | None = None,
) -> Bundle:
    """Write and read a synthetic bundle.

    Args:
        out: Where.
        model: The shape that it claims to be of.
        tensor_parallel_sizes: A copy of the operators for each; more than one adds all-reduces.
        mixed: Add a joint grid of mixed attention.
        overhead: Add engine time per iteration.
        tables: Tables by file name that replace or join the synthetic ones.
        meta: Metadata that replaces or joins the synthetic one.
    """
    made: dict[str, pd.DataFrame | None] = {
        "mlp.csv": _mlp(model, tensor_parallel_sizes),
        "attention.csv": _attention(model, tensor_parallel_sizes),
        "per_sequence.csv": pd.DataFrame(
            [
                {"operator": name, "sequences": n, "time_ns": a + b * n}
                for name, (a, b) in SEQUENCE_NS.items()
                for n in SEQUENCE_POINTS
            ]
        ),
    }
    if overhead:
        made["overhead.csv"] = pd.DataFrame(
            [
                {
                    "num_prefill_tokens": p,
                    "num_sequences": n,
                    "time_ns": OVERHEAD_NS[0] + OVERHEAD_NS[1] * p + OVERHEAD_NS[2] * n,
                }
                for p in (0, 64, 2048)
                for n in SEQUENCE_POINTS
            ]
        )
    if mixed:
        made["mixed_attention.csv"] = _mixed()
    if max(tensor_parallel_sizes) > 1:
        made["all_reduce.csv"] = pd.DataFrame(
            [
                {"num_tensor_parallel_workers": tp, "size_bytes": size, "time_ns": 1000 + size}
                for tp in tensor_parallel_sizes
                if tp > 1
                for size in (0, 1024, 1 << 20)
            ]
        )
    made.update(tables or {})
    described = {
        "model": model.name,
        "model_shape": model.to_json(),
        "hardware": "cpu",
        "device_name": "Synthetic processor, 2 cores",
        "engine": "vllm",
        "engine_version": "0.32.0",
        "engine_mode": "eager",
        "engine_settings": ENGINE.to_json(),
        "dtype": "float32",
        "block_size": 16,
        "tensor_parallel_sizes": list(tensor_parallel_sizes),
        "source": "synthetic",
        "coverage": {},
        "calibrated_on": [],
        **(meta or {}),
    }
    write_bundle(out, made, described)
    return read_bundle(out)


def make_workload(
    out: Path,
    requests: Sequence[tuple[int, int, int]],
    prompts: Mapping[int, Prompt] | None = None,
    prompt_ids: Sequence[int] | None = None,
    **how: Any,
) -> Workload:
    """Write and read a workload of (prefill tokens, decode tokens, arrival in ns) rows.

    ``how``: ``load``, ``sessions`` and ``refused`` of `write_workload`.
    """
    rows = [
        WorkloadRequest(i, prompt_ids[i] if prompt_ids else i, prefill, decode, arrival)
        for i, (prefill, decode, arrival) in enumerate(requests)
    ]
    write_workload(out, rows, prompts, name="test", seed=None, generator={"kind": "test"}, **how)
    return read_workload(out)


def random_workload(
    out: Path,
    seed: int,
    *,
    requests: int = 30,
    max_prefill: int = 300,
    max_decode: int = 60,
    mean_gap_ns: int = 1_000_000,
    shared: bool = False,
) -> Workload:
    """A workload of random lengths and gaps; ``shared`` makes prompts begin alike."""
    stream = random.Random(seed)
    rows, clock = [], 0
    prompts: dict[int, Prompt] | None = {} if shared else None
    for number in range(requests):
        prefill = stream.randint(1, max_prefill)
        rows.append((prefill, stream.randint(1, max_decode), clock))
        clock += stream.choice((0, int(stream.random() * 2 * mean_gap_ns)))
        if prompts is not None:
            parent = stream.randrange(number) if number and stream.random() < 0.7 else None
            length = prompts[parent].num_tokens if parent is not None else None
            prompts[number] = Prompt(
                number,
                seed=stream.getrandbits(32),
                num_tokens=prefill,
                prefix_of=parent,
                prefix_tokens=stream.randint(0, min(prefill, length)) if length else None,
            )
    return make_workload(out, rows, prompts)


def _mlp(model: ModelShape, sizes: Sequence[int]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "num_tokens": tokens,
                "num_tensor_parallel_workers": tp,
                "n_head": model.num_q_heads,
                "n_kv_head": model.num_kv_heads,
                "n_embd": model.hidden_size,
                "n_expanded_embd": model.intermediate_size,
                "vocab_size": model.vocab_size,
                "use_gated_mlp": True,
                **{
                    f"time_stats.{name}.median": (a + b * tokens) / 1e6
                    for name, (a, b) in {**LAYER_NS, **STEP_NS}.items()
                },
            }
            for tp in sizes
            for tokens in TOKEN_POINTS
        ]
    )


def _attention(model: ModelShape, sizes: Sequence[int]) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for tp in sizes:
        shared = {
            "n_embd": model.hidden_size,
            "n_q_head": model.num_q_heads,
            "n_kv_head": model.num_kv_heads,
            "head_dim": model.head_dim,
            "block_size": 16,
            "num_tensor_parallel_workers": tp,
            "max_model_len": 4096,
            "attention_backend": "synthetic",
            "time_stats.attn_input_reshape.median": None,
            "time_stats.attn_output_reshape.median": None,
        }
        for batch, tokens, context, is_prefill in [
            *((1, t, c, True) for t in TOKEN_POINTS for c in CONTEXT_POINTS),
            *((n, 0, c, False) for n in SEQUENCE_POINTS for c in CONTEXT_POINTS),
        ]:
            saved = tokens if is_prefill else batch
            prefill = prefill_attention_ns(tokens, context) / 1e6 if is_prefill else None
            decode = None if is_prefill else decode_attention_ns(batch, context) / 1e6
            rows.append(
                {
                    "batch_size": batch,
                    "prefill_chunk_size": tokens,
                    "kv_cache_size": context,
                    "is_prefill": is_prefill,
                    **shared,
                    "time_stats.attn_kv_cache_save.median": (KV_SAVE_NS[0] + KV_SAVE_NS[1] * saved)
                    / 1e6,
                    "time_stats.attn_prefill.median": prefill,
                    "time_stats.attn_decode.median": decode,
                }
            )
    return pd.DataFrame(rows)


def _mixed() -> pd.DataFrame:
    points: list[tuple[int, int, int, int]] = []
    for sequences in (0, 1, 16, 256):
        for decode_context in (0, 256, 4096) if sequences else (0,):
            for tokens in (0, 16, 256, 2048):
                for context in (0, 256, 4096, 16384) if tokens else (0,):
                    if tokens or sequences:
                        points.append((tokens, context, sequences, decode_context))
    return pd.DataFrame(
        [
            {
                "prefill_chunk": p,
                "kv_prefill": c,
                "n_decode": n,
                "kv_decode": d,
                "time_ns": mixed_attention_ns(p, c, n, d),
            }
            for p, c, n, d in points
        ]
    )
