"""The run directory of a simulation by Vidur's own scheduler."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pytest_gpusim.errors import EngineError
from pytest_gpusim.runs.records import RequestRecord
from pytest_gpusim.simulators.output import simulated_record, write_simulation

if TYPE_CHECKING:
    from pytest_gpusim.simulators.vidur.session import Session


def write_sarathi_run(
    session: Session, simulator: str, started_at: str, details: Mapping[str, Any]
) -> None:
    """Write what Vidur's own scheduler did."""
    for request in session.requests:
        if not request.completed:
            raise EngineError(
                f"Vidur's sarathi never finished request {request.source.request_id}: "
                "raise num_gpu_blocks"
            )
    write_simulation(
        session.inputs,
        simulator,
        started_at,
        _records(session),
        steps=_step_rows(session),
        step_batches=(batch.tokens for batch in session.batches),
        details={"num_steps": len(session.batches), **details},
    )


def _records(session: Session) -> list[RequestRecord]:
    workload = session.inputs.workload
    served = {request.source.request_id: request for request in session.requests}
    found = []
    for request in workload.requests:
        record = simulated_record(workload, request, session.engine.client)
        if request.request_id in served:
            record.scheduled_ns = served[request.request_id].scheduled_ns
            record.num_cached_tokens = 0
            way_back = session.engine.frontend.egress_ns(request.num_prefill_tokens)
            times = served[request.request_id].token_ns
            record.token_times_ns = array("q", map(way_back.__add__, times))
        found.append(record)
    return found


def _step_rows(session: Session) -> Iterator[Sequence[Any]]:
    for number, batch in enumerate(session.batches):
        chunks, decodes = batch.features.chunks, batch.features.num_decodes
        yield (
            number,
            batch.start_ns,
            batch.duration_ns,
            sum(tokens for tokens, _ in chunks),
            decodes,
            batch.features.num_sequences,
            None,
            batch.num_waiting,
            batch.num_allocated_blocks,
            None,
            None if batch.time is None else int(batch.time.extrapolated),
        )
