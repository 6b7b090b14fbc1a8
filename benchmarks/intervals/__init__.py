"""Do the intervals of predictions hold, and what do they cost? All real runs at hand, by run.

An interval's score is its width, plus 20 times the distance by which the real figure lies outside
of it (Gneiting and Raftery, *Strictly proper scoring rules, prediction, and estimation*, J. Am.
Stat. Assoc. 102, 2007, for an interval of 90%), relative to the real figure: less is better. Beside
it stands the naive interval, the prediction ± the mean |error| of all other groups of runs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

from benchmarks import h100
from benchmarks.cases import RECORDINGS
from pytest_gpusim.backends.recorded import open_recording
from pytest_gpusim.bundle import Bundle, read_bundle
from pytest_gpusim.calibration import calibrate
from pytest_gpusim.calibration.evidence import STATISTICS
from pytest_gpusim.case.definition import engine_of
from pytest_gpusim.case.given import workload_of
from pytest_gpusim.case.simulated import checked_inputs
from pytest_gpusim.compare import compare_runs
from pytest_gpusim.llmservingsim.inputs import prepare
from pytest_gpusim.llmservingsim.published_run import find_runs, read_published
from pytest_gpusim.prediction import Prediction, predict
from pytest_gpusim.prediction.interval import LEVEL
from pytest_gpusim.providers import SimulationInputs
from pytest_gpusim.registry import builtin_registry
from pytest_gpusim.runs import Run, read_run

METRICS = ("ttft", "tpot", "e2e")
_PENALTY = 2 / (1 - LEVEL)
REGISTRY = builtin_registry()


@dataclass(frozen=True)
class Case:
    """Real runs of one workload, and their prediction.

    Attributes:
        group: Runs of one deployment, which share their errors.
        name: For people.
        prediction: Of the runs' figures.
        runs: The runs.
    """

    group: str
    name: str
    prediction: Prediction
    runs: tuple[Run, ...]

    def figures(self) -> Iterator[tuple[float, tuple[float, float, float]]]:
        """Of each run: the real figure, and the prediction with its interval."""
        for run in self.runs:
            known = compare_runs([run], run).metrics
            for metric in METRICS:
                for name in STATISTICS:
                    yield known[metric][name]["real_ns"], self.prediction.metrics[metric][name]

    @property
    def mean_error(self) -> float:
        """Mean of |predicted - real| / real."""
        return fmean(abs(figure[0] / real - 1) for real, figure in self.figures())


@dataclass(frozen=True)
class Score:
    """Of a kind of interval over some figures: share covered, mean width and score."""

    covered: float
    width: float
    score: float

    @classmethod
    def of(cls, figures: Sequence[tuple[float, float, float]]) -> Score:
        """From (real, low, high)."""
        return cls(
            fmean(low <= real <= high for real, low, high in figures),
            fmean((high - low) / real for real, low, high in figures),
            fmean(
                (high - low + _PENALTY * max(0.0, low - real, real - high)) / real
                for real, low, high in figures
            ),
        )


def cases(data: Path, scratch: Path, samples: int) -> Iterator[Case]:
    """All real runs at hand, each predicted.

    Args:
        data: The folder of the shared data.
        scratch: Where bundles and workloads are made.
        samples: Simulations for each prediction.
    """
    yield from _recorded(samples)
    yield from _published(data, scratch / "published", samples)
    if (data / "h100_qwen3-14b").is_dir():
        yield from _h100(data / "h100_qwen3-14b", scratch / "h100", samples)


def _recorded(samples: int) -> Iterator[Case]:
    for place in sorted(path.parent for path in RECORDINGS.glob("*/recording.json")):
        recording = open_recording(place)
        run = recording.runs[0]
        prediction = predict(_inputs(run, recording.bundle), samples)
        yield Case("cpu", place.name, prediction, tuple(recording.runs))


def _published(data: Path, scratch: Path, samples: int) -> Iterator[Case]:
    roots = [data / name for name in ("llmservingsim", "llmservingsim_tp2")]
    for directory in find_runs([root for root in roots if root.is_dir()]):
        work = scratch / directory.name
        inputs = prepare(read_published(directory, REGISTRY), REGISTRY, work)
        prediction = predict(checked_inputs(inputs), samples)
        yield Case(directory.name, directory.name, prediction, (read_run(work / "real"),))


def _h100(data: Path, scratch: Path, samples: int) -> Iterator[Case]:
    profile = h100.profile(scratch / "profile")
    runs = {load: h100.runs_of(data, load) for load in h100.LOADS}
    for load in h100.LOADS:
        other = next(each for each in h100.LOADS if each != load)
        calibrated = scratch / f"on-{other}"
        calibrate(runs[other], profile, REGISTRY, calibrated, artifacts=scratch / "tmp")
        for words, bundle in (("", profile), (f", fitted on {other}", read_bundle(calibrated))):
            prediction = predict(_inputs(runs[load][0], bundle), samples)
            yield Case("h100", f"h100 {load}{words}", prediction, tuple(runs[load]))


def _inputs(run: Run, bundle: Bundle) -> SimulationInputs:
    model, hardware = str(bundle.meta["model"]), str(bundle.meta["hardware"])
    inputs = SimulationInputs(
        REGISTRY.models.get(model),
        REGISTRY.hardware.get(hardware),
        workload_of(run, Path("tmp") / "workloads"),
        bundle,
        engine_of(run),
        Path(),
        clock=run.clock,
    )
    return checked_inputs(replace(inputs))


def scores(found: Sequence[Case]) -> Mapping[str, tuple[Score, Score]]:
    """By case, and over all: the score of the predicted interval and that of the naive one."""
    both: dict[str, list[list[tuple[float, float, float]]]] = {"all": [[], []]}
    for case in found:
        others = [each.mean_error for each in found if each.group != case.group]
        error = fmean(others) if others else case.mean_error
        ours, naive = both.setdefault(case.name, [[], []])
        for real, (value, low, high) in case.figures():
            ours.append((real, low, high))
            naive.append((real, value * (1 - error), value * (1 + error)))
        both["all"][0] += ours
        both["all"][1] += naive
    return {name: (Score.of(ours), Score.of(naive)) for name, (ours, naive) in both.items()}


def default_data() -> Path:
    """The shared data's folder."""
    return Path(os.environ.get("GPUSIM_SHARED_DATA", ".")) / "data"
