"""From a bundle's tables to interpolated operator times, in ns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_gpusim.bundle import Bundle
from pytest_gpusim.bundle.schema import (
    ALL_REDUCE,
    ATTENTION,
    ATTENTION_OPERATORS,
    EP,
    LAYER_OPERATORS,
    MLP,
    MLP_OPERATORS,
    MOE,
    OPTIONAL_LAYER_OPERATORS,
    SEQUENCE_OPERATORS,
    STEP_OPERATORS,
    TP,
    time_column,
)
from pytest_gpusim.deployment import ModelShape
from pytest_gpusim.deployment.model import dtype_bytes
from pytest_gpusim.errors import InputError
from pytest_gpusim.serving.attention_grids import AttentionGrids, Table, attention_grids
from pytest_gpusim.serving.interpolation import Interpolant, grid_or_scattered
from pytest_gpusim.tables import medians

if TYPE_CHECKING:
    import pandas as pd

_NS_PER_MS = 1e6
_TOKEN_ATTENTION_OPERATORS = tuple(
    name for name in ATTENTION_OPERATORS if name not in ("attn_prefill", "attn_decode")
)


@dataclass(frozen=True)
class OperatorTables:
    """A bundle's measured points, for one tensor-parallel size; None where it has none.

    Attributes:
        by_tokens: Operators that depend on the step's tokens, ``moe`` among them; with how often a
            step runs them: once, or in each layer that has them.
        by_sequences: Operators that run once per step and depend on its sequences.
        prefill: ``attention.csv``: (chunk tokens, context) of one chunk, one layer.
        decode: ``attention.csv``: (sequences, mean context), one layer.
        mixed: ``mixed_attention.csv``: (prefill tokens, prefill context, decodes, mean decode
            context), one layer.
        attention: Those of the three that attention is priced from.
        overhead: (prefill tokens, sequences), once per step.
        all_reduce: (bytes,), twice per layer.
    """

    by_tokens: dict[str, tuple[int, Table]]
    by_sequences: dict[str, Table]
    prefill: Table | None
    decode: Table | None
    mixed: Table | None
    attention: AttentionGrids
    overhead: Table | None
    all_reduce: Table | None


def operator_tables(
    bundle: Bundle,
    shape: ModelShape,
    tensor_parallel_size: int,
    expert_parallel: bool | None = None,
) -> OperatorTables:
    """Collect the tables of a bundle.

    Args:
        bundle: The profile.
        shape: Its model.
        tensor_parallel_size: Devices that a layer is split over.
        expert_parallel: Whether whole experts are dealt out to them; None: as profiled.

    Raises:
        InputError: The bundle has no rows of this tensor-parallel size, or no attention times, or
            no experts where the model has some.
    """
    tp, num_layers = tensor_parallel_size, shape.num_layers
    mlp = _of_size(bundle.mlp, tp, bundle.path / MLP)
    attention = _of_size(bundle.attention, tp, bundle.path / ATTENTION)
    by_tokens: dict[str, tuple[int, Table]] = {}
    for name in (*LAYER_OPERATORS, *OPTIONAL_LAYER_OPERATORS, *STEP_OPERATORS):
        table = _table(mlp, ["num_tokens"], time_column(name), _NS_PER_MS)
        times = 1 if name in STEP_OPERATORS else num_layers
        if name in MLP_OPERATORS:
            times = shape.num_dense_layers
        if table is not None and times:
            by_tokens[name] = (times, table)
    if shape.num_dense_layers < num_layers:
        table = _moe(bundle, tp, expert_parallel)
        by_tokens["moe"] = (num_layers - shape.num_dense_layers, table)
    chunked = attention["is_prefill"].astype(bool)
    tokens = attention["prefill_chunk_size"].where(chunked, 1) * attention["batch_size"]
    saved = attention.assign(num_tokens=tokens)
    for name in _TOKEN_ATTENTION_OPERATORS:
        table = _table(saved, ["num_tokens"], time_column(name), _NS_PER_MS)
        if table is not None:
            by_tokens[name] = (num_layers, table)
    # One chunk per kernel: a row of several equal chunks is a measurement of something else.
    single = attention[chunked & (attention["batch_size"] == 1)]
    prefill = _table(
        single, ["prefill_chunk_size", "kv_cache_size"], time_column("attn_prefill"), _NS_PER_MS
    )
    decode = _table(
        attention[~chunked], ["batch_size", "kv_cache_size"], time_column("attn_decode"), _NS_PER_MS
    )
    mixed = None
    if bundle.mixed_attention is not None:
        columns = ["prefill_chunk", "kv_prefill", "n_decode", "kv_decode"]
        mixed = _table(bundle.mixed_attention, columns, "time_ns")
    overhead = None
    if bundle.overhead is not None:
        overhead = _table(bundle.overhead, ["num_prefill_tokens", "num_sequences"], "time_ns")
    return OperatorTables(
        by_tokens,
        _by_sequences(bundle),
        prefill,
        decode,
        mixed,
        attention_grids(prefill, decode, mixed, bundle.path),
        overhead,
        _all_reduce(bundle, tp) if tp > 1 else None,
    )


def all_reduce_bytes(shape: ModelShape, dtype: str, tokens: int) -> int:
    """Size of the tensor that is reduced after ``o_proj`` and after ``down_proj``."""
    return tokens * shape.hidden_size * dtype_bytes(dtype)


def norm_all_reduce_bytes(tokens: int) -> int:
    """Size of the sums of squares of Q and K that ranks exchange to norm over all heads.

    One float32 each (``minimax_m2.py: MiniMaxM2Attention``, ``MiniMaxText01RMSNormTP``).
    """
    return tokens * 2 * 4


def interpolate_overhead(table: Table | None) -> Interpolant | None:
    """Engine time may be known at the steps of real runs only, which form no grid."""
    return None if table is None else grid_or_scattered(*table)


def _table(frame: pd.DataFrame, axes: list[str], time: str, unit: float = 1.0) -> Table | None:
    """Median time at each distinct point; None where there is no time at all."""
    if time not in frame.columns:
        return None
    points, times = medians(frame, axes, time)
    if not len(times):
        return None
    return [tuple(point) for point in points.tolist()], (times * unit).tolist()


def _of_size(frame: pd.DataFrame, tensor_parallel_size: int, path: Path) -> pd.DataFrame:
    rows = frame[frame[TP] == tensor_parallel_size]
    if rows.empty:
        known = ", ".join(str(size) for size in sorted(frame[TP].unique()))
        raise InputError(
            path,
            f"column {TP}",
            f"the engine's tensor_parallel_size is {tensor_parallel_size}, profiled are {known}",
            "profile that size, or change the engine settings",
        )
    return rows


def _moe(bundle: Bundle, tensor_parallel_size: int, expert_parallel: bool | None) -> Table:
    path = bundle.path / MOE
    if bundle.moe is None:
        raise InputError(
            path,
            "",
            f"no such table, and {bundle.meta['model']} has experts",
            "make the bundle again from a source that measures experts",
        )
    rows = _of_size(bundle.moe, tensor_parallel_size, path)
    known = sorted({int(size) for size in rows[EP]})
    wanted = tensor_parallel_size if expert_parallel else 1
    if expert_parallel is None and len(known) == 1:
        wanted = known[0]
    if wanted not in known:
        raise InputError(
            path,
            f"column {EP}",
            f"the engine deals experts out to {wanted}, profiled are {', '.join(map(str, known))}",
            "profile that, or change enable_expert_parallel",
        )
    table = _table(rows[rows[EP] == wanted], ["num_tokens"], "time_ns")
    assert table is not None
    return table


def _by_sequences(bundle: Bundle) -> dict[str, Table]:
    tables: dict[str, Table] = {}
    if bundle.per_sequence is not None:
        for name in SEQUENCE_OPERATORS:
            rows = bundle.per_sequence[bundle.per_sequence["operator"] == name]
            table = _table(rows, ["sequences"], "time_ns")
            if table is not None:
                tables[name] = table
    return tables


def require_all_reduce(bundle: Bundle, tensor_parallel_size: int) -> pd.DataFrame:
    """The bundle's times of all-reduces.

    Raises:
        InputError: It has none.
    """
    if bundle.all_reduce is None:
        raise InputError(
            bundle.path / ALL_REDUCE,
            "",
            f"no such table, and tensor_parallel_size is {tensor_parallel_size}",
            "make the bundle again with all-reduce times",
        )
    return bundle.all_reduce


def _all_reduce(bundle: Bundle, tensor_parallel_size: int) -> Table:
    times = require_all_reduce(bundle, tensor_parallel_size)
    rows = _of_size(times, tensor_parallel_size, bundle.path / ALL_REDUCE)
    table = _table(rows, ["size_bytes"], "time_ns")
    assert table is not None
    return table
