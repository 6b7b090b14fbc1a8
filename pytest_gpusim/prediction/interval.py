"""``prediction.json``: each figure with an interval, by simulating again from drawn profiles."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_gpusim.errors import UsageError
from pytest_gpusim.json_documents import SCHEMA_VERSION, write_json
from pytest_gpusim.prediction.sources import Source, drawn_bundle, sources_of
from pytest_gpusim.progress import counted
from pytest_gpusim.runs.schema import PREDICTION
from pytest_gpusim.simulators.fleet import Fleet
from pytest_gpusim.simulators.output import engine_records
from pytest_gpusim.simulators.parameters import ROUTERS
from pytest_gpusim.simulators.reference import serve

if TYPE_CHECKING:
    import numpy as np

    from pytest_gpusim.providers import SimulationInputs

LEVEL = 0.90
FEWEST_SAMPLES = 5
PREDICTABLE = {"scheduler": "vllm", "predictor": "profile"}
"""Parameters of a simulation that can be drawn again, and the value that they must have."""
# Two runs of one engine differ by about so much in each figure; a simulator has none of that.
_RUN_TO_RUN = 0.01
_PERCENTILES = {"p50": 50, "p90": 90, "p95": 95, "p99": 99}
Figures = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Prediction:
    """Figures with their intervals, ns.

    Attributes:
        metrics: Metric, statistic: the figure, and the interval's ends.
        sources: What the intervals are made of.
        samples: How many simulations they are from.
    """

    metrics: dict[str, dict[str, tuple[float, float, float]]]
    sources: tuple[Source, ...]
    samples: int

    def to_json(self) -> dict[str, Any]:
        """The document of ``prediction.json``."""
        return {
            "schema_version": SCHEMA_VERSION,
            "metrics": {
                metric: {
                    name: dict(zip(("ns", "low_ns", "high_ns"), map(round, figure), strict=True))
                    for name, figure in figures.items()
                }
                for metric, figures in self.metrics.items()
            },
            "level": LEVEL,
            "samples": self.samples,
            "sources": [source.to_json() for source in self.sources],
        }

    def write(self, run_directory: Path) -> None:
        """Write it beside a simulated run."""
        write_json(run_directory / PREDICTION, self.to_json())


def predict(inputs: SimulationInputs, samples: int, seed: int = 0) -> Prediction:
    """Simulate from drawn profiles.

    Args:
        inputs: What is simulated, with complete settings (`case.simulated.checked_inputs`).
        samples: How many profiles are drawn.
        seed: The same one draws the same.

    Raises:
        UsageError: Too few samples, or a simulator whose step times are not the profile's.
    """
    require_predictable(samples, inputs.params)
    sources = sources_of(inputs.bundle, inputs.engine, inputs.clock)
    rng = random.Random(seed)
    point = _figures(inputs)
    drawn = [
        _figures(replace(inputs, bundle=drawn_bundle(inputs.bundle, sources, rng)))
        for _ in counted(range(samples), "simulate from drawn profiles", samples, "samples")
    ]
    metrics = {
        metric: {
            name: (value, *_interval([each[metric][name] for each in drawn]))
            for name, value in figures.items()
        }
        for metric, figures in point.items()
    }
    return Prediction(metrics, tuple(sources), samples)


def require_predictable(samples: int, params: Mapping[str, Any]) -> None:
    """Raise `UsageError` but for enough samples of engines by vLLM's rules and step times.

    Vidur's own scheduler and forest take no drawn profile: the forest would be trained for each.
    """
    if samples < FEWEST_SAMPLES:
        raise UsageError(f"--samples {samples}: expected at least {FEWEST_SAMPLES}")
    for name, usual in PREDICTABLE.items():
        if str(params.get(name, usual)) != usual:
            raise UsageError(f"--samples goes with {name}={usual}, not with {name}={params[name]}")


def prediction_lines(document: Mapping[str, Any]) -> Iterator[str]:
    """The document in words, a line per figure; times in ms."""
    yield f"{'':12}{'predicted':>12}   in {document['level']:.0%} of all cases, ms"
    for metric, figures in document["metrics"].items():
        for name, figure in figures.items():
            value, low, high = (figure[key] / 1e6 for key in ("ns", "low_ns", "high_ns"))
            label = f"{metric.upper()} {name}"
            yield f"{label:12}{value:12,.2f}   {low:,.2f} to {high:,.2f}"


def _interval(values: list[float]) -> tuple[float, float]:
    """Where one more value lies: log-normal, of unknown mean and width, and run to run."""
    import numpy as np
    from scipy import stats

    logs = np.log(np.maximum(values, 1.0))
    count = len(values)
    width = (float(logs.var(ddof=1)) * (1 + 1 / count) + _RUN_TO_RUN**2) ** 0.5
    reach = float(stats.t.ppf(0.5 + LEVEL / 2, count - 1)) * width
    middle = float(logs.mean())
    return float(np.exp(middle - reach)), float(np.exp(middle + reach))


def _figures(inputs: SimulationInputs) -> Figures:
    import numpy as np

    replicas = int(inputs.params.get("replicas", 1))
    fleet = Fleet.of_inputs(inputs, replicas, str(inputs.params.get("router", ROUTERS[0])))
    serve(inputs, fleet)
    times: dict[str, list[float]] = {"ttft": [], "tpot": [], "e2e": []}
    for record in engine_records(inputs, fleet.engines):
        tokens = record.token_times_ns
        if not tokens:
            continue
        times["ttft"].append(tokens[0] - record.arrival_ns)
        times["e2e"].append(tokens[-1] - record.arrival_ns)
        if len(tokens) > 1:
            times["tpot"].append((tokens[-1] - tokens[0]) / (len(tokens) - 1))
    return {name: _statistics(np.array(values)) for name, values in times.items() if values}


def _statistics(values: np.ndarray) -> dict[str, float]:
    import numpy as np

    found = {"mean": float(values.mean())}
    found.update({name: float(np.percentile(values, at)) for name, at in _PERCENTILES.items()})
    return found
