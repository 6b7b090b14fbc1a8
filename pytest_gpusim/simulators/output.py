"""From finished steps to a run directory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

from pytest_gpusim.artifacts import utc_now
from pytest_gpusim.registry import SimulationInputs
from pytest_gpusim.runs import write_run
from pytest_gpusim.simulators.engine import ServingEngine
from pytest_gpusim.workload import WorkloadRequest


class RequestTimes(NamedTuple):
    """What became of a request.

    Attributes:
        request: As the workload has it.
        scheduled_ns: When it was first planned.
        num_cached_tokens: Prompt tokens found in the prefix cache when it was first admitted.
        token_ns: When each output token was out.
    """

    request: WorkloadRequest
    scheduled_ns: int
    num_cached_tokens: int
    token_ns: Sequence[int]


def engine_request_times(inputs: SimulationInputs, engine: ServingEngine) -> list[RequestTimes]:
    """Token times from the steps that produced them, in order of request id."""
    planned, ended = engine.planned_at, engine.ended_at
    found = []
    for request in inputs.workload.requests:
        served = engine.requests[request.request_id]
        found.append(
            RequestTimes(
                request,
                planned[served.first_step],
                served.num_cached_tokens,
                [ended[step] for step in served.token_steps()],
            )
        )
    return found


def write_simulation(
    inputs: SimulationInputs,
    simulator: str,
    started_at: str,
    times: Sequence[RequestTimes],
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
        times: Per request.
        steps: Rows of ``step_metrics.csv``.
        step_batches: Per step, tokens by request id.
        details: What this simulator adds to the metadata.
    """
    bundle, workload = inputs.bundle, inputs.workload
    write_run(
        inputs.out_dir,
        requests=(_request_row(entry, simulator) for entry in times),
        tokens=_token_rows(times),
        steps=steps,
        step_batches=step_batches,
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
            "started_at": started_at,
            "ended_at": utc_now(),
            "params": dict(inputs.params),
            "model_shape": inputs.model.to_json(),
            **details,
        },
    )


def write_engine_run(
    inputs: SimulationInputs,
    simulator: str,
    started_at: str,
    engine: ServingEngine,
    *,
    profiled: bool = True,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Write what a `ServingEngine` did.

    Args:
        inputs: What was simulated, with the settings that were used.
        simulator: Its name.
        started_at: When it began.
        engine: With all steps finished.
        profiled: Whether the step times are those of the step-time model.
        details: What this simulator adds to the metadata.
    """
    write_simulation(
        inputs,
        simulator,
        started_at,
        engine_request_times(inputs, engine),
        steps=_step_rows(engine),
        step_batches=_batches(engine),
        details={
            "scheduler_rules": asdict(engine.rules),
            "num_steps": len(engine.steps),
            **(_profile_details(engine) if profiled else {}),
            **(details or {}),
        },
    )


def _profile_details(engine: ServingEngine) -> dict[str, Any]:
    """Where the time went, over the whole run, and how many steps left the profile."""
    timed = [(entry.features, engine.time(entry)) for entry in engine.steps]
    totals = engine.model.totals(timed)
    whole = sum(totals.values()) or 1.0
    return {
        "operator_shares": {name: round(time / whole, 6) for name, time in totals.items()},
        "extrapolated_steps": sum(time.extrapolated for _, time in timed),
    }


def _request_row(entry: RequestTimes, simulator: str) -> Sequence[Any]:
    request, tokens = entry.request, entry.token_ns
    arrival = request.arrival_time_ns
    return (
        request.request_id,
        arrival,
        arrival,
        entry.scheduled_ns,
        tokens[0],
        tokens[0] - arrival,
        tokens[-1],
        request.num_prefill_tokens,
        entry.num_cached_tokens,
        request.num_decode_tokens,
        len(tokens),
        "ok" if len(tokens) == request.num_decode_tokens else "early_stop",
        simulator,
        None,
        None,
    )


def _token_rows(times: Sequence[RequestTimes]) -> Iterator[Sequence[int]]:
    for request, _, _, tokens in times:
        request_id, before = request.request_id, request.arrival_time_ns
        for index, time in enumerate(tokens):
            yield request_id, index, time, time - before
            before = time


def _batches(engine: ServingEngine) -> Iterator[Mapping[Any, int]]:
    """Tokens by request id; the same mapping again while the same requests decode."""
    batch: dict[Any, int] = {}
    decoding: object = None
    for entry in engine.steps:
        step = entry.step
        if step.prefills or step.requests is not decoding:
            batch = {request.request_id: tokens for request, tokens in step.batch()}
            decoding = None if step.prefills else step.requests
        yield batch


def _step_rows(engine: ServingEngine) -> Iterator[Sequence[Any]]:
    for number, entry in enumerate(engine.steps):
        step = entry.step
        yield (
            number,
            entry.start_ns,
            entry.end_ns - entry.start_ns,
            step.num_prefill_tokens,
            step.num_decodes,
            len(step.requests),
            step.num_running,
            step.num_waiting,
            step.num_blocks_used,
            entry.num_preempted,
            None if entry.time is None else int(entry.time.extrapolated),
        )
