"""What a workload can reach under an engine's limits, against what a bundle has profiled.

Each size is held against the range of its column, and pairs that depend on each other — a prefill
chunk and its context, a batch of decodes and their mean context — against the points of the grid:
what is profiled of one may end earlier where the other is large.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_gpusim.bundle.schema import (
    ALL_REDUCE,
    MIXED_ATTENTION,
    MLP,
    MOE,
    OVERHEAD,
    PER_SEQUENCE,
    Bundle,
)
from pytest_gpusim.bundle_checks.step_bounds import StepBounds, step_bounds
from pytest_gpusim.serving.attention_grids import AttentionGrids
from pytest_gpusim.serving.interpolation import Point, last_covered
from pytest_gpusim.serving.steptime_operators import (
    OperatorTables,
    all_reduce_bytes,
    operator_tables,
)

if TYPE_CHECKING:
    from pytest_gpusim.deployment import EngineSettings
    from pytest_gpusim.workload import Workload

# Attention kernels work on tiles of at least so many tokens: fewer cost the same.
_TILE = 16.0
_BESIDE = "in one kernel"


@dataclass(frozen=True)
class Range:
    """One feature of one table: what is profiled, what can occur, and the share outside.

    ``share`` is of the sizes that can occur, or of the requests where their length matters.
    What is not ``severe`` is profiled for each kind of attention alone, not for both in one kernel.
    """

    table: str
    feature: str
    profiled: tuple[float, float]
    possible: tuple[float, float]
    share: float
    severe: bool = True

    def __str__(self) -> str:
        low, high = self.profiled
        first, last = self.possible
        return (
            f"{self.table}: {self.feature} {first:.0f} to {last:.0f} can occur, {low:.0f} to "
            f"{high:.0f} is profiled ({self.share:.1%} outside)"
        )


def coverage(bundle: Bundle, workload: Workload, engine: EngineSettings) -> list[Range]:
    """The features in which a workload can leave the profiled ranges; empty where it cannot."""
    bounds = step_bounds(workload, engine)
    degree = engine.tensor_parallel_size or 1
    tables = operator_tables(bundle, bundle.model_shape, degree, engine.enable_expert_parallel)
    found = [*_ranges(_features(bundle, tables, bounds, engine), bounds)]
    found += _chunks(tables.attention, bounds)
    # Without a skew fit decodes are priced at their mean context alone, not also at the longest.
    return [*found, *_batches(tables.attention, bounds, mean=bundle.skew is None)]


Feature = tuple[str, str, list[float], float, float]
"""Table, feature, profiled values, least that can occur, most that can occur."""


def _ranges(features: Iterator[Feature], bounds: StepBounds) -> Iterator[Range]:
    for table, feature, values, first, last in features:
        low, high = min(values), max(values)
        if first >= low and last <= last_covered(high):
            continue
        outside = (max(0.0, last - high) + max(0.0, low - first)) / max(1.0, last)
        if "context" in feature:
            longer = float((bounds.context > high).mean())
            outside = longer or 1 / max(1, last - first)
        beside = feature.endswith(_BESIDE)
        yield Range(table, feature, (low, high), (first, last), min(1.0, outside), not beside)


def _features(
    bundle: Bundle, tables: OperatorTables, bounds: StepBounds, engine: EngineSettings
) -> Iterator[Feature]:
    _, (tokens, _) = tables.by_tokens["attn_pre_proj"]
    yield MLP, "num_tokens", _axis(tokens, 0), 1, bounds.tokens
    if "moe" in tables.by_tokens:
        _, (tokens, _) = tables.by_tokens["moe"]
        yield MOE, "num_tokens", _axis(tokens, 0), 1, bounds.tokens
    yield from _attention_features(tables.attention, bounds)
    for name, (sequences, _) in tables.by_sequences.items():
        yield PER_SEQUENCE, f"{name} sequences", _axis(sequences, 0), 1, bounds.sequences
    if tables.overhead is not None:
        steps, _ = tables.overhead
        yield OVERHEAD, "num_prefill_tokens", _axis(steps, 0), 0, bounds.chunk
        yield OVERHEAD, "num_sequences", _axis(steps, 1), 1, bounds.sequences
    if tables.all_reduce is not None:
        sizes = _axis(tables.all_reduce[0], 0)
        size = all_reduce_bytes(bundle.model_shape, engine.dtype or str(bundle.meta["dtype"]), 1)
        yield ALL_REDUCE, "size_bytes", sizes, size, bounds.tokens * size


def _attention_features(grids: AttentionGrids, bounds: StepBounds) -> Iterator[Feature]:
    longest = float(bounds.longest)
    chunks, contexts = _axis(grids.prefill[0], 0), _axis(grids.prefill[0], 1)
    # Two kernels price each chunk by itself, a joint one all chunks of a step together.
    chunk = bounds.chunk if grids.joint else min(bounds.chunk, longest)
    first = min(min(chunks), _TILE)
    yield grids.prefill_table, "prefill chunk", chunks, first, max(first, chunk)
    yield grids.prefill_table, "prefill context", contexts, 0, longest - 1
    batches, contexts = _axis(grids.decode[0], 0), _axis(grids.decode[0], 1)
    # A context shorter than the shortest profiled one costs the same: a kernel has a floor.
    least = min(contexts)
    yield grids.decode_table, "decode batch", batches, 1, bounds.sequences
    yield grids.decode_table, "decode context", contexts, least, max(longest, least)
    if grids.both is None or bounds.sequences < 2:
        return
    points = grids.both[0]
    # Below its smallest chunk the joint grid is closed by its plane without prefill.
    first = min(_axis(points, 0)) if grids.closed_below else 1.0
    least = min(_axis(points, 3))
    for axis, what, low, high in (
        (0, "prefill chunk", first, min(bounds.chunk, bounds.tokens - 1)),
        (1, "prefill context", 0.0, longest - 1),
        (2, "decode batch", 1.0, bounds.sequences - 1),
        (3, "decode context", least, longest),
    ):
        name = f"{what} {_BESIDE}"
        yield MIXED_ATTENTION, name, _axis(points, axis), low, max(low, float(high))


def _axis(points: list[Point], axis: int) -> list[float]:
    return [point[axis] for point in points]


def _last_contexts(points: list[Point]) -> dict[float, float]:
    """By the first coordinate, the longest context that is profiled of it."""
    last: dict[float, float] = {}
    for size, context in points:
        last[size] = max(context, last.get(size, 0.0))
    return dict(sorted(last.items()))


def _chunks(grids: AttentionGrids, bounds: StepBounds) -> Iterator[Range]:
    """Prefill chunks whose context leaves the grid, although each by itself lies inside it."""
    import numpy as np

    overall = max(_axis(grids.prefill[0], 1))
    outside, pairs, worst = 0, 0, (0.0, 0.0, 0.0)
    for chunk, high in _last_contexts(grids.prefill[0]).items():
        if not 0 < chunk <= min(bounds.chunk, bounds.longest):
            continue
        # A prompt of so many tokens can have this chunk after all that come before it.
        left = bounds.context - chunk
        able = len(left) - int(np.searchsorted(left, 0))
        limit = max(0.0, last_covered(high))
        beyond = len(left) - int(np.searchsorted(left, limit, side="right"))
        inside_range = len(left) - int(np.searchsorted(left, last_covered(overall), side="right"))
        pairs += able
        outside += beyond - inside_range  # the rest is the range's own finding
        if beyond > inside_range and float(left[-1]) - high > worst[2] - worst[1]:
            worst = (float(chunk), float(high), min(float(left[-1]), overall))
    if outside:
        chunk, high, reached = worst
        feature = f"prefill context of a chunk of {chunk:.0f}"
        yield Range(grids.prefill_table, feature, (0.0, high), (0.0, reached), outside / pairs)


def _batches(grids: AttentionGrids, bounds: StepBounds, *, mean: bool) -> Iterator[Range]:
    """Batches whose (mean) context leaves the grid, although each by itself lies inside it."""
    overall = max(_axis(grids.decode[0], 1))
    shares, worst = [], (0.0, 0.0, 0.0)
    for batch, high in _last_contexts(grids.decode[0]).items():
        if batch > bounds.sequences:
            continue
        reached = bounds.mean_context(int(batch)) if mean else float(bounds.longest)
        reached = min(reached, overall)  # the rest is the range's own finding
        shares.append(max(0.0, 1 - high / reached) if reached > last_covered(high) else 0.0)
        if shares[-1] and reached - high > worst[2] - worst[1]:
            worst = (float(batch), float(high), reached)
    if any(shares):
        batch, high, reached = worst
        feature = f"{'mean ' if mean else ''}decode context of a batch of {batch:.0f}"
        share = sum(shares) / len(shares)
        yield Range(grids.decode_table, feature, (0.0, high), (0.0, reached), share)
