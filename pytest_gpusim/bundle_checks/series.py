"""A bundle's times along one growing size, everything else equal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_gpusim.bundle.schema import (
    ALL_REDUCE,
    ATTENTION,
    EP,
    LAYER_OPERATORS,
    MIXED_ATTENTION,
    MLP,
    MLP_OPERATORS,
    MOE,
    OPTIONAL_LAYER_OPERATORS,
    OVERHEAD,
    PER_SEQUENCE,
    SEND_RECV,
    STEP_OPERATORS,
    TP,
    Bundle,
    time_column,
)
from pytest_gpusim.deployment import EngineSettings
from pytest_gpusim.serving.steptime import StepTimeModel
from pytest_gpusim.tables import medians

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

MATRIX_PRODUCTS = ("attn_pre_proj", "attn_post_proj", "mlp_up_proj", "mlp_down_proj")
LIGHT_OPERATORS = tuple(
    name
    for name in (*LAYER_OPERATORS, *OPTIONAL_LAYER_OPERATORS, *STEP_OPERATORS)
    if name not in (*MATRIX_PRODUCTS, "add")
)
"""Operators other than products. Residual additions may be part of the norms, and then are zero."""
_MIXED_AXES = ("prefill_chunk", "kv_prefill", "n_decode", "kv_decode")


@dataclass(frozen=True)
class Series:
    """Lines of times over one size, one line for each value of the fixed columns.

    Attributes:
        table: The file.
        what: The operator.
        size: The column that grows.
        fixed: The columns that stay equal within a line.
        lines: By point, the number of its line; lines lie one after the other.
        points: The fixed columns' values, by line.
        x: The size, ascending within a line.
        y: The median time at each point.
        power: A time grows at most with this power of the size.
        ordered: More is expected not to be much cheaper.
        whole: By point, about what the times are the rest of, which may be negative; None where
            they stand for themselves.
    """

    table: str
    what: str
    size: str
    fixed: tuple[str, ...]
    lines: np.ndarray
    points: list[tuple[float, ...]]
    x: np.ndarray
    y: np.ndarray
    power: int = 1
    ordered: bool = True
    whole: np.ndarray | None = None

    def name(self, line: int) -> str:
        """The operator and what is fixed, in words."""
        pairs = [
            f"{'degree' if column == TP else column} {value:g}"
            for column, value in zip(self.fixed, self.points[line], strict=True)
        ]
        where = f" ({', '.join(pairs)})" if pairs else ""
        size = "tokens" if self.size == "num_tokens" else self.size
        return f"{self.what}{where} by {size}"


def operators_of(bundle: Bundle, names: Sequence[str]) -> list[str]:
    """Those of some operators that the model has: layers of experts have no MLP."""
    if bundle.moe is None or bundle.model_shape.num_dense_layers:
        return list(names)
    return [name for name in names if name not in MLP_OPERATORS]


def series_of(bundle: Bundle) -> Iterator[Series]:
    """Every line of every table."""
    mlp = bundle.mlp
    for name in operators_of(bundle, (*MATRIX_PRODUCTS, *LIGHT_OPERATORS)):
        if time_column(name) in mlp:
            # A kernel chosen for larger sizes may be faster: single products are not ordered.
            yield from _series(
                mlp, MLP, name, "num_tokens", (TP,), time_column(name), ordered=False
            )
    products = mlp.assign(together=mlp[[time_column(name) for name in MATRIX_PRODUCTS]].sum(axis=1))
    what = "a layer's matrix products"
    yield from _series(products, MLP, what, "num_tokens", (TP,), "together")
    attention = bundle.attention
    prefill = attention[attention["is_prefill"] & (attention["batch_size"] == 1)]
    decode = attention[~attention["is_prefill"]]
    for frame, what, first, second, power in (
        (prefill, "attn_prefill", "prefill_chunk_size", "kv_cache_size", 2),
        (decode, "attn_decode", "batch_size", "kv_cache_size", 1),
    ):
        time = time_column(what)
        yield from _series(frame, ATTENTION, what, first, (TP, second), time, power=power)
        yield from _series(frame, ATTENTION, what, second, (TP, first), time)
    yield from _small_series(bundle)


def _small_series(bundle: Bundle) -> Iterator[Series]:
    time = "time_ns"
    if bundle.mixed_attention is not None:
        grid = bundle.mixed_attention
        chunked, decoding = grid["prefill_chunk"] > 0, grid["n_decode"] > 0
        # Kernels of their own: prefill alone, decodes alone, both in one.
        for rows, what, axes in (
            (chunked & ~decoding, "prefill", _MIXED_AXES[:2]),
            (decoding & ~chunked, "decode", _MIXED_AXES[2:]),
            (chunked & decoding, "mixed attention", _MIXED_AXES),
        ):
            for size in axes:
                fixed = [axis for axis in axes if axis != size]
                power = 2 if size == "prefill_chunk" else 1
                yield from _series(
                    grid[rows], MIXED_ATTENTION, what, size, fixed, time, power=power
                )
    if bundle.per_sequence is not None:
        for name, rows in bundle.per_sequence.groupby("operator"):
            ordered = name == "lm_head"
            yield from _series(
                rows, PER_SEQUENCE, str(name), "sequences", (), time, ordered=ordered
            )
    if bundle.overhead is not None:
        yield from _engine_time_series(bundle, bundle.overhead)
    if bundle.moe is not None:
        yield from _series(bundle.moe, MOE, "experts", "num_tokens", (TP, EP), time)
    if bundle.all_reduce is not None:
        yield from _series(bundle.all_reduce, ALL_REDUCE, "all-reduce", "size_bytes", (TP,), time)
    if bundle.send_recv is not None:
        yield from _series(bundle.send_recv, SEND_RECV, "send and receive", "size_bytes", (), time)


def _engine_time_series(bundle: Bundle, overhead: pd.DataFrame) -> Iterator[Series]:
    """Engine time is what operators leave of a step: held against the step without attention."""
    import numpy as np

    degree = int(bundle.mlp[TP].min())
    settings = EngineSettings(tensor_parallel_size=degree)
    model = StepTimeModel(bundle, bundle.model_shape, settings)
    axes = ("num_prefill_tokens", "num_sequences")
    for size, other in (axes, axes[::-1]):
        for each in _series(
            overhead, OVERHEAD, "engine time", size, (other,), "time_ns", ordered=False
        ):
            fixed = np.array([point[0] for point in each.points])[each.lines]
            sequences = fixed if size == axes[0] else each.x
            whole = [
                model.time_without_attention(int(tokens), int(number))
                for tokens, number in zip(each.x + fixed, sequences, strict=True)
            ]
            yield replace(each, whole=np.array(whole))


def _series(
    frame: pd.DataFrame,
    table: str,
    what: str,
    size: str,
    fixed: Sequence[str],
    time: str,
    *,
    power: int = 1,
    ordered: bool = True,
) -> Iterator[Series]:
    """One `Series`, or none where there are no times."""
    import numpy as np

    points, times = medians(frame, [*fixed, size], time)
    if not len(times):
        return
    values = points[:, :-1]
    new = np.ones(len(values), dtype=bool)
    new[1:] = (values[1:] != values[:-1]).any(axis=1)
    yield Series(
        table,
        what,
        size,
        tuple(fixed),
        np.cumsum(new) - 1,
        [tuple(row) for row in values[new]],
        points[:, -1],
        times,
        power,
        ordered,
    )
