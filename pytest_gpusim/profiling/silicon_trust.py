"""Which tables a bundle's times should not be trusted for, because they contradict themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_gpusim.errors import UsageError
from pytest_gpusim.profiling.silicon_moe import routed_ms
from pytest_gpusim.profiling.silicon_rows import LIMIT
from pytest_gpusim.profiling.silicon_tables import PLAIN, SiliconTables

if TYPE_CHECKING:
    from pytest_gpusim.deployment import ModelShape

_SHARE = 0.01


def distrusted(
    tables: SiliconTables, shape: ModelShape, workers: int, expert_parallel: bool
) -> list[str]:
    """A sentence for each table that the model's times are from and that contradicts itself.

    Products: more than one in a hundred take far longer than products of more rows. Experts: in
    fewer bits they take far longer than in bfloat16, half of the bytes at twice the rate.
    """
    found, where = [], tables.where
    scheme = shape.quantization.scheme if shape.quantization is not None else PLAIN
    for dtype in dict.fromkeys((PLAIN, scheme)):
        wrong = tables.product_contradictions(dtype)
        if wrong.replaced > _SHARE * wrong.rows:
            found.append(
                f"{where} gemm: {wrong.replaced:,} of {wrong.rows:,} {dtype} products take "
                f"over {LIMIT:g} times as long as products of more rows, whose times stand for them"
            )
    slower = _experts_over_plain(tables, shape, workers, expert_parallel)
    if slower is not None and slower > LIMIT:
        found.append(
            f"{where} moe: experts in {scheme} take {slower:.1f} times as long as in {PLAIN}"
        )
    return found


def _experts_over_plain(
    tables: SiliconTables, shape: ModelShape, workers: int, expert_parallel: bool
) -> float | None:
    """The median ratio of quantized experts to plain ones, at the token counts of both."""
    from dataclasses import replace
    from statistics import median

    quantization = shape.quantization
    if shape.experts is None or quantization is None or not quantization.covers("experts"):
        return None
    try:
        plain = routed_ms(tables, replace(shape, quantization=None), workers, expert_parallel)
    except UsageError:  # not measured
        return None
    quantized = routed_ms(tables, shape, workers, expert_parallel)
    known = dict(zip(*plain[:2], strict=True))
    return median(
        time / known[count] for count, time in zip(*quantized[:2], strict=True) if count in known
    )
