"""A decoder layer's dense operators from AIConfigurator's tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pytest_gpusim.profiling.silicon_fusions import NOTHING, Fusions
from pytest_gpusim.profiling.silicon_tables import SiliconTables

if TYPE_CHECKING:
    from pytest_gpusim.deployment import ModelShape

WIDTH = 2
"""Bytes of an activation: bfloat16."""
# Each follows an all-reduce.
_NORMS = ("input_layernorm", "post_attention_layernorm", "final_layernorm")
Curve = tuple[Sequence[int], Sequence[float]]
"""Tokens, and the time in ms at each."""


def dense_ms(
    tables: SiliconTables, shape: ModelShape, workers: int, fusions: Fusions = NOTHING
) -> tuple[list[int], dict[str, Sequence[float]]]:
    """Times in ms by operator at the token counts that every product was measured at.

    The MLP's are of a layer that has one; a model of experts alone has no such operators.
    """
    heads = shape.num_q_heads // workers
    kv_heads = max(1, shape.num_kv_heads // workers)
    inner = shape.intermediate_size // workers
    qkv, hidden = (heads + 2 * kv_heads) * shape.head_dim, shape.hidden_size
    products = {
        "attn_pre_proj": _product(tables, shape, "attention", qkv, hidden, fused=True),
        # Attention's output is quantized by a kernel of its own, unless attention does it.
        "attn_post_proj": _product(
            tables,
            shape,
            "attention",
            hidden,
            heads * shape.head_dim,
            fused=fusions.attention_quantizes,
        ),
    }
    rotated = (heads + kv_heads) * shape.head_dim
    # Elements read and written per token; the fused residual norm reads and writes two tensors.
    # What a compiled engine fuses into its neighbours is traffic without a kernel of its own.
    traffic = {
        "emb": (hidden, True),
        **dict.fromkeys(_NORMS, (4 * hidden, True)),
        "attn_rope": (2 * rotated, False),
    }
    if shape.qk_norm:
        # Over all heads it cannot be fused with what follows: an all-reduce stands between.
        traffic["qk_norm"] = (2 * rotated, shape.qk_norm_over_heads and workers > 1)
    if shape.num_dense_layers:
        products |= _mlp_products(tables, shape, "mlp", inner)
        traffic["mlp_act"] = (3 * inner, True)
    tokens = sorted(set.intersection(*(set(ms) for ms, _ in products.values())))
    times: dict[str, Sequence[float]] = {}
    for name, (ms, values) in products.items():
        by_tokens = dict(zip(ms, values, strict=True))
        times[name] = [by_tokens[count] for count in tokens]
    for name, (elements, kernel) in traffic.items():
        fused = fusions.all_reduce_bytes if name in _NORMS else 0
        times[name] = [
            tables.memory_ms(
                count * elements * WIDTH, kernel=kernel and count * hidden * WIDTH > fused
            )
            for count in tokens
        ]
    return tokens, times


def mlp_ms(
    tables: SiliconTables, shape: ModelShape, inner: int
) -> tuple[list[int], Mapping[str, Sequence[float]]]:
    """Times in ms of an MLP of inner width ``inner`` that all tokens pass."""
    products = _mlp_products(tables, shape, "experts", inner)
    tokens = sorted(set.intersection(*(set(ms) for ms, _ in products.values())))
    times: dict[str, Sequence[float]] = {
        name: [dict(zip(*curve, strict=True))[count] for count in tokens]
        for name, curve in products.items()
    }
    times["mlp_act"] = [tables.memory_ms(count * 3 * inner * WIDTH) for count in tokens]
    return tokens, times


def _mlp_products(
    tables: SiliconTables, shape: ModelShape, part: str, inner: int
) -> dict[str, Curve]:
    hidden = shape.hidden_size
    return {
        "mlp_up_proj": _product(tables, shape, part, 2 * inner, hidden, fused=True),
        "mlp_down_proj": _product(tables, shape, part, hidden, inner, fused=True),
    }


def _product(
    tables: SiliconTables, shape: ModelShape, part: str, n: int, k: int, *, fused: bool
) -> Curve:
    """A product's (tokens, ms) in the dtype that the checkpoint gives this part.

    Measured fp8 products quantize their input in a kernel of its own. A compiled engine does that
    in the norm or activation before (``fused``), so its time is taken off there.
    """
    quantization = shape.quantization
    if quantization is None or not quantization.covers(part):
        return tables.gemm_ms(n, k)
    if quantization.scheme == "fp8_block":
        return tables.block_gemm_ms(n, k)
    tokens, times = tables.gemm_ms(n, k, quantization.scheme)
    if not fused or quantization.scheme != "fp8":
        return tokens, times
    import numpy as np

    quantize = np.interp(tokens, *tables.quantize_ms(k))
    least = tables.reading_ms(n * k)
    return tokens, [max(least, a - b) for a, b in zip(times, quantize.tolist(), strict=True)]
