"""Checks of a bundle's numbers: shapes, signs, order, repetitions, outliers.

Each returns what is wrong, one line per finding, naming file, line or point, and column.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pytest_gpusim.bundle.schema import (
    ATTENTION,
    MIXED_ATTENTION,
    MLP,
    PER_SEQUENCE,
    TP,
    Bundle,
    time_column,
)
from pytest_gpusim.tables import line_of

if TYPE_CHECKING:
    import pandas as pd

    from pytest_gpusim.deployment import ModelShape

_MATRIX_PRODUCTS = ("attn_pre_proj", "attn_post_proj", "mlp_up_proj", "mlp_down_proj")
# A kernel chosen for larger sizes may be faster; twice as fast on the whole is a mistake.
_CHEAPER = 0.5
_OUTLIER = 4.0
_DISAGREEMENT = 2.0
Series = tuple[str, str, "pd.Series"]
"""File, what of it, and times (any unit) indexed by an ascending size."""


def shape_findings(bundle: Bundle, shape: ModelShape) -> list[str]:
    """Shape columns that are not those of ``shape``."""
    expected = {
        "n_head": shape.num_q_heads,
        "n_q_head": shape.num_q_heads,
        "n_kv_head": shape.num_kv_heads,
        "n_embd": shape.hidden_size,
        "n_expanded_embd": shape.intermediate_size,
        "vocab_size": shape.vocab_size,
        "head_dim": shape.head_dim,
    }
    found = []
    for name, frame in ((MLP, bundle.mlp), (ATTENTION, bundle.attention)):
        for column, value in expected.items():
            if column not in frame.columns:
                continue
            numbers = frame[column].astype("float64")
            wrong = (numbers != value).to_numpy()
            if wrong.any():
                position = int(wrong.argmax())
                found.append(
                    f"{name}: {line_of(bundle.path / name, position)}, column {column} is "
                    f"{numbers.iloc[position]:g}, {shape.name} has {value}"
                )
    return found


def block_size_findings(bundle: Bundle) -> list[str]:
    """Attention rows of another block size than the metadata's."""
    stated = bundle.meta["block_size"]
    if not isinstance(stated, int) or stated < 1:
        return [f"profile_meta.json: block_size is {stated!r}, expected a positive integer"]
    others = sorted(set(bundle.attention["block_size"].astype(int)) - {stated})
    if not others:
        return []
    return [f"{ATTENTION}: column block_size has {others}, profile_meta.json {stated}"]


def tensor_parallel_findings(bundle: Bundle) -> list[str]:
    """Degrees that metadata and tables do not share; all-reduce times that are missing."""
    stated = bundle.meta["tensor_parallel_sizes"]
    if not isinstance(stated, list) or not stated:
        return [f"profile_meta.json: tensor_parallel_sizes is {stated!r}, expected a list"]
    found = []
    tables = [(MLP, bundle.mlp), (ATTENTION, bundle.attention)]
    if bundle.all_reduce is not None:
        tables.append(("all_reduce.csv", bundle.all_reduce))
    for name, frame in tables:
        sizes = {int(size) for size in frame[TP].unique()}
        needed = {size for size in stated if size > 1} if name == "all_reduce.csv" else set(stated)
        for size in sorted(needed - sizes):
            found.append(f"{name}: has no rows of tensor-parallel degree {size}")
        for size in sorted(sizes - set(stated)):
            found.append(f"{name}: has degree {size}, profile_meta.json names {stated}")
    if max(stated) > 1 and bundle.all_reduce is None:
        found.append(f"all_reduce.csv: is missing, and there is degree {max(stated)}")
    return found


def time_findings(bundle: Bundle) -> list[str]:
    """Times that are zero or empty where work is done."""
    found = []
    for operator in _MATRIX_PRODUCTS:
        found += _not_positive(bundle, MLP, bundle.mlp, time_column(operator))
    prefill = bundle.attention["is_prefill"]
    for rows, operator in ((prefill, "attn_prefill"), (~prefill, "attn_decode")):
        frame = bundle.attention[rows]
        if frame.empty:
            found.append(f"{ATTENTION}: has no {operator.removeprefix('attn_')} rows")
        else:
            found += _not_positive(bundle, ATTENTION, frame, time_column(operator))
    for name in (MIXED_ATTENTION, PER_SEQUENCE):
        small = bundle.mixed_attention if name == MIXED_ATTENTION else bundle.per_sequence
        if small is not None:
            found += _not_positive(bundle, name, small, "time_ns")
    return found


def duplicate_findings(bundle: Bundle) -> tuple[list[str], list[str]]:
    """(points measured more than once, those among them whose times disagree)."""
    repeated, contradicting = [], []
    for name, frame, keys, times in _keyed(bundle):
        again = frame.duplicated(keys, keep=False)
        if not again.any():
            continue
        rows = frame[again]
        position = int(frame.duplicated(keys).to_numpy().argmax())
        line = line_of(bundle.path / name, position)
        repeated.append(f"{name}: {line} repeats a point ({int(again.sum())} rows are repeated)")
        for column in times:
            groups = rows.groupby(keys)[column]
            low, high = groups.min(), groups.max()
            apart = high > _DISAGREEMENT * low
            if apart.any():
                point = _point(keys, apart.idxmax())
                contradicting.append(
                    f"{name}: {column} at {point} is both {low[apart].iloc[0]:g} and "
                    f"{high[apart].iloc[0]:g}"
                )
                break
    return repeated, contradicting


def monotone_findings(bundle: Bundle) -> list[str]:
    """Where more work takes much less time; single products may have faster kernels for it."""
    found = []
    for name, what, series in (*_layer_series(bundle), *_series(bundle, products=False)):
        highest = series.cummax().shift()
        falls = series < _CHEAPER * highest
        if falls.any():
            place = falls.idxmax()
            before = series[: series.index.get_loc(place)].idxmax()
            found.append(
                f"{name}: {what} takes {series[before]:g} at {before:g} and {series[place]:g} "
                f"at {place:g}"
            )
    return found


def outlier_findings(bundle: Bundle) -> list[str]:
    """Points far from the line between their neighbours."""
    import numpy as np

    found = []
    for name, what, series in _series(bundle):
        if len(series) < 3:
            continue
        x, y = series.index.to_numpy(dtype=float), series.to_numpy(dtype=float)
        share = (x[1:-1] - x[:-2]) / (x[2:] - x[:-2])
        line = y[:-2] + share * (y[2:] - y[:-2])
        low, high = np.minimum(y[:-2], y[2:]), np.maximum(y[:-2], y[2:])
        off = (y[1:-1] > _OUTLIER * np.maximum(line, high)) | (
            y[1:-1] * _OUTLIER < np.minimum(line, low)
        )
        if off.any():
            place = int(off.argmax()) + 1
            found.append(
                f"{name}: {what} is {y[place]:g} at {x[place]:g}, beside {y[place - 1]:g} at "
                f"{x[place - 1]:g} and {y[place + 1]:g} at {x[place + 1]:g}"
            )
    return found


def _not_positive(bundle: Bundle, name: str, frame: pd.DataFrame, column: str) -> list[str]:
    bad = ~(frame[column] > 0).to_numpy()
    if not bad.any():
        return []
    position = int(frame.index[int(bad.argmax())])
    line = line_of(bundle.path / name, position)
    return [f"{name}: {line}, column {column}: expected a positive time ({int(bad.sum())} rows)"]


def _keyed(bundle: Bundle) -> Iterator[tuple[str, pd.DataFrame, list[str], list[str]]]:
    yield MLP, bundle.mlp, ["num_tokens", TP], [time_column(op) for op in _MATRIX_PRODUCTS]
    keys = ["batch_size", "prefill_chunk_size", "kv_cache_size", "is_prefill", TP]
    yield (
        ATTENTION,
        bundle.attention,
        keys,
        [time_column("attn_prefill"), time_column("attn_decode")],
    )
    if bundle.per_sequence is not None:
        yield PER_SEQUENCE, bundle.per_sequence, ["operator", "sequences"], ["time_ns"]
    if bundle.mixed_attention is not None:
        axes = ["prefill_chunk", "kv_prefill", "n_decode", "kv_decode"]
        yield MIXED_ATTENTION, bundle.mixed_attention, axes, ["time_ns"]


def _layer_series(bundle: Bundle) -> Iterator[Series]:
    """A layer's matrix products together, by tokens."""
    for tp, rows in bundle.mlp.groupby(TP):
        columns = [time_column(operator) for operator in _MATRIX_PRODUCTS]
        series = rows.groupby("num_tokens")[columns].median().sum(axis=1)
        yield MLP, f"a layer's matrix products (degree {tp}) by tokens", _float_index(series)


def _series(bundle: Bundle, *, products: bool = True) -> Iterator[Series]:
    """Times along one growing size, everything else equal."""
    for tp, rows in bundle.mlp.groupby(TP):
        for operator in _MATRIX_PRODUCTS if products else ():
            series = rows.groupby("num_tokens")[time_column(operator)].median()
            yield MLP, f"{operator} (degree {tp}) by tokens", _float_index(series)
    attention = bundle.attention
    prefill = attention[attention["is_prefill"] & (attention["batch_size"] == 1)]
    decode = attention[~attention["is_prefill"]]
    for frame, operator, size, fixed in (
        (prefill, "attn_prefill", "prefill_chunk_size", "kv_cache_size"),
        (prefill, "attn_prefill", "kv_cache_size", "prefill_chunk_size"),
        (decode, "attn_decode", "batch_size", "kv_cache_size"),
        (decode, "attn_decode", "kv_cache_size", "batch_size"),
    ):
        for (tp, value), rows in frame.groupby([TP, fixed]):
            series = rows.groupby(size)[time_column(operator)].median()
            yield (
                ATTENTION,
                f"{operator} (degree {tp}, {fixed} {value}) by {size}",
                _float_index(series),
            )
    if bundle.per_sequence is not None:
        rows = bundle.per_sequence[bundle.per_sequence["operator"] == "lm_head"]
        series = rows.groupby("sequences")["time_ns"].median()
        yield PER_SEQUENCE, "lm_head by sequences", _float_index(series)


def _float_index(series: pd.Series) -> pd.Series:
    series = series.astype("float64").dropna().sort_index()
    series.index = series.index.astype("float64")
    return series


def _point(keys: Sequence[str], values: object) -> str:
    each = values if isinstance(values, tuple) else (values,)
    return ", ".join(f"{key} {value}" for key, value in zip(keys, each, strict=True))
