"""The figures of a workload as a function of engine time and front end, by simulating it again."""

from __future__ import annotations

from bisect import insort
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_gpusim.calibration.evidence import STATISTICS, Evidence, Figures
from pytest_gpusim.progress import Progress
from pytest_gpusim.simulators.engine import ServingEngine
from pytest_gpusim.simulators.reference import run as run_reference

if TYPE_CHECKING:
    import numpy as np


class Resimulation:
    """Simulations of one workload at several engine times, and figures in between.

    A front end that delays every request alike moves a client's TTFT by itself and leaves the
    schedule alone, so it is added; engine time changes the schedule, so it is simulated, and linear
    between two simulations.
    """

    def __init__(self, evidence: Evidence, *, measured: bool) -> None:
        """``measured``: the profile has its own engine time, which stays."""
        self._evidence, self._measured = evidence, measured
        self._known: dict[float, dict[str, np.ndarray]] = {}
        self._places: list[float] = []
        self.mean_step_ns = 0.0

    def simulate(self, engine_time_ns: float, apart_ns: float = 0.0) -> None:
        """Add a simulation, unless there is one no further than ``apart_ns`` from it.

        Two schedules that are nearer differ by chance, and a line between them tells nothing.
        """
        place = float(round(engine_time_ns))
        if any(abs(place - known) <= apart_ns for known in self._places):
            return
        self._known[place] = self._times(place)
        insort(self._places, place)

    def figures(self, engine_time_ns: float, front_end_ns: float) -> Figures:
        """Mean, median and 90th percentile of TTFT and TPOT."""
        import numpy as np

        below, above = self._around(engine_time_ns)
        share = 0.0 if above == below else (engine_time_ns - below) / (above - below)
        found: Figures = {}
        for metric in self._known[below]:
            added = front_end_ns if metric == "ttft" else 0.0
            one, other = (_statistics(self._known[place][metric]) for place in (below, above))
            line = (1 - share) * np.array(one) + share * np.array(other) + added
            found[metric] = dict(zip(STATISTICS, line.tolist(), strict=True))
        return found

    def _around(self, time: float) -> tuple[float, float]:
        places = self._places
        if len(places) == 1:
            return places[0], places[0]
        after = next((i for i, place in enumerate(places) if place >= time), len(places) - 1)
        after = max(after, 1)
        return places[after - 1], places[after]

    def _times(self, engine_time_ns: float) -> dict[str, np.ndarray]:
        import numpy as np

        inputs = self._evidence.inputs
        if not self._measured:
            bundle = inputs.bundle.with_engine_time(round(engine_time_ns))
            inputs = replace(inputs, bundle=bundle)
        engine = ServingEngine.of_inputs(inputs)
        with Progress("simulate", len(inputs.workload.requests), "requests") as progress:
            engine.progress = progress
            run_reference(inputs, engine)
        if len(engine.log):
            self.mean_step_ns = engine.log.busy_ns / len(engine.log)
        ended, first, each = engine.ended_at, [], []
        for request in inputs.workload.requests:
            served = engine.requests.get(request.request_id)
            if served is None:
                continue
            tokens = [ended[step] for step in served.token_steps()]
            first.append(tokens[0] - engine.client.arrival_ns[request.request_id])
            if len(tokens) > 1:
                each.append((tokens[-1] - tokens[0]) / (len(tokens) - 1))
        return {"ttft": np.array(first, dtype="float64"), "tpot": np.array(each, dtype="float64")}


def _statistics(values: np.ndarray) -> tuple[float, ...]:
    import numpy as np

    if not len(values):
        return (0.0, 0.0, 0.0)
    middle, high = np.percentile(values, [50, 90])
    return float(values.mean()), float(middle), float(high)
