"""``python -m benchmarks.speed.closed_loop``: what it costs to wait for answers.

The same requests on an engine with a seat for each client, sent by so many clients and in an open
loop: all at once, and at the rate at which the clients were served. Read the ratios.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from pathlib import Path
from statistics import median

from benchmarks.speed.simulators import synthetic_inputs
from pytest_gpusim.providers import SimulationInputs
from pytest_gpusim.simulators import reference
from pytest_gpusim.simulators.engine import ServingEngine
from pytest_gpusim.simulators.fleet import Fleet
from pytest_gpusim.simulators.vidur import runner
from pytest_gpusim.workload import Load
from tests.factories import make_workload


def main() -> None:
    """Print seconds and ratios, for both simulators."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=5, help="whose median counts")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        import vidur.simulator  # noqa: F401 - its import is not what is measured

        loads = _loads(Path(scratch), options.clients, options.requests)
        print(f"{options.requests:,} requests, {options.clients} clients")
        for name in ("reference", "vidur"):
            rounds = [
                {load: _seconds(name, inputs) for load, inputs in loads.items()}
                for _ in range(options.repeats)
            ]
            seconds = {load: median(each[load] for each in rounds) for load in loads}
            for load, value in seconds.items():
                ratio = median(each["closed loop"] / each[load] for each in rounds)
                print(f" {name:<10} {load:<26}{value:8.2f} s   closed loop {ratio:6.2f} x")


def _loads(scratch: Path, clients: int, requests: int) -> dict[str, SimulationInputs]:
    stream = random.Random(0)
    lengths = [(stream.randint(16, 256), stream.randint(16, 128)) for _ in range(requests)]

    def inputs(name: str, gap_ns: int, load: Load | None) -> SimulationInputs:
        rows = [(*pair, number * gap_ns) for number, pair in enumerate(lengths)]
        workload = make_workload(scratch / name / "workload", rows, load=load)
        return synthetic_inputs(scratch / name, workload, clients, 512, clients * 32)

    closed = inputs("closed", 0, Load(clients))
    engine = ServingEngine.of_inputs(closed)
    reference.run(closed, engine)
    rate = engine.log.end_ns // requests
    return {
        "open loop, all at once": inputs("burst", 0, None),
        "open loop, at their rate": inputs("rate", rate, None),
        "closed loop": closed,
    }


def _seconds(simulator: str, inputs: SimulationInputs) -> float:
    fleet = Fleet.of_inputs(inputs, 1, "round_robin")
    start = time.perf_counter()
    if simulator == "reference":
        reference.run(inputs, fleet.engines[0])
    else:
        runner.run(inputs, fleet, "vllm", "profile")
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
