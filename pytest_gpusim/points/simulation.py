"""Simulating a point: its closed-loop load through the serving engine, or any simulator."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_gpusim.bundle import Bundle, read_bundle
from pytest_gpusim.errors import EngineError
from pytest_gpusim.points.clients import Client, client_of
from pytest_gpusim.points.deployment import BLOCK_SIZE, Served, served_by, system_of
from pytest_gpusim.points.rows import Point
from pytest_gpusim.profiling.aiconfigurator import compose
from pytest_gpusim.profiling.silicon_fusions import Fusions
from pytest_gpusim.profiling.silicon_tables import SiliconTables, open_tables
from pytest_gpusim.providers import SimulationInputs
from pytest_gpusim.workload import Workload, WorkloadRequest, read_workload, write_workload
from pytest_gpusim.workload.load import Load
from pytest_gpusim.workload.prompts import Prompt

if TYPE_CHECKING:
    from pytest_gpusim.registry import Registry

REFERENCE = "reference"
FRONT_END_NS = 9_500_000
"""From a client's request to the engine's queue: HTTP, tokenizing, hand-over. What vLLM's server on
an H100 takes by ``python -m benchmarks.h100``, 9.6 and 9.4 ms at two loads; of other runs than the
points."""


@dataclass(frozen=True)
class Simulated:
    """What a simulation of a point gave.

    Attributes:
        ttft_ms, tpot_ms: Means over all requests.
        sequences: Mean number of sequences of a step; None where the simulator does not tell.
        steps: Number of steps; None as well.
    """

    ttft_ms: float
    tpot_ms: float
    sequences: float | None
    steps: int | None


@dataclass(frozen=True)
class EngineTime:
    """Time of a step that no table of kernels holds, in ns: so much, and more per sequence."""

    per_step_ns: float = 0.0
    per_sequence_ns: float = 0.0


class PointSimulator:
    """Simulates points; makes each bundle once. Use it as a context: it keeps files aside.

    Args:
        registry: Models, hardware and simulators.
        simulator: A registered name. The reference simulator runs here without writing its runs.
    """

    def __init__(self, registry: Registry, simulator: str = REFERENCE) -> None:
        registry.simulators.require(simulator)
        self._registry, self._simulator = registry, simulator
        self._tables: dict[str, SiliconTables] = {}
        self._bundles: dict[tuple[str, str, int, bool, Fusions], Bundle] = {}
        self._scratch = Path(tempfile.mkdtemp(prefix="gpusim-points-"))
        self._made = 0

    def __enter__(self) -> PointSimulator:
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._scratch, ignore_errors=True)

    def served(self, point: Point) -> Served:
        """What served the point; raises `GpusimError` with the reason where it is refused."""
        return served_by(point, client_of(point), self._registry, self.tables(point))

    def tables(self, point: Point) -> SiliconTables:
        """The silicon tables of a point's device."""
        system = system_of(point.hardware)
        if system not in self._tables:
            self._tables[system] = open_tables(system, "vllm", None)
        return self._tables[system]

    def distrusted(self, point: Point) -> list[str]:
        """The tables behind a point that contradict themselves, a sentence each."""
        return list(self._bundle(point, self.served(point)).meta["distrusted"])

    def simulate(self, point: Point, engine_time: EngineTime | None = None) -> Simulated:
        """Simulate a point, with engine time on top of its kernels where that is given."""
        served = self.served(point)
        bundle = self._bundle(point, served)
        if engine_time is not None:
            bundle = _with_engine_time(bundle, engine_time)
        bundle = _with_front_end(bundle)
        inputs = SimulationInputs(
            model=served.shape,
            hardware=served.hardware,
            workload=self._workload(point, client_of(point)),
            bundle=bundle,
            engine=served.settings,
            out_dir=self._place("run"),
            clock="client",
        )
        if self._simulator == REFERENCE:
            return _run_here(inputs)
        return self._run(inputs)

    def _bundle(self, point: Point, served: Served) -> Bundle:
        key = (
            served.shape.name,
            point.hardware,
            point.tensor_parallel,
            served.expert_parallel,
            served.fusions,
        )
        if key not in self._bundles:
            out = self._place("bundle")
            compose(
                self.tables(point),
                served.shape,
                tensor_parallel=point.tensor_parallel,
                expert_parallel=served.expert_parallel,
                fusions=served.fusions,
                block_size=BLOCK_SIZE,
                hardware=point.hardware,
                out=out,
            )
            self._bundles[key] = read_bundle(out)
        return self._bundles[key]

    def _workload(self, point: Point, client: Client) -> Workload:
        lengths = client.lengths(point)
        requests = [WorkloadRequest(i, *request, 0) for i, request in enumerate(lengths)]
        prompts = None
        if client.distinct_prompts is not None:
            sizes = {prompt: tokens for prompt, tokens, _ in lengths}
            prompts = {
                prompt: Prompt(prompt, seed=prompt, num_tokens=tokens)
                for prompt, tokens in sizes.items()
            }
        place = self._place("workload")
        write_workload(
            place,
            requests,
            prompts,
            name="point",
            seed=0,
            generator={"kind": "points", "client": client.name},
            load=Load(point.concurrency),
        )
        workload = read_workload(place)
        shutil.rmtree(place)
        return workload

    def _run(self, inputs: SimulationInputs) -> Simulated:
        from pytest_gpusim.runs import read_run

        self._registry.simulators.get(self._simulator)(inputs)
        found = read_run(inputs.out_dir).finished
        if len(found) < len(inputs.workload.requests):
            raise EngineError(f"{self._simulator}: {len(found)} requests were answered")
        first, last = found["first_token_time_ns"], found["completion_time_ns"]
        later = found["num_decode_tokens_actual"] - 1
        tpot = ((last - first) / later)[later > 0]
        simulated = Simulated(found["ttft_ns"].mean() / 1e6, tpot.mean() / 1e6, None, None)
        shutil.rmtree(inputs.out_dir)
        return simulated

    def _place(self, what: str) -> Path:
        self._made += 1
        return self._scratch / f"{what}{self._made}"


def _run_here(inputs: SimulationInputs) -> Simulated:
    """The reference simulation, without writing millions of token times."""
    from pytest_gpusim.simulators.engine import ServingEngine
    from pytest_gpusim.simulators.output import engine_records
    from pytest_gpusim.simulators.reference import run

    engine = ServingEngine.of_inputs(inputs)
    run(inputs, engine)
    ttft = tpot = 0.0
    several = 0
    records = engine_records(inputs, [engine])
    for record in records:
        times = record.token_times_ns or ()
        if not times:
            raise EngineError(f"request {record.request_id} was never answered")
        ttft += times[0] - record.arrival_ns
        if len(times) > 1:
            several += 1
            tpot += (times[-1] - times[0]) / (len(times) - 1)
    # Steps with prefill are few and long; engine time counts once in each, whatever its length.
    sequences = engine.log.num_sequences / len(engine.log)
    return Simulated(
        ttft / len(records) / 1e6,
        tpot / max(1, several) / 1e6,
        sequences,
        len(engine.log),
    )


def _with_engine_time(bundle: Bundle, engine_time: EngineTime) -> Bundle:
    """The bundle with a step's engine time, linear in its sequences, whatever its prefill."""
    import pandas as pd

    most = 1 << 16
    overhead = pd.DataFrame(
        {
            "num_prefill_tokens": [0, 0, most, most],
            "num_sequences": [0, most, 0, most],
            "time_ns": [
                engine_time.per_step_ns + count * engine_time.per_sequence_ns
                for count in (0, most, 0, most)
            ],
        }
    )
    return replace(bundle, overhead=overhead)


def _with_front_end(bundle: Bundle) -> Bundle:
    """The bundle with the time from a client's request to the engine's queue."""
    import pandas as pd

    row = {"boundary": "ingress", "num_prompt_tokens": 1, "time_ns": FRONT_END_NS}
    return replace(bundle, frontend=pd.DataFrame([row]))
