"""What a workload can reach under an engine's limits, against what a bundle has profiled.

Each size is held against the range of its column, and pairs that depend on each other — a prefill
chunk and its context, a batch of decodes and their mean context — against the points of the grid:
what is profiled of one may end earlier where the other is large.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_gpusim.bundle.planes import Planes, planes_of
from pytest_gpusim.bundle.reach import Reach, reach_of
from pytest_gpusim.bundle.schema import (
    ALL_REDUCE,
    MIXED_ATTENTION,
    MLP,
    OVERHEAD,
    PER_SEQUENCE,
    SEQUENCE_OPERATORS,
    TP,
    Bundle,
)
from pytest_gpusim.deployment.model import dtype_bytes

if TYPE_CHECKING:
    import pandas as pd

    from pytest_gpusim.deployment import EngineSettings
    from pytest_gpusim.workload import Workload

__all__ = ["Range", "Reach", "coverage", "reach_of"]
# So much beyond the last point a line is no worse than between the points.
_SLACK = 1.02
# Attention kernels work on tiles of at least so many tokens: fewer cost the same.
_TILE = 16.0
_BESIDE = "in one kernel"


@dataclass(frozen=True)
class Range:
    """One feature of one table: what is profiled, what is reachable, and the share outside.

    ``share`` is of the reachable sizes, or of the requests where it is a matter of their length.
    What is not ``severe`` is profiled for each kind of attention alone, not for both in one kernel.
    """

    table: str
    feature: str
    profiled: tuple[float, float]
    reachable: tuple[float, float]
    share: float
    severe: bool = True

    def __str__(self) -> str:
        low, high = self.profiled
        first, last = self.reachable
        return (
            f"{self.table}: {self.feature} {first:.0f} to {last:.0f} can occur, {low:.0f} to "
            f"{high:.0f} is profiled ({self.share:.1%} outside)"
        )


def coverage(bundle: Bundle, workload: Workload, engine: EngineSettings) -> list[Range]:
    """The features in which a workload can leave the profiled ranges; empty where it cannot."""
    reach = reach_of(workload, engine)
    planes = planes_of(bundle, engine.tensor_parallel_size or 1)
    found = [*_ranges(_features(bundle, planes, reach, engine), reach)]
    return [*found, *_pairs(planes, reach, mean=bundle.skew is None)]


Feature = tuple[str, str, "pd.Series", float, float]
"""Table, feature, profiled values, least reachable, most reachable."""


def _ranges(features: Iterator[Feature], reach: Reach) -> Iterator[Range]:
    for table, feature, values, first, last in features:
        low, high = float(values.min()), float(values.max())
        if first >= low and last <= high * _SLACK:
            continue
        outside = (max(0.0, last - high) + max(0.0, low - first)) / max(1.0, last)
        if "context" in feature:
            longer = float((reach.context > high).mean())
            outside = longer or 1 / max(1, last - first)
        beside = feature.endswith(_BESIDE)
        yield Range(table, feature, (low, high), (first, last), min(1.0, outside), not beside)


def _features(
    bundle: Bundle, planes: Planes, reach: Reach, engine: EngineSettings
) -> Iterator[Feature]:
    degree = engine.tensor_parallel_size or 1
    mlp = bundle.mlp[bundle.mlp[TP] == degree]
    if len(mlp):
        yield MLP, "num_tokens", mlp["num_tokens"], 1, reach.tokens
    longest = float(reach.longest)
    prefill, decode, both = planes.prefill, planes.decode, planes.both
    if prefill is not None:
        # Two kernels price each chunk by itself, a joint one all chunks of a step together.
        chunk = reach.chunk if planes.joint else min(reach.chunk, longest)
        first = min(float(prefill["chunk"].min()), _TILE)
        yield planes.prefill_table, "prefill chunk", prefill["chunk"], first, max(first, chunk)
        yield planes.prefill_table, "prefill context", prefill["context"], 0, longest - 1
    if decode is not None:
        # A context shorter than the shortest profiled one costs the same: a kernel has a floor.
        least = float(decode["context"].min())
        yield planes.decode_table, "decode batch", decode["batch"], 1, reach.sequences
        yield planes.decode_table, "decode context", decode["context"], least, max(longest, least)
    if both is not None and reach.sequences > 1:
        # Below its smallest chunk the joint grid is closed by its plane without prefill.
        closed = planes.decode_table == MIXED_ATTENTION
        first = float(both["chunk"].min()) if closed else 1.0
        least = float(both["decode_context"].min())
        for column, what, low, high in (
            ("chunk", "prefill chunk", first, min(reach.chunk, reach.tokens - 1)),
            ("context", "prefill context", 0.0, longest - 1),
            ("batch", "decode batch", 1.0, reach.sequences - 1),
            ("decode_context", "decode context", least, longest),
        ):
            name = f"{what} {_BESIDE}"
            yield MIXED_ATTENTION, name, both[column], low, max(low, float(high))
    if bundle.per_sequence is not None:
        for name in SEQUENCE_OPERATORS:
            rows = bundle.per_sequence[bundle.per_sequence["operator"] == name]
            if len(rows):
                yield PER_SEQUENCE, f"{name} sequences", rows["sequences"], 1, reach.sequences
    if bundle.overhead is not None and len(bundle.overhead):
        table = bundle.overhead
        yield OVERHEAD, "num_prefill_tokens", table["num_prefill_tokens"], 0, reach.chunk
        yield OVERHEAD, "num_sequences", table["num_sequences"], 1, reach.sequences
    if degree > 1 and bundle.all_reduce is not None:
        rows = bundle.all_reduce[bundle.all_reduce[TP] == degree]
        if len(rows):
            width = dtype_bytes(engine.dtype or str(bundle.meta["dtype"]))
            size = bundle.model_shape.hidden_size * width
            yield ALL_REDUCE, "size_bytes", rows["size_bytes"], size, reach.tokens * size


def _pairs(planes: Planes, reach: Reach, *, mean: bool) -> Iterator[Range]:
    """The pairs of a chunk and its context, and of a batch and its mean context, where they leave
    the grid although each by itself lies inside it.

    Args:
        planes: The grids.
        reach: What can occur.
        mean: Decodes are priced at their mean context alone, not also at their longest one.
    """
    if planes.prefill is not None:
        yield from _chunks(planes.prefill_table, planes.prefill, reach)
    if planes.decode is not None:
        yield from _batches(planes.decode_table, planes.decode, reach, mean=mean)


def _chunks(table: str, grid: pd.DataFrame, reach: Reach) -> Iterator[Range]:
    import numpy as np

    last = grid.groupby("chunk")["context"].max()
    last = last[(last.index <= min(reach.chunk, reach.longest)) & (last.index > 0)]
    overall = float(grid["context"].max())
    outside, pairs, worst = 0, 0, (0.0, 0.0, 0.0)
    for chunk, high in last.items():
        # A prompt of so many tokens can have this chunk after all that come before it.
        left = reach.context - chunk
        able = len(left) - int(np.searchsorted(left, 0))
        beyond = len(left) - int(np.searchsorted(left, max(0.0, high * _SLACK), side="right"))
        inside_range = len(left) - int(np.searchsorted(left, overall * _SLACK, side="right"))
        pairs += able
        outside += beyond - inside_range  # the rest is the range's own finding
        if beyond > inside_range and float(left[-1]) - high > worst[2] - worst[1]:
            worst = (float(chunk), float(high), min(float(left[-1]), overall))
    if outside:
        chunk, high, reached = worst
        feature = f"prefill context of a chunk of {chunk:.0f}"
        yield Range(table, feature, (0.0, high), (0.0, reached), outside / pairs)


def _batches(table: str, grid: pd.DataFrame, reach: Reach, *, mean: bool) -> Iterator[Range]:
    last = grid.groupby("batch")["context"].max()
    last = last[last.index <= reach.sequences]
    overall = float(grid["context"].max())
    shares, worst = [], (0.0, 0.0, 0.0)
    for batch, high in last.items():
        reached = reach.mean_context(int(batch)) if mean else float(reach.longest)
        reached = min(reached, overall)  # the rest is the range's own finding
        shares.append(max(0.0, 1 - high / reached) if reached > high * _SLACK else 0.0)
        if shares[-1] and reached - high > worst[2] - worst[1]:
            worst = (float(batch), float(high), reached)
    if any(shares):
        batch, high, reached = worst
        feature = f"{'mean ' if mean else ''}decode context of a batch of {batch:.0f}"
        yield Range(table, feature, (0.0, high), (0.0, reached), sum(shares) / len(shares))
