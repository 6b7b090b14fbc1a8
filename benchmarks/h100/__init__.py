"""A real H100 from tables of its kernels: uncalibrated, and calibrated on another load.

Real runs of vLLM 0.23 at 4 and at 8 requests per second, two of each. The profile is composed from
AIConfigurator's tables; engine time and front end are fitted on the runs of one load and judged on
those of the other. No run is judged by what was fitted on it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from pytest_gpusim.bundle import Bundle, read_bundle
from pytest_gpusim.calibration import Calibration, calibrate
from pytest_gpusim.case import run_simulator
from pytest_gpusim.case.given import workload_of
from pytest_gpusim.compare import Comparison, compare_runs
from pytest_gpusim.deployment import EngineSettings
from pytest_gpusim.profiling.aiconfigurator import SOURCE
from pytest_gpusim.providers import SimulationInputs
from pytest_gpusim.registry import builtin_registry
from pytest_gpusim.runs import Run, read_run

MODEL, HARDWARE, SYSTEM = "Qwen/Qwen3-14B", "h100", "h100_sxm"
LOADS = ("r4", "r8")
METRICS, STATISTICS = ("ttft", "tpot", "e2e"), ("mean", "p50", "p90")


@dataclass(frozen=True)
class Judged:
    """A load, simulated and held against its two real runs.

    Attributes:
        load: Its name.
        calibrated_on: The load that was fitted on; None: the profile as composed.
        calibration: What was found there.
        comparisons: One for each real run, with its own arrivals.
    """

    load: str
    calibrated_on: str | None
    calibration: Calibration | None
    comparisons: tuple[Comparison, ...]

    @property
    def errors(self) -> Mapping[tuple[str, str], float]:
        """Relative errors by metric and statistic, the mean over the runs."""
        return {
            (metric, name): fmean(each.metrics[metric][name]["error"] for each in self.comparisons)
            for metric in METRICS
            for name in STATISTICS
        }

    @property
    def mean_error(self) -> float:
        """Mean of the absolute errors."""
        return fmean(map(abs, self.errors.values()))

    @property
    def worst_error(self) -> float:
        """The largest absolute error."""
        return max(map(abs, self.errors.values()))


def judge(
    data: Path, scratch: Path, loads: Sequence[str] = LOADS, *, plain: bool = True
) -> Iterator[Judged]:
    """Each load, uncalibrated and calibrated on the other.

    Args:
        data: The folder of the runs, ``r4/real/1`` and so on.
        scratch: Where bundles, workloads and simulations are made.
        loads: Those that are judged.
        plain: Uncalibrated too.
    """
    registry = builtin_registry()
    composed = profile(scratch / "profile")
    runs = {load: runs_of(data, load) for load in LOADS}
    for load in loads:
        other = next(each for each in LOADS if each != load)
        if plain:
            yield _judged(load, runs[load], composed, scratch / f"{load}-plain")
        place = scratch / f"on-{other}"
        found = calibrate(runs[other], composed, registry, place, artifacts=scratch / "tmp")
        out = scratch / f"{load}-calibrated"
        yield _judged(load, runs[load], read_bundle(place), out, other, found)


def runs_of(data: Path, load: str) -> list[Run]:
    """The two real runs of a load."""
    return [read_run(data / load / "real" / number) for number in ("1", "2")]


def profile(out: Path) -> Bundle:
    """The profile as composed from AIConfigurator's tables."""
    parser = argparse.ArgumentParser()
    SOURCE.add_arguments(parser)
    words = ["--system", SYSTEM, "--model", MODEL]
    SOURCE.produce(parser.parse_args(words), builtin_registry(), out)
    return read_bundle(out)


def _judged(
    load: str,
    runs: list[Run],
    bundle: Bundle,
    out: Path,
    calibrated_on: str | None = None,
    calibration: Calibration | None = None,
) -> Judged:
    found = []
    for number, run in enumerate(runs):
        place = out / str(number)
        inputs = SimulationInputs(
            builtin_registry().models.get(MODEL),
            builtin_registry().hardware.get(HARDWARE),
            workload_of(run, out / "workloads"),
            bundle,
            EngineSettings.load(run.path),
            place,
            clock=run.clock,
        )
        run_simulator("reference", builtin_registry(), inputs)
        found.append(compare_runs([run], read_run(place)))
    return Judged(load, calibrated_on, calibration, tuple(found))
