"""The figures of a run that plans are made by: latencies, throughput, and what limited it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pytest_gpusim.compare.metrics import STATISTICS

if TYPE_CHECKING:
    from pytest_gpusim.compare.measure import RunMetrics
    from pytest_gpusim.runs import Run

_LATENCIES = ("ttft", "tpot", "e2e", "queue_delay")
FIGURES = (
    "requests",
    "failed_requests",
    *(f"{metric}_{each.name}_ns" for metric in _LATENCIES for each in STATISTICS),
    "makespan_ns",
    "requests_per_s",
    "output_tokens_per_s",
    "peak_running",
    "peak_waiting",
    "peak_kv_blocks",
    "preemptions",
)
"""Columns of a sweep's table, latencies in whole ns."""


def run_figures(directory: Path) -> dict[str, float | int | None]:
    """The `FIGURES` of a run directory; None where a run cannot tell one."""
    from pytest_gpusim.compare.measure import measure_run
    from pytest_gpusim.runs import read_run

    run = read_run(directory)
    return figures_of(run, measure_run(run))


def figures_of(run: Run, measured: RunMetrics) -> dict[str, float | int | None]:
    """The `FIGURES` of a run and its metrics."""
    found: dict[str, float | int | None] = dict.fromkeys(FIGURES)
    found["requests"] = len(run.requests)
    found["failed_requests"] = len(run.requests) - len(run.finished)
    for metric in _LATENCIES:
        values = measured.values(metric)
        if values is not None and len(values):
            for each in STATISTICS:
                found[f"{metric}_{each.name}_ns"] = round(each.of(values))
    rows = measured.requests
    if len(rows):
        span = measured.makespan
        found["makespan_ns"] = round(span)
        found["requests_per_s"] = round(len(rows) / span * 1e9, 6)
        found["output_tokens_per_s"] = round(float(rows["num_tokens"].sum()) / span * 1e9, 6)
    if run.steps is not None and len(run.steps):
        for name, column in (
            ("peak_running", "running"),
            ("peak_waiting", "waiting"),
            ("peak_kv_blocks", "kv_blocks_used"),
        ):
            known = run.steps[column].dropna()
            found[name] = int(known.max()) if len(known) else None
        preempted = run.steps["preempted"].dropna()
        found["preemptions"] = int(preempted.sum()) if len(preempted) else None
    return found
