"""The reference simulator: the serving engine and its client in a bare loop."""

from __future__ import annotations

from dataclasses import replace

from pytest_gpusim.artifacts import require_vacant, utc_now
from pytest_gpusim.progress import Progress
from pytest_gpusim.registry import SimulationInputs
from pytest_gpusim.simulators.engine import ServingEngine, complete_settings
from pytest_gpusim.simulators.output import write_engine_run

NAME = "reference"


def simulate(inputs: SimulationInputs) -> None:
    """Simulate a workload and write the run directory ``inputs.out_dir``.

    A token is out at the end of the step that computed it. Engine settings that are not stated are
    the bundle's. The same inputs give the same CSV files, byte for byte.

    Raises:
        UsageError: The engine's settings are incomplete, or a request can never run under them.
        InputError: The bundle does not fit the model or the settings.
    """
    require_vacant(inputs.out_dir)
    inputs = replace(inputs, engine=complete_settings(inputs))
    started_at = utc_now()
    engine = ServingEngine.of_inputs(inputs)
    with Progress("simulate", len(inputs.workload.requests), "requests") as engine.progress:
        run(inputs, engine)
    write_engine_run(inputs, NAME, started_at, engine)


def run(inputs: SimulationInputs, engine: ServingEngine) -> None:
    """Feed the workload to the engine until it is done."""
    now = 0
    while True:
        engine.arrive_due(now)
        timed = engine.next_step(now)
        if timed is not None:
            now += engine.time(timed).time_ns
            engine.finish(timed, now)
            continue
        due = engine.client.next_due()
        if due is None:
            return
        now = due
