"""Putting a bundle together from tables of operator times, whatever measured them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pytest_gpusim.bundle.schema import ATTENTION_OPERATORS, LAYER_OPERATORS, TP, time_column

if TYPE_CHECKING:
    import pandas as pd

    from pytest_gpusim.deployment import ModelShape
    from pytest_gpusim.registry import Registry


def mlp_rows(
    shape: ModelShape, tensor_parallel: int, tokens: Sequence[int], times_ms: Mapping[str, Any]
) -> pd.DataFrame:
    """Rows of ``mlp.csv``: one per entry of ``tokens``, operators by our names, in ms.

    Operators that ``times_ms`` leaves out cost nothing (they are part of another one).
    """
    import pandas as pd

    frame = pd.DataFrame({"num_tokens": list(tokens)})
    frame[TP] = tensor_parallel
    frame["n_head"] = shape.num_q_heads
    frame["n_kv_head"] = shape.num_kv_heads
    frame["n_embd"] = shape.hidden_size
    frame["n_expanded_embd"] = shape.intermediate_size
    frame["vocab_size"] = shape.vocab_size
    frame["use_gated_mlp"] = True
    frame["head_dim"] = shape.head_dim
    for operator in (*LAYER_OPERATORS, *times_ms):
        frame[time_column(operator)] = times_ms.get(operator, 0.0)
    return frame


def attention_rows(
    shape: ModelShape,
    tensor_parallel: int,
    *,
    prefill: pd.DataFrame,
    decode: pd.DataFrame,
    block_size: int,
    max_model_len: int,
    backend: str,
) -> pd.DataFrame:
    """Rows of ``attention.csv``.

    Args:
        shape: The model.
        tensor_parallel: The degree that the times are of.
        prefill: ``chunk, context, time_ms`` of single prefills.
        decode: ``sequences, context, time_ms`` of decode batches of equal contexts.
        block_size: Tokens of a KV block.
        max_model_len: The engine's longest context.
        backend: The attention kernels' name.
    """
    import pandas as pd

    nan = float("nan")  # of None, pandas 2 warns that its type will be another
    rows = pd.concat(
        [
            pd.DataFrame(
                {
                    "batch_size": 1,
                    "prefill_chunk_size": prefill["chunk"],
                    "kv_cache_size": prefill["context"],
                    "is_prefill": True,
                    time_column("attn_prefill"): prefill["time_ms"],
                    time_column("attn_decode"): nan,
                }
            ),
            pd.DataFrame(
                {
                    "batch_size": decode["sequences"],
                    "prefill_chunk_size": 0,
                    "kv_cache_size": decode["context"],
                    "is_prefill": False,
                    time_column("attn_prefill"): nan,
                    time_column("attn_decode"): decode["time_ms"],
                }
            ),
        ],
        ignore_index=True,
    )
    shared: dict[str, Any] = {
        "n_embd": shape.hidden_size,
        "n_q_head": shape.num_q_heads,
        "n_kv_head": shape.num_kv_heads,
        "head_dim": shape.head_dim,
        "block_size": block_size,
        TP: tensor_parallel,
        "max_model_len": max_model_len,
        "attention_backend": backend,
    }
    rows = rows.assign(**shared)
    # Within the attention operator's own time; a Vidur profile lists them apart.
    for operator in ATTENTION_OPERATORS:
        if time_column(operator) not in rows:
            rows[time_column(operator)] = 0.0
    return rows


def coverage_of(tables: Mapping[str, pd.DataFrame | None]) -> dict[str, dict[str, list[float]]]:
    """Smallest and largest value of each feature, by table."""
    features = {
        "mlp.csv": ["num_tokens"],
        "attention.csv": ["batch_size", "prefill_chunk_size", "kv_cache_size"],
        "per_sequence.csv": ["sequences"],
        "mixed_attention.csv": ["prefill_chunk", "kv_prefill", "n_decode", "kv_decode"],
        "all_reduce.csv": ["size_bytes"],
        "moe.csv": ["num_tokens"],
        "overhead.csv": ["num_prefill_tokens", "num_sequences"],
    }
    found: dict[str, dict[str, list[float]]] = {}
    for name, columns in features.items():
        table = tables.get(name)
        if table is not None and len(table):
            found[name] = {
                column: [int(table[column].min()), int(table[column].max())] for column in columns
            }
    return found


def hardware_name(registry: Registry, device: str | None, label: str | None = None) -> str:
    """The registered device class that a GPU is of; else a name made of its label or its own."""
    for name in registry.hardware.names():
        hardware = registry.hardware.get(name)
        if hardware.kind == "cuda" and device and hardware.matches(device):
            return name
    words = label or (device or "unknown").removeprefix("NVIDIA ")
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")
