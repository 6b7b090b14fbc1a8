"""By what a run is known again: its own names, its content, and the requests that it served."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from pytest_gpusim.artifacts import sha256_file
from pytest_gpusim.runs.schema import REQUESTS
from pytest_gpusim.tables import find_table

if TYPE_CHECKING:
    from pytest_gpusim.runs.run import Run


def names_of(run: Run) -> set[str]:
    """All names under which a run, or what it served, may stand in ``calibrated_on``."""
    return {run.run_id, str(run.path), *digests_of(run)}


def digests_of(run: Run) -> set[str]:
    """The digests of a run, of the requests that it served, and of its workload where known."""
    digests = {run_digest(run), requests_digest(run)}
    workload = run.meta.get("workload_digest")
    return digests | ({str(workload)} if workload else set())


def run_digest(run: Run) -> str:
    """Sha256 of what became of its requests."""
    path = find_table(run.path, REQUESTS)
    return sha256_file(path) if path is not None else ""


def requests_digest(run: Run) -> str:
    """``requests:`` and the sha256 of its prompt and output lengths, whatever their order.

    It is the same for two runs whose clients sent the same requests, whatever the jitter of their
    arrivals and whether or not anyone kept the workload. Where all are of one length, the load, to
    two digits, tells workloads apart.
    """
    rows = run.requests
    lengths = sorted(zip(rows["num_prefill_tokens"], rows["num_decode_tokens"], strict=True))
    lines = [f"{prefill},{decode}" for prefill, decode in lengths]
    if len(set(lines)) == 1:
        arrivals = rows["arrival_time_ns"]
        lines.append(f"{float(arrivals.max() - arrivals.min()):.1e}")
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    return f"requests:{digest}"
