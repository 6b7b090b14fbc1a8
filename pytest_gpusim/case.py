"""One case end to end: resolve what is asked, get both sides, compare them.

Used by the pytest plugin and by the command line alike.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pytest_gpusim.artifacts import new_id
from pytest_gpusim.deployment import EngineSettings, Hardware, ModelShape
from pytest_gpusim.errors import GpusimError, InputError, UsageError
from pytest_gpusim.registry import MeasureInputs, Registry, SimulationInputs
from pytest_gpusim.workload.generate import WorkloadSpec, generate_workload
from pytest_gpusim.workload.presets import preset
from pytest_gpusim.workload.trace import read_workload

if TYPE_CHECKING:
    from pytest_gpusim.bundle import Bundle
    from pytest_gpusim.checks import Check
    from pytest_gpusim.compare import Comparison
    from pytest_gpusim.runs import Run
    from pytest_gpusim.workload import Workload

RealMode = Literal["live", "recorded"]


class CannotRunHere(GpusimError):
    """The case has neither a recording that matches nor the hardware to measure on."""


@dataclass(frozen=True)
class Case:
    """What is compared.

    ``workload`` is the name of a preset, a `WorkloadSpec`, or the path of a workload directory.
    ``engine`` states engine settings for a live run; a recording must have been made with them.
    """

    model: ModelShape
    hardware: Hardware
    workload: str | WorkloadSpec | Path
    name: str = ""
    engine: EngineSettings = field(default_factory=EngineSettings)
    simulator: str = "vidur"
    backend: str = "vllm"
    params: Mapping[str, Any] = field(default_factory=dict)

    @property
    def case_name(self) -> str:
        """The folder of its recording, such as ``qwen3-0.6b-cpu-poisson``."""
        if self.name:
            return self.name
        model = self.model.name.rsplit("/", 1)[-1]
        return f"{model}-{self.hardware.name}-{self.workload_name}".lower()

    @property
    def workload_name(self) -> str:
        """The workload's short name."""
        if isinstance(self.workload, WorkloadSpec):
            return self.workload.arrivals
        return Path(self.workload).name

    def spec(self) -> WorkloadSpec | None:
        """What to generate; None where the workload is a directory."""
        if isinstance(self.workload, WorkloadSpec):
            return self.workload
        if isinstance(self.workload, str) and not Path(self.workload).is_dir():
            return preset(self.workload, self.hardware.kind)
        return None


@dataclass(frozen=True)
class Settings:
    """Where things are, and how the real side is had."""

    registry: Registry
    artifacts: Path
    profiling_root: Path
    recordings: Path | None = None
    real: RealMode | None = None
    repeat: int = 3


@dataclass(frozen=True)
class RealSide:
    """Real runs of one workload, and the bundle to simulate it with."""

    mode: RealMode
    workload: Workload
    runs: list[Run]
    bundle: Bundle


def real_side(case: Case, settings: Settings) -> RealSide:
    """Replay the case's recording, or measure it now.

    Raises:
        CannotRunHere: Neither can be had; the message says what was looked for.
    """
    case.spec()  # an unknown workload is a mistake, not a missing recording
    why_not = _why_not_recorded(case, settings)
    if settings.real == "recorded" or (settings.real is None and why_not is None):
        if why_not is not None:
            raise CannotRunHere(why_not)
        return _recorded(case, settings)
    no_device = _why_not_live(case)
    if no_device is not None:
        reason = f"{why_not}; {no_device}" if settings.real is None else no_device
        raise CannotRunHere(reason)
    return _live(case, settings)


def simulate(case: Case, settings: Settings, real: RealSide) -> Run:
    """Simulate what the real side did, under the settings that its engine resolved."""
    from pytest_gpusim.runs import read_run

    engine = EngineSettings.load(real.runs[0].path).merged(case.engine)
    workload = workload_as_produced(real.workload, real.runs[0], settings.artifacts)
    out = settings.artifacts / f"{case.simulator}_runs" / new_id(case.case_name)
    run_simulator(
        case.simulator,
        settings.registry,
        SimulationInputs(
            model=case.model,
            hardware=case.hardware,
            workload=workload,
            bundle=real.bundle,
            engine=engine,
            out_dir=out,
            params=case.params,
        ),
    )
    return read_run(out)


def simulate_alone(case: Case, settings: Settings) -> Run:
    """Simulate without a real side: under the case's settings, then the bundle's own."""
    from pytest_gpusim.bundle import read_bundle, resolve_root
    from pytest_gpusim.runs import read_run

    bundle = read_bundle(resolve_root(settings.profiling_root, case.model.name, case.hardware.name))
    out = settings.artifacts / f"{case.simulator}_runs" / new_id(case.case_name)
    run_simulator(
        case.simulator,
        settings.registry,
        SimulationInputs(
            model=case.model,
            hardware=case.hardware,
            workload=case_workload(case, settings.artifacts),
            bundle=bundle,
            engine=case.engine,
            out_dir=out,
            params=case.params,
        ),
    )
    return read_run(out)


def compare(case: Case, settings: Settings, real: RealSide, simulated: Run) -> Comparison:
    """Compare the two sides and leave the comparison's directory behind."""
    from pytest_gpusim.compare import compare_runs, write_comparison

    comparison = compare_runs(real.runs, simulated, workload=real.workload)
    out = settings.artifacts / "comparisons" / new_id(case.case_name)
    write_comparison(comparison, out)
    return comparison


def run_simulator(name: str, registry: Registry, inputs: SimulationInputs) -> None:
    """Run a simulator by name, after what it is given has been held against each other."""
    from pytest_gpusim.bundle.match import require_match

    run = registry.simulators.get(name)
    engine = inputs.engine.merged(inputs.bundle.engine_settings)
    engine = engine.require_complete(inputs.bundle.path)
    inputs.workload.require_fits(engine.max_model_len)
    require_match(inputs.bundle, inputs.model, inputs.hardware, engine)
    run(replace(inputs, engine=engine))


def case_workload(case: Case, artifacts: Path) -> Workload:
    """The case's workload, generated below ``artifacts/workloads`` where it is not a directory."""
    spec = case.spec()
    if spec is None:
        return read_workload(Path(str(case.workload)))
    return read_workload(
        store_workload(artifacts / "workloads", lambda out: generate_workload(spec, out))
    )


def store_workload(root: Path, make: Callable[[Path], None]) -> Path:
    """Make a workload and file it under its id; one that is there already is used."""
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".new-", dir=root) as scratch:
        made = Path(scratch) / "workload"
        make(made)
        place = root / read_workload(made).workload_id
        if not place.exists():
            try:
                made.rename(place)
            except OSError:  # another process was faster
                shutil.rmtree(made, ignore_errors=True)
    return place


def workload_as_produced(workload: Workload, run: Run, artifacts: Path) -> Workload:
    """The workload with the lengths that the run really produced, where they differ."""
    finished = run.finished
    as_asked = (
        len(finished) == len(run.requests)
        and (finished["num_decode_tokens"] == finished["num_decode_tokens_actual"]).all()
    )
    if as_asked:
        return workload
    from pytest_gpusim.workload.importers.run import import_run

    options = {"workload_dir": workload.path}
    return read_workload(
        store_workload(artifacts / "workloads", lambda out: import_run(run.path, out, options))
    )


def failing_prerequisites(case: Case, settings: Settings, asked_for: bool) -> list[Check]:
    """What the case still needs before it can run here; empty where all is well.

    Args:
        case: The case.
        settings: Where recordings and bundles are.
        asked_for: The user named the case's hardware or a profiling root: then what is missing is
            a failure, else a reason to skip.

    Raises:
        CannotRunHere: The case cannot run here and nobody asked for it.
    """
    from pytest_gpusim.bundle import resolve_root
    from pytest_gpusim.bundle.checks import check_bundle
    from pytest_gpusim.checks import Check

    no_recording = _why_not_recorded(case, settings)
    if settings.real != "live" and no_recording is None:
        real = _recorded(case, settings)
        root = real.bundle.path
        engine = EngineSettings.load(real.runs[0].path)
        workload = real.workload
    else:
        no_device = _why_not_live(case)
        try:
            root = resolve_root(settings.profiling_root, case.model.name, case.hardware.name)
        except InputError as error:
            if asked_for or no_device is None:
                return [Check("bundle", "fail", str(error))]
            raise CannotRunHere(f"{no_recording}; {no_device}; {error}") from None
        engine = case.engine
        workload = case_workload(case, settings.artifacts)
    checks = check_bundle(
        root,
        registry=settings.registry,
        model=case.model,
        hardware=case.hardware,
        workload=workload,
        engine=engine,
    )
    return [check for check in checks if check.status == "fail"]


def _why_not_recorded(case: Case, settings: Settings) -> str | None:
    if settings.recordings is None:
        return "no recordings were named (--gpusim-recordings)"
    from pytest_gpusim.backends.recorded import why_not_replayable

    place = settings.recordings / case.case_name
    if not place.is_dir():
        return f"no recording at {place}"
    spec = case.spec()
    with tempfile.TemporaryDirectory() as scratch:
        workload = case.workload
        if spec is not None:
            generate_workload(spec, Path(scratch) / "workload")
            workload = Path(scratch) / "workload"
        digest = read_workload(Path(str(workload))).digest
    return why_not_replayable(
        place, model=case.model, hardware=case.hardware, engine=case.engine, workload_digest=digest
    )


def _recorded(case: Case, settings: Settings) -> RealSide:
    from pytest_gpusim.backends.recorded import open_recording

    assert settings.recordings is not None
    recording = open_recording(settings.recordings / case.case_name)
    return RealSide("recorded", recording.workload, recording.runs, recording.bundle)


def _why_not_live(case: Case) -> str | None:
    from importlib.util import find_spec

    if case.backend == "openai":
        return None  # the server may be anywhere
    if case.hardware.present_device() is None:
        return f"no {case.hardware.name} in this machine"
    if case.backend == "vllm" and find_spec("vllm") is None:
        return "vllm is not installed: pip install 'pytest-gpusim[cpu]' or 'pytest-gpusim[cuda]'"
    return None


def _live(case: Case, settings: Settings) -> RealSide:
    from pytest_gpusim.bundle import read_bundle, resolve_root
    from pytest_gpusim.runs import read_run

    # What is cheap to refuse comes before minutes of measuring.
    bundle = read_bundle(resolve_root(settings.profiling_root, case.model.name, case.hardware.name))
    settings.registry.simulators.require(case.simulator)
    workload = case_workload(case, settings.artifacts)
    engine = case.engine.merged(bundle.engine_settings)
    if settings.repeat < 1:
        raise UsageError(f"--gpusim-repeat {settings.repeat}: expected at least 1")
    name = new_id(case.case_name)
    outs = [
        settings.artifacts / "real_runs" / f"{name}-{number}"
        for number in range(1, settings.repeat + 1)
    ]
    measure(case.backend, settings.registry, case, workload, engine, outs)
    _record(case, settings, workload, bundle, outs)
    return RealSide("live", workload, [read_run(out) for out in outs], bundle)


def _record(
    case: Case, settings: Settings, workload: Workload, bundle: Bundle, outs: list[Path]
) -> None:
    """Leave a recording of a live case below ``artifacts/recordings``, in place of an older one."""
    from pytest_gpusim.backends.recorded import write_recording

    place = settings.artifacts / "recordings" / case.case_name
    fresh = place.with_name(new_id(f".{case.case_name}"))
    write_recording(fresh, workload_dir=workload.path, bundle_dir=bundle.path, run_dirs=outs)
    if place.exists():
        shutil.rmtree(place)
    fresh.rename(place)


def measure(
    backend: str,
    registry: Registry,
    case: Case,
    workload: Workload,
    engine: EngineSettings,
    outs: list[Path],
) -> None:
    """Measure a workload on a backend, once per directory of ``outs``."""
    workload.require_fits(engine.max_model_len)
    registry.backends.get(backend)(
        MeasureInputs(case.model, case.hardware, workload, engine, outs, case.params)
    )


def require_directory(path: Path, what: str) -> Path:
    """``path``, which must be a directory."""
    if not path.is_dir():
        raise InputError(path, "", f"no such {what}")
    return path
