"""Routed experts from AIConfigurator's ``moe`` tables.

The tables hold the fused kernels of one layer (permutation, both products, activation) by tokens,
split over devices by cutting every expert (``moe_tp_size``) or by dealing out whole ones
(``moe_ep_size``), for several distributions of tokens over experts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pytest_gpusim.errors import UsageError
from pytest_gpusim.profiling.silicon_rows import without_contradictions
from pytest_gpusim.profiling.silicon_tables import PLAIN, SiliconTables

if TYPE_CHECKING:
    import pandas as pd

    from pytest_gpusim.deployment import ModelShape

DISTRIBUTION = "power_law_1.2"
"""Tokens over experts: a power law of exponent 1.2, which AIConfigurator takes for these models
unless told otherwise (``sdk/config.py: workload_distribution``, ``sdk/models/moe.py:
MOEModel._power_law_alpha``). One for every model and batch."""


def moe_rows(
    tables: SiliconTables, shape: ModelShape, workers: int, expert_parallel: bool
) -> tuple[pd.DataFrame, str]:
    """Rows of ``moe.csv`` of one degree, and the name of the experts' kernel.

    A row is one layer: router, routed experts and, where the model has them, shared experts.

    Raises:
        UsageError: The tables have no such experts, or none split so.
    """
    import numpy as np
    import pandas as pd

    from pytest_gpusim.bundle.schema import EP, TP

    tokens, times, kernel = routed_ms(tables, shape, workers, expert_parallel)
    total = np.array(times)
    for sizes, more in _besides(tables, shape, workers):
        total += np.interp(tokens, sizes, more)
    frame = pd.DataFrame({"num_tokens": tokens, "time_ns": np.rint(total * 1e6).astype("int64")})
    frame[TP], frame[EP] = workers, workers if expert_parallel else 1
    return frame[[TP, EP, "num_tokens", "time_ns"]], kernel


def routed_ms(
    tables: SiliconTables, shape: ModelShape, workers: int, expert_parallel: bool
) -> tuple[list[int], list[float], str]:
    """(tokens, ms, kernel) of a layer's routed experts alone."""
    experts = shape.experts
    assert experts is not None
    quantization = shape.quantization
    dtype = PLAIN
    if quantization is not None and quantization.covers("experts"):
        dtype = quantization.scheme
    frame = tables.moe_rows()
    wanted = {
        "hidden_size": shape.hidden_size,
        "inter_size": experts.width,
        "topk": experts.per_token,
        "num_experts": experts.num_experts,
        "moe_dtype": dtype,
        "moe_tp_size": 1 if expert_parallel else workers,
        "moe_ep_size": workers if expert_parallel else 1,
        "distribution": DISTRIBUTION,
    }
    for column, value in wanted.items():
        found = frame[frame[column] == value]
        if found.empty:
            have = ", ".join(str(each) for each in sorted(frame[column].unique()))
            raise UsageError(
                f"{tables.where} moe: experts of {shape.name} need {column} {value}, measured are "
                f"{have}"
            )
        frame = found
    kernel = str(frame["kernel_source"].value_counts().index[0])
    medians = frame[frame["kernel_source"] == kernel].groupby("num_tokens")["latency"].median()
    series = without_contradictions(medians.to_frame())[0]["latency"]
    # One token's experts, as the devices share them.
    numbers = 3 * experts.per_token * shape.hidden_size * experts.width // workers
    weight = quantization.weight_bytes if dtype != PLAIN and quantization is not None else 2.0
    least = tables.reading_ms(numbers * weight)
    return [int(n) for n in series.index], [max(least, float(t)) for t in series], kernel


def _besides(
    tables: SiliconTables, shape: ModelShape, workers: int
) -> list[tuple[Sequence[int], Sequence[float]]]:
    """(tokens, ms) of the router, and of the shared experts' three operators."""
    from pytest_gpusim.profiling.silicon_layers import mlp_ms

    assert shape.experts is not None
    # A router narrower than any measured product takes the narrowest one's time.
    width = max(shape.experts.num_experts, tables.narrowest)
    parts: list[tuple[Sequence[int], Sequence[float]]] = [tables.gemm_ms(width, shape.hidden_size)]
    if shape.experts.shared_width:
        tokens, times = mlp_ms(tables, shape, shape.experts.shared_width // workers)
        parts += [(tokens, each) for each in times.values()]
    return parts
