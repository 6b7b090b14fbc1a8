"""By what a run is known again: its own names, its content, and the requests that it served."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_gpusim.runs.run import Run

_TIMES = ("arrival_time_ns", "first_token_time_ns", "completion_time_ns")
_COUNTS = ("num_prefill_tokens", "num_decode_tokens", "num_decode_tokens_actual")
_UNKNOWN = -(2**62)
_ROW = ",".join(["%s"] * (len(_TIMES) + len(_COUNTS) + 1))


def names_of(run: Run) -> set[str]:
    """All names under which a run, or what it served, may stand in ``calibrated_on``."""
    return {run.run_id, str(run.path), *digests_of(run)}


def digests_of(run: Run) -> set[str]:
    """The digests of a run, of the requests that it served, and of its workload where known."""
    digests = {run_digest(run), requests_digest(run)}
    workload = run.meta.get("workload_digest")
    return digests | ({str(workload)} if workload else set())


def run_digest(run: Run) -> str:
    """Sha256 over the canonical request rows without ids.

    Arrivals, first tokens and completions from the first arrival on, lengths and status, in order
    of their values: a copy under another name, or with other ids, has the same.
    """
    start = int(run.requests["arrival_time_ns"].min())
    columns = [
        run.requests[name].to_numpy(dtype="int64", na_value=_UNKNOWN).tolist()
        for name in (*_TIMES, *_COUNTS)
    ]
    shifted = [
        [value if value == _UNKNOWN else value - start for value in column]
        for column in columns[: len(_TIMES)]
    ]
    rows = sorted(zip(*shifted, *columns[len(_TIMES) :], run.requests["status"], strict=True))
    text = "\n".join([_ROW % row for row in rows])
    return hashlib.sha256(text.encode()).hexdigest()


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
