"""One kind of load at any rate, or from any number of clients: generated, or a workload's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pytest_gpusim.errors import UsageError
from pytest_gpusim.workload import Workload, WorkloadRequest, read_workload
from pytest_gpusim.workload.generate import WorkloadSpec, generate_workload
from pytest_gpusim.workload.load import Load
from pytest_gpusim.workload.store import store_workload
from pytest_gpusim.workload.writer import write_workload

_NS_PER_S = 1_000_000_000


def generated(spec: WorkloadSpec, load: float, seed: int, store: Path) -> Workload:
    """The workload of ``spec`` at a rate, or from so many clients where it is of a closed loop; of
    one seed the same requests at every load.
    """
    at = {"concurrency": int(load)} if spec.arrivals == "closed" else {"rate": load}
    here = replace(spec, **at, seed=seed)
    return read_workload(store_workload(store, lambda out: generate_workload(here, out)))


def at_rate(workload: Workload, rate: float, store: Path) -> Workload:
    """A workload with its arrivals stretched or pressed to a mean rate.

    Raises:
        UsageError: All its requests arrive at once, or when others are done.
    """
    workload.require_open_loop("a search")
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

    generator = {"kind": "scaled", "of": workload.digest, "rate": rate}
    return _stored(workload, moved, generator, None, store)


def from_clients(workload: Workload, clients: int, store: Path) -> Workload:
    """A workload's requests, in their order, from clients that each wait for their answer.

    Raises:
        UsageError: It is of conversations, or of clients.
    """
    workload.require_open_loop("a search")
    waiting = [r._replace(arrival_time_ns=0) for r in workload.requests]
    generator = {"kind": "closed", "of": workload.digest}
    return _stored(workload, waiting, generator, Load(clients), store)


def _stored(
    workload: Workload,
    requests: Sequence[WorkloadRequest],
    generator: Mapping[str, Any],
    load: Load | None,
    store: Path,
) -> Workload:
    def write(out: Path) -> None:
        write_workload(
            out,
            requests,
            workload.prompts,
            name=workload.workload_id.rpartition("-")[0] or str(generator["kind"]),
            seed=None,
            generator=generator,
            model=workload.meta.get("model"),
            tokenizer_ref=workload.meta.get("tokenizer_ref"),
            load=load,
            refused=workload.refused,
        )

    return read_workload(store_workload(store, write))
