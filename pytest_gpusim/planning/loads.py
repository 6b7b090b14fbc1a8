"""One kind of load at any rate: generated from a seed, or a workload that exists, sped up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pytest_gpusim.errors import UsageError
from pytest_gpusim.workload import Workload, read_workload
from pytest_gpusim.workload.generate import WorkloadSpec, generate_workload
from pytest_gpusim.workload.store import store_workload
from pytest_gpusim.workload.writer import write_workload

_NS_PER_S = 1_000_000_000


def generated(spec: WorkloadSpec, rate: float, seed: int, store: Path) -> Workload:
    """The workload of ``spec`` at a rate; of one seed the same requests at every rate."""
    here = replace(spec, rate=rate, seed=seed)
    return read_workload(store_workload(store, lambda out: generate_workload(here, out)))


def at_rate(workload: Workload, rate: float, store: Path) -> Workload:
    """A workload with its arrivals stretched or pressed to a mean rate.

    Raises:
        UsageError: All its requests arrive at once, or when others are done.
    """
    workload.require_open_loop("a search over rates")
    requests = workload.requests
    span = requests[-1].arrival_time_ns - requests[0].arrival_time_ns
    if not span:
        raise UsageError(f"{workload.path}: all requests arrive at once; there is no rate to scale")
    wanted = (len(requests) - 1) / rate * _NS_PER_S
    first = requests[0].arrival_time_ns
    moved = [
        r._replace(arrival_time_ns=round((r.arrival_time_ns - first) * wanted / span))
        for r in requests
    ]

    def write(out: Path) -> None:
        write_workload(
            out,
            moved,
            workload.prompts,
            name=workload.workload_id.rpartition("-")[0] or "scaled",
            seed=None,
            generator={"kind": "scaled", "of": workload.digest, "rate": rate},
            model=workload.meta.get("model"),
            tokenizer_ref=workload.meta.get("tokenizer_ref"),
            refused=workload.refused,
        )

    return read_workload(store_workload(store, write))
