"""Collectives of several devices from AIConfigurator's tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pytest_gpusim.bundle.schema import TP
from pytest_gpusim.errors import UsageError
from pytest_gpusim.profiling.silicon_fusions import Fusions
from pytest_gpusim.profiling.silicon_layers import WIDTH
from pytest_gpusim.profiling.silicon_tables import SiliconTables

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from pytest_gpusim.deployment import ModelShape

_NS = 1e6


def collectives(
    tables: SiliconTables,
    shape: ModelShape,
    workers: int,
    tokens: Sequence[int],
    dense: dict[str, Sequence[float]],
    per_sequence: pd.DataFrame,
    fusions: Fusions,
) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """``all_reduce.csv``, ``per_sequence.csv`` with the logits' all-gather, and what to say.

    The embedding's all-reduce is added to its operator. Below the smallest measured message its
    time is taken; above the largest nothing is.
    """
    import numpy as np
    import pandas as pd

    one_token = shape.hidden_size * WIDTH
    sizes, times = all_reduce_ms(tables, workers, one_token, fusions)
    needed = max(tokens) * one_token
    if needed > sizes[-1]:
        raise UsageError(f"all-reduces of {needed} bytes are needed, measured are {sizes[-1]}")
    reduced = np.interp([count * one_token for count in tokens], sizes, times)
    dense["emb"] = [float(a + b) for a, b in zip(dense["emb"], reduced, strict=True)]
    gather_sizes, gather_times = tables.collective_ms("all_gather", workers)
    most = int(gather_sizes[-1] // (shape.vocab_size * WIDTH))
    kept = per_sequence[per_sequence["sequences"] <= most].reset_index(drop=True)
    if kept.empty:
        raise UsageError(
            f"all-gathers of {shape.vocab_size * WIDTH} bytes are needed, measured are "
            f"{gather_sizes[-1]}"
        )
    heads = kept["operator"] == "lm_head"
    logits = kept.loc[heads, "sequences"] * shape.vocab_size * WIDTH
    gathered = np.interp(logits, gather_sizes, gather_times) * _NS
    kept.loc[heads, "time_ns"] += np.rint(gathered).astype("int64")
    table = pd.DataFrame(
        {TP: workers, "size_bytes": sizes, "time_ns": np.rint(times * _NS).astype("int64")}
    )
    notes = ["messages below the smallest measured one take its time"]
    if len(kept) < len(per_sequence):
        notes.append(f"no all-gather of the logits of more than {most} sequences was measured")
    return table, kept, notes


def all_reduce_ms(
    tables: SiliconTables, workers: int, one_token: int, fusions: Fusions
) -> tuple[np.ndarray, np.ndarray]:
    """(bytes, time) of an all-reduce: of those in a norm's kernel up to the largest fused one.

    A message smaller than one token's is none of the residual's, and is not fused.
    """
    import numpy as np

    sizes, times = tables.collective_ms("all_reduce", workers)
    largest = fusions.all_reduce_bytes
    fused = tables.fused_all_reduce_ms(workers) if largest >= one_token else None
    if fused is None:
        return sizes, times
    within, without = (
        np.unique([first, *inner[(inner > first) & (inner < last)], last])
        for inner, first, last in (
            (fused[0], one_token, largest),
            (sizes, largest + 1, max(largest + 2, int(sizes[-1]))),
        )
    )
    below = np.unique([*sizes[sizes < one_token - 1], one_token - 1])
    return np.concatenate([below, within, without]), np.concatenate(
        [
            np.interp(below, sizes, times),
            np.interp(within, *fused),
            np.interp(without, sizes, times),
        ]
    )
