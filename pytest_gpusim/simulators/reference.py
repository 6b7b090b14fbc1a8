"""The reference simulator: serving engines and their client in a bare loop."""

from __future__ import annotations

from dataclasses import replace
from heapq import heappop, heappush
from itertools import count

from pytest_gpusim.artifacts import require_vacant, utc_now
from pytest_gpusim.parameters import read_parameters
from pytest_gpusim.progress import Progress
from pytest_gpusim.providers import SimulationInputs
from pytest_gpusim.simulators.engine import ServingEngine, TimedStep, complete_settings
from pytest_gpusim.simulators.fleet import Fleet
from pytest_gpusim.simulators.output import write_engine_run
from pytest_gpusim.simulators.parameters import FLEET, ROUTERS

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
    params = read_parameters(FLEET, inputs.params, "the reference simulator")
    inputs = replace(inputs, engine=complete_settings(inputs))
    started_at = utc_now()
    fleet = Fleet.of_inputs(inputs, params.get("replicas", 1), params.get("router", ROUTERS[0]))
    with Progress("simulate", len(inputs.workload.requests), "requests") as progress:
        for engine in fleet.engines:
            engine.progress = progress
        serve(inputs, fleet)
    write_engine_run(inputs, NAME, started_at, fleet)


def serve(inputs: SimulationInputs, fleet: Fleet) -> None:
    """Feed the workload to a fleet, of one engine or of several, until it is done."""
    if len(fleet.engines) == 1:
        run(inputs, fleet.engines[0])
    else:
        run_fleet(fleet)


def run(inputs: SimulationInputs, engine: ServingEngine) -> None:
    """Feed the workload to the engine until it is done."""
    now, due = 0, engine.client.next_due()
    while True:
        if due is not None and due <= now:
            engine.arrive_due(now)
            due = engine.client.next_due()
        timed = engine.next_step(now)
        if timed is not None:
            now += engine.time(timed).time_ns
            # Between answers the client has nothing new to say.
            if engine.finish(timed, now):
                due = engine.client.next_due()
        elif due is not None:
            now = due
        else:
            return


def run_fleet(fleet: Fleet) -> None:
    """Feed the client's requests to several engines until all are done.

    At one instant requests are routed first; then steps end, in the order in which they began, each
    followed by what the client sends upon it; then idle engines plan. So does Vidur's event queue.
    """
    now, number = 0, count()
    ends: list[tuple[int, int, int, TimedStep]] = []
    idle = set(range(len(fleet.engines)))
    while True:
        fleet.arrive_due(now)
        while ends and ends[0][0] == now:
            _, _, place, timed = heappop(ends)
            fleet.engines[place].finish(timed, now)
            idle.add(place)
            fleet.arrive_due(now)
        for place in sorted(idle):
            engine = fleet.engines[place]
            step = engine.next_step(now)
            if step is not None:
                heappush(ends, (now + engine.time(step).time_ns, next(number), place, step))
                idle.remove(place)
        due = fleet.client.next_due()
        times = ([ends[0][0]] if ends else []) + ([] if due is None else [due])
        if not times:
            return
        now = min(times)
