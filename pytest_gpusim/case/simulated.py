"""The simulated side of a case, and what becomes of the two."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_gpusim.artifacts import new_id, safe_name
from pytest_gpusim.case.definition import (
    Case,
    RealSide,
    Settings,
    case_bundle,
    case_workload,
    engine_of,
)
from pytest_gpusim.deployment import EngineSettings
from pytest_gpusim.places import point_to_latest
from pytest_gpusim.providers import SimulationInputs
from pytest_gpusim.registry import Registry
from pytest_gpusim.workload.store import store_workload
from pytest_gpusim.workload.trace import read_workload

if TYPE_CHECKING:
    from pytest_gpusim.bundle import Bundle
    from pytest_gpusim.compare import Comparison
    from pytest_gpusim.runs import Clock, Run
    from pytest_gpusim.workload import Workload


def simulate(case: Case, settings: Settings, real: RealSide) -> Run:
    """Simulate what the real side did, under the settings that its engine resolved."""
    engine = engine_of(real.runs[0]).merged(case.engine)
    workload = workload_as_produced(real.workload, real.runs[0], settings.artifacts)
    return _simulate(case, settings, workload, real.bundle, engine, real.runs[0].clock)


def simulate_alone(case: Case, settings: Settings) -> Run:
    """Simulate without a real side: under the case's settings, then the bundle's own."""
    bundle = case_bundle(case, settings, case.engine)
    workload = case_workload(case, settings.artifacts)
    return _simulate(case, settings, workload, bundle, case.engine)


def _simulate(
    case: Case,
    settings: Settings,
    workload: Workload,
    bundle: Bundle,
    engine: EngineSettings,
    clock: Clock = "engine",
) -> Run:
    from pytest_gpusim.runs import read_run

    out = settings.artifacts / safe_name(f"{case.simulator}_runs") / new_id(case.case_name)
    inputs = SimulationInputs(
        case.model, case.hardware, workload, bundle, engine, out, case.params, clock
    )
    run_simulator(case.simulator, settings.registry, inputs)
    return read_run(out)


def compare(
    case: Case,
    settings: Settings,
    real: RealSide,
    simulated: Run,
    stated: Mapping[str, Any] | None = None,
) -> tuple[Comparison, Path]:
    """Compare the two sides; the comparison, and the directory that it left behind.

    `report.directory.update_comparison` completes it, with the charts that show tolerances.
    ``stated`` is what the runs do not say themselves (see `compare.stating`).
    """
    from pytest_gpusim.compare import compare_runs
    from pytest_gpusim.history import History
    from pytest_gpusim.report.directory import write_comparison

    history = History.read(settings.history).spreads(real.runs) if settings.history else None
    comparison = compare_runs(
        real.runs,
        simulated,
        workload=real.workload,
        accept=settings.accept,
        stated=stated,
        history=history,
        name=case.case_name,
    )
    out = settings.artifacts / "comparisons" / new_id(case.case_name)
    write_comparison(comparison, out, to_be_judged=True)
    point_to_latest(out, settings.artifacts)
    return comparison, out


def run_simulator(name: str, registry: Registry, inputs: SimulationInputs) -> None:
    """Run a simulator by name, after what it is given has been held against each other."""
    registry.simulators.get(name)(checked_inputs(inputs))


def checked_inputs(inputs: SimulationInputs) -> SimulationInputs:
    """The inputs with complete settings, after they have been held against each other.

    Raises:
        InputError: Settings are missing, or the bundle is not of what is simulated.
    """
    from pytest_gpusim.bundle.match import require_match
    from pytest_gpusim.simulators.engine import complete_settings

    engine = complete_settings(inputs)
    inputs.workload.require_fits(engine.max_model_len)
    require_match(inputs.bundle, inputs.model, inputs.hardware, engine)
    return replace(inputs, engine=engine)


def workload_as_produced(workload: Workload, run: Run, artifacts: Path) -> Workload:
    """The workload with the lengths that the run really produced, where they differ."""
    finished = run.finished
    as_asked = (
        len(finished) == len(run.requests)
        and (finished["num_decode_tokens"] == finished["num_decode_tokens_actual"]).all()
    )
    if as_asked:
        return workload
    from pytest_gpusim.runs.as_workload import import_run

    options = {"workload_dir": workload.path}
    return read_workload(
        store_workload(artifacts / "workloads", lambda out: import_run(run.path, out, options))
    )
