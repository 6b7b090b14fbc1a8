"""From finished steps to a run directory."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from heapq import merge
from itertools import chain
from operator import itemgetter
from statistics import fmean
from typing import Any, TypeVar

from pytest_gpusim.artifacts import utc_now
from pytest_gpusim.providers import SimulationInputs
from pytest_gpusim.runs import write_run
from pytest_gpusim.runs.records import (
    RequestRecord,
    asked_of,
    request_rows,
    stated_load,
    token_rows,
)
from pytest_gpusim.serving.frontend import Frontend
from pytest_gpusim.simulators.engine import ServingEngine
from pytest_gpusim.simulators.fleet import Fleet
from pytest_gpusim.simulators.frontend_client import FrontendClient
from pytest_gpusim.workload import Workload, WorkloadRequest
from pytest_gpusim.workload.client import LoadClient

NOT_SIMULATED = "NotSimulated"
T = TypeVar("T")


def engine_records(
    inputs: SimulationInputs, engines: Sequence[ServingEngine]
) -> list[RequestRecord]:
    """What became of each request, in order of id; tokens are out when their step ends.

    A client has them an egress later.
    """
    engine_of = {number: engine for engine in engines for number in engine.requests}
    found = []
    for request in inputs.workload.requests:
        record = simulated_record(inputs.workload, request, engines[0].client)
        engine = engine_of.get(request.request_id)
        if engine is not None:
            served = engine.requests[request.request_id]
            record.scheduled_ns = engine.planned_at[served.first_step]
            record.num_cached_tokens = served.num_cached_tokens
            way_back = engine.frontend.egress_ns(request.num_prefill_tokens)
            times = array("q")
            for first, end in served.token_spans():
                times += engine.ended_at[first:end]
            record.token_times_ns = array("q", map(way_back.__add__, times)) if way_back else times
        found.append(record)
    return found


def simulated_record(
    workload: Workload, request: WorkloadRequest, client: LoadClient | FrontendClient
) -> RequestRecord:
    """The record of a request as its client saw it, without what the engine did.

    It is sent when it can be. One that the real server refused is a failed one here, too.
    """
    arrival = client.arrival_ns.get(request.request_id, request.arrival_time_ns)
    record = RequestRecord(
        request_id=request.request_id,
        arrival_ns=arrival,
        sent_ns=arrival,
        num_prefill_tokens=request.num_prefill_tokens,
        num_decode_tokens=request.num_decode_tokens,
        **asked_of(workload, request),
    )
    if request.request_id in workload.refused:
        record.error_type, record.error_msg = NOT_SIMULATED, "the server refused it"
    return record


def write_simulation(
    inputs: SimulationInputs,
    simulator: str,
    started_at: str,
    records: Sequence[RequestRecord],
    *,
    steps: Iterator[Sequence[Any]],
    step_batches: Iterator[Mapping[Any, int]],
    details: Mapping[str, Any],
) -> None:
    """Write the run directory of a simulation.

    Args:
        inputs: What was simulated, with the settings that were used.
        simulator: Its name; the run's type.
        started_at: When it began.
        records: Per request.
        steps: Rows of ``step_metrics.csv``.
        step_batches: Per step, tokens by request id.
        details: What this simulator adds to the metadata.
    """
    bundle, workload = inputs.bundle, inputs.workload
    write_run(
        inputs.out_dir,
        requests=request_rows(records, simulator),
        tokens=token_rows(records),
        steps=steps,
        step_batches=step_batches,
        compress=inputs.compress,
        meta={
            "run_type": simulator,
            "backend": simulator,
            "model": inputs.model.name,
            "hardware": inputs.hardware.name,
            "device_name": bundle.meta.get("device_name"),
            "workload_dir": str(workload.path),
            "workload_digest": workload.digest,
            "profiling_root": str(bundle.path),
            "profiling_digest": bundle.digest,
            "profile": bundle.meta,
            "engine": inputs.engine.to_json(),
            "assumed": dict(inputs.engine.assumed),
            "started_at": started_at,
            "ended_at": utc_now(),
            "params": dict(inputs.params),
            "model_shape": inputs.model.to_json(),
            **stated_load(workload),
            **_clock(inputs),
            **details,
        },
    )


def _clock(inputs: SimulationInputs) -> dict[str, Any]:
    """The clock of the times; for the client's, the mean delays of its front end, None if none."""
    if inputs.clock == "engine":
        return {"clock": "engine"}
    frontend, prompts = Frontend.of_bundle(inputs.bundle), inputs.workload.requests
    ways = {"ingress_ns": frontend.ingress_ns, "egress_ns": frontend.egress_ns}
    means = {
        name: round(fmean(delay(request.num_prefill_tokens) for request in prompts))
        for name, delay in ways.items()
    }
    return {"clock": "client", "frontend": means if frontend.is_known else None}


def write_engine_run(
    inputs: SimulationInputs,
    simulator: str,
    started_at: str,
    fleet: Fleet,
    *,
    profiled: bool = True,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Write what a fleet did, often of one engine; steps of several in order of their starts.

    Args:
        inputs: What was simulated, with the settings that were used.
        simulator: Its name.
        started_at: When it began.
        fleet: With all steps finished.
        profiled: Whether the step times are those of the step-time model.
        details: What this simulator adds to the metadata.
    """
    write_simulation(
        inputs,
        simulator,
        started_at,
        engine_records(inputs, fleet.engines),
        steps=_step_rows(fleet),
        step_batches=_in_order(fleet, [engine.log.batches() for engine in fleet.engines]),
        details={
            "scheduler_rules": asdict(fleet.engines[0].rules),
            "num_steps": sum(len(engine.log) for engine in fleet.engines),
            **(_profile_details(fleet) if profiled else {}),
            **({"fleet": fleet.to_json()} if len(fleet.engines) > 1 else {}),
            **(details or {}),
        },
    )


def _profile_details(fleet: Fleet) -> dict[str, Any]:
    """Where the time went, over the whole run, and how many steps left the profile."""
    logs = [engine.log for engine in fleet.engines]
    totals = fleet.engines[0].model.totals(chain.from_iterable(log.times() for log in logs))
    whole = sum(totals.values()) or 1.0
    return {
        "operator_shares": {name: round(time / whole, 6) for name, time in totals.items()},
        "extrapolated_steps": sum(log.num_extrapolated for log in logs),
    }


def _step_rows(fleet: Fleet) -> Iterator[Sequence[Any]]:
    rows = _in_order(fleet, [engine.log.rows() for engine in fleet.engines])
    return ((number, *row) for number, row in enumerate(rows))


def _in_order(fleet: Fleet, of_engines: Sequence[Iterable[T]]) -> Iterator[T]:
    """What there is of each step of all engines, in order of starts."""
    if len(of_engines) == 1:
        return iter(of_engines[0])
    starts = (engine.log.starts() for engine in fleet.engines)
    pairs = map(partial(zip, strict=True), starts, of_engines)
    return map(itemgetter(1), merge(*pairs, key=itemgetter(0)))
