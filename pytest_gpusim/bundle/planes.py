"""The grids that attention is priced from: prefill alone, decodes alone, both in one kernel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_gpusim.bundle.schema import ATTENTION, MIXED_ATTENTION, TP, Bundle, time_column

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Planes:
    """Points by kind; None where a bundle has none.

    Attributes:
        prefill: ``chunk, context``.
        decode: ``batch, context``.
        both: ``chunk, context, batch, decode_context``.
        prefill_table: Where ``prefill`` is from.
        decode_table: Where ``decode`` is from.
        joint: All chunks of a step are priced as one.
    """

    prefill: pd.DataFrame | None
    decode: pd.DataFrame | None
    both: pd.DataFrame | None
    prefill_table: str
    decode_table: str
    joint: bool


def planes_of(bundle: Bundle, tensor_parallel_size: int) -> Planes:
    """The planes as the step-time model picks them: the joint grid's where it has rows of a kind,
    else those of ``attention.csv``.
    """
    attention = bundle.attention[bundle.attention[TP] == tensor_parallel_size]
    single = attention["is_prefill"] & (attention["batch_size"] == 1)
    single &= attention[time_column("attn_prefill")].notna()
    decoding = ~attention["is_prefill"] & attention[time_column("attn_decode")].notna()
    prefill = attention[single].rename(
        columns={"prefill_chunk_size": "chunk", "kv_cache_size": "context"}
    )
    decode = attention[decoding].rename(columns={"batch_size": "batch", "kv_cache_size": "context"})
    both = None
    prefill_table = decode_table = ATTENTION
    if bundle.mixed_attention is not None:
        grid = bundle.mixed_attention.rename(
            columns={"prefill_chunk": "chunk", "kv_prefill": "context", "n_decode": "batch"}
        )
        alone, idle = grid["batch"] == 0, grid["chunk"] == 0
        if alone.any():
            prefill, prefill_table = grid[alone], MIXED_ATTENTION
        if (idle & ~alone).any():
            decode = grid[idle & ~alone].assign(context=grid["kv_decode"])
            decode_table = MIXED_ATTENTION
        if (~idle & ~alone).any():
            both = grid[~idle & ~alone].rename(columns={"kv_decode": "decode_context"})
    return Planes(
        None if prefill.empty else prefill,
        None if decode.empty else decode,
        both,
        prefill_table,
        decode_table,
        joint=both is not None or prefill_table == MIXED_ATTENTION,
    )
