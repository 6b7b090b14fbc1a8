"""The operations of the command line for scripts and notebooks; `pytest_gpusim` has their names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_gpusim.artifacts import DEFAULT_ROOT, new_id
from pytest_gpusim.bundle import Bundle, read_bundle
from pytest_gpusim.case import run_simulator
from pytest_gpusim.compare import Comparison, compare_runs
from pytest_gpusim.deployment import EngineSettings
from pytest_gpusim.providers import SimulationInputs
from pytest_gpusim.registry import Registry, builtin_registry
from pytest_gpusim.report.directory import write_comparison
from pytest_gpusim.runs import Run, read_run
from pytest_gpusim.runs.importers.load import load_real_run
from pytest_gpusim.workload import Workload, read_workload


def read_real_run(path: str | Path, *, registry: Registry | None = None) -> Run:
    """A real run: a run directory as it lies, another tool's result as the run it becomes.

    Args:
        path: A run directory, or a file that an importer recognises; an imported run is written
            below ``tmp/real_runs``.
        registry: Where importers are looked up. Default: those that ship.

    Raises:
        InputError: The file cannot be used.
    """
    return load_real_run(path, registry or builtin_registry())


def simulate(
    workload: Workload | str | Path,
    profile: Bundle | str | Path,
    *,
    engine: EngineSettings | Mapping[str, Any] | str | Path | None = None,
    hardware: str | None = None,
    simulator: str = "vidur",
    params: Mapping[str, Any] | None = None,
    compress: bool = False,
    out: str | Path | None = None,
    registry: Registry | None = None,
) -> Run:
    """Simulate a workload on the model and device of a profile.

    Args:
        workload: A workload, or its directory.
        profile: A bundle, or its directory; it says which model is simulated.
        engine: Engine settings under vLLM's names, a file of them, or a run directory. Default: the
            profile's.
        hardware: The device class. Default: the profile's.
        simulator: ``vidur``, ``reference``, or one that ``registry`` knows.
        params: The simulator's own options.
        compress: Write the tables as ``.xz``, less than a tenth as large.
        out: The run directory, absent or empty. Default: a new one below ``tmp/<simulator>_runs``.
        registry: Default: what ships.

    Returns:
        The simulated run, read from ``out``.

    Raises:
        UsageError: An unknown name.
        InputError: A file cannot be used, or the settings are not those of the profile.
        EngineError: The simulator is not installed, or failed.
    """
    registry = registry or builtin_registry()
    found = workload if isinstance(workload, Workload) else read_workload(Path(workload))
    bundle = profile if isinstance(profile, Bundle) else read_bundle(Path(profile))
    if engine is None:
        settings = EngineSettings()
    elif isinstance(engine, EngineSettings):
        settings = engine
    elif isinstance(engine, Mapping):
        settings = EngineSettings.from_mapping(engine, "engine")
    else:
        settings = EngineSettings.load(engine)
    place = Path(out or DEFAULT_ROOT / f"{simulator}_runs" / new_id(found.workload_id))
    device = registry.hardware.get(hardware or str(bundle.meta["hardware"]))
    inputs = SimulationInputs(
        bundle.model_shape,
        device,
        found,
        bundle,
        settings,
        place,
        params or {},
        compress=compress,
    )
    run_simulator(simulator, registry, inputs)
    return read_run(place)


def compare_results(
    real: Run | str | Path | Sequence[Run | str | Path],
    sim: Run | str | Path,
    *,
    tolerances: Mapping[str, float] | None = None,
    out: str | Path | None = None,
    registry: Registry | None = None,
) -> Comparison:
    """Compare real runs of one workload with a simulated run of it.

    Args:
        real: One or several repeats, each a run, a run directory or another tool's result.
        sim: The simulated run.
        tolerances: Such as ``{"ttft_p50": 0.10}``; then the comparison has a verdict on figures.
            What does not hold is not raised; `Comparison.require_pass` raises.
        out: Write the comparison's directory there.
        registry: Where importers are looked up. Default: those that ship.

    Raises:
        UsageError: No real run, or an impossible tolerance.
        InputError: A file cannot be used.
    """
    several = [real] if isinstance(real, Run | str | Path) else list(real)
    runs = [
        one if isinstance(one, Run) else read_real_run(one, registry=registry) for one in several
    ]
    comparison = compare_runs(runs, sim if isinstance(sim, Run) else read_run(sim))
    if tolerances is not None:
        comparison = comparison.judged(tolerances)
    if out is not None:
        write_comparison(comparison, Path(out))
    return comparison
