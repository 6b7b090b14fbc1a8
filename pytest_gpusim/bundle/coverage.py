"""What a workload can reach under an engine's limits, against what a bundle has profiled."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_gpusim.bundle.schema import (
    ALL_REDUCE,
    ATTENTION,
    MIXED_ATTENTION,
    MLP,
    OVERHEAD,
    PER_SEQUENCE,
    TP,
    Bundle,
)
from pytest_gpusim.deployment.model import dtype_bytes

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from pytest_gpusim.deployment import EngineSettings
    from pytest_gpusim.workload import Workload


@dataclass(frozen=True)
class Reach:
    """The sizes that a workload's steps can have; a bound, since arrivals are not played through.

    Attributes:
        tokens: Most tokens of a step.
        chunk: Most prefill tokens of a step.
        sequences: Most requests in a step.
        context: Per request, the most tokens that its KV cache can hold before a step.
    """

    tokens: int
    chunk: int
    sequences: int
    context: np.ndarray


@dataclass(frozen=True)
class Range:
    """One feature of one table: what is profiled, what is reachable, and the share outside.

    ``share`` is of the reachable sizes, or of the requests where it is a matter of their length.
    """

    table: str
    feature: str
    profiled: tuple[float, float]
    reachable: tuple[float, float]
    share: float

    def __str__(self) -> str:
        low, high = self.profiled
        first, last = self.reachable
        return (
            f"{self.table}: {self.feature} {first:g} to {last:g} can occur, {low:g} to {high:g} is "
            f"profiled ({self.share:.1%} outside)"
        )


def reach_of(workload: Workload, engine: EngineSettings) -> Reach:
    """What the steps of a workload can be, given complete engine settings."""
    import numpy as np

    requests = np.asarray(workload.requests, dtype="int64")
    prefill, decode = requests[:, 2], requests[:, 3]
    max_tokens, block_size = engine.max_num_batched_tokens or 1, engine.block_size or 1
    length = prefill + decode - 1
    sequences = min(engine.max_num_seqs or 1, len(requests))
    if engine.num_gpu_blocks is not None:
        # Each running request holds at least the blocks of its prompt; the smallest fit most often.
        blocks = np.cumsum(np.sort(-(-prefill // block_size)))
        fitting = int(np.searchsorted(blocks, engine.num_gpu_blocks - 1, side="right"))
        sequences = min(sequences, max(1, fitting))
    # Recomputed after a preemption, what was generated is prefilled like a prompt.
    longest = np.sort(length)[::-1]
    chunk = int(min(max_tokens, longest[:sequences].sum()))
    if engine.long_prefill_token_threshold:
        chunk = min(chunk, engine.long_prefill_token_threshold * sequences)
    tokens = min(max_tokens, chunk + sequences - 1)
    return Reach(max(tokens, sequences), chunk, sequences, length)


def coverage(bundle: Bundle, workload: Workload, engine: EngineSettings) -> list[Range]:
    """The features in which a workload can leave the profiled ranges; empty where it cannot."""
    reach = reach_of(workload, engine)
    found = []
    for table, feature, values, first, last in _features(bundle, reach, engine):
        low, high = float(values.min()), float(values.max())
        if first >= low and last <= high:
            continue
        if "context" in feature:
            outside = float((reach.context > high).mean()) or 1 / max(1, last - first)
        else:
            outside = (max(0.0, last - high) + max(0.0, low - first)) / max(1.0, last)
        found.append(Range(table, feature, (low, high), (first, last), min(1.0, outside)))
    return found


def _features(
    bundle: Bundle, reach: Reach, engine: EngineSettings
) -> Iterator[tuple[str, str, pd.Series, float, float]]:
    """(table, feature, profiled values, least reachable, most reachable)."""
    degree = engine.tensor_parallel_size or 1
    longest = float(reach.context.max())
    mlp = bundle.mlp[bundle.mlp[TP] == degree]
    attention = bundle.attention[bundle.attention[TP] == degree]
    if len(mlp):
        yield MLP, "num_tokens", mlp["num_tokens"], 1, reach.tokens
    if bundle.mixed_attention is not None:
        grid = bundle.mixed_attention
        chunks, decodes = grid[grid["prefill_chunk"] > 0], grid[grid["n_decode"] > 0]
        # Below its smallest chunk the grid is closed by the plane without prefill.
        yield MIXED_ATTENTION, "prefill_chunk", grid["prefill_chunk"], 0, reach.chunk
        yield MIXED_ATTENTION, "prefill context", chunks["kv_prefill"], 0, longest - 1
        yield MIXED_ATTENTION, "n_decode", decodes["n_decode"], 1, reach.sequences
        yield MIXED_ATTENTION, "decode context", decodes["kv_decode"], _least(decodes), longest
    elif len(attention):
        prefill = attention[attention["is_prefill"] & (attention["batch_size"] == 1)]
        decode = attention[~attention["is_prefill"]]
        if len(prefill):
            chunk = min(reach.chunk, longest)
            yield ATTENTION, "prefill_chunk_size", prefill["prefill_chunk_size"], 1, chunk
            yield ATTENTION, "prefill context", prefill["kv_cache_size"], 0, longest - 1
        if len(decode):
            least = float(decode["kv_cache_size"].min())
            yield ATTENTION, "batch_size", decode["batch_size"], 1, reach.sequences
            yield ATTENTION, "decode context", decode["kv_cache_size"], least, longest
    if bundle.per_sequence is not None and len(bundle.per_sequence):
        for name, rows in bundle.per_sequence.groupby("operator"):
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


def _least(decodes: pd.DataFrame) -> float:
    """A context shorter than the shortest profiled one costs the same: a kernel has a floor."""
    return float(decodes["kv_decode"].min())
