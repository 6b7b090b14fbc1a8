"""A page of one capacity: the figure, the curve of latency and goodput, and what binds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_gpusim.artifacts import provenance, utc_now
from pytest_gpusim.planning.charts import PANELS, draw_latency, draw_share
from pytest_gpusim.report.inline import drawn
from pytest_gpusim.report.page import write_page

if TYPE_CHECKING:
    from pytest_gpusim.planning.capacity import Capacity

_SHARES = {
    "kv_blocks": "KV blocks (num_gpu_blocks)",
    "sequences": "sequences (max_num_seqs)",
    "tokens": "tokens of a step (max_num_batched_tokens)",
    "prefill": "steps that hold prefills",
}


def write_capacity_page(capacity: Capacity, source: Mapping[str, str], out: Path) -> None:
    """Write the page, one file that asks for no other.

    Args:
        capacity: What the search found.
        source: What was simulated, by words for a reader.
        out: The file to write.
    """
    binding = capacity.binding
    write_page(
        out,
        "capacity.html.j2",
        title=f"Capacity within {capacity.limits}",
        sentence=capacity.lines()[1],
        rest=[line for line in capacity.lines()[2:] if ": " in line],
        unit=capacity.axis.unit,
        charts=list(_charts(capacity)),
        shares=[
            {"name": _SHARES[name], "share": share}
            for name, share in (binding.shares.items() if binding else ())
        ],
        curve=[
            {
                "at": f"{load.at:.4g}",
                "served": f"{load.figures['requests_per_s'] or 0:.4g}",
                "goodput": load.goodput,
                "latencies": [
                    load.figures[f"{metric}_{statistic}_ns"]
                    for metric, _ in PANELS
                    for statistic in ("p50", "p90")
                ],
            }
            for load in capacity.curve
        ],
        columns=[f"{m.upper()} {s}" for m, _ in PANELS for s in ("p50", "p90")],
        source=source,
        made={**provenance(), "at": utc_now()},
    )


def _charts(capacity: Capacity) -> Iterator[dict[str, str]]:
    if not capacity.curve:
        return
    for metric, title in PANELS:
        said = "; ".join(
            f"at {load.at:.4g} {capacity.axis.unit} p90 {value / 1e6:.4g} ms"
            for load in capacity.curve
            if (value := load.figures[f"{metric}_p90_ns"]) is not None
        )
        draw = partial(draw_latency, capacity=capacity, metric=metric)
        svg = drawn(metric, f"{title} against load: {said}", draw)
        yield {"title": title, "caption": "", "svg": svg}
    said = "; ".join(f"at {load.at:.4g} {load.goodput:.0%}" for load in capacity.curve)
    title = "share of requests within limits"
    svg = drawn("goodput", f"{title} against load: {said}", partial(draw_share, capacity=capacity))
    yield {"title": title, "caption": "", "svg": svg}
