"""What a case is: a model on hardware under a workload, and where its parts are found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pytest_gpusim.deployment import EngineSettings, Hardware, ModelShape
from pytest_gpusim.errors import GpusimError
from pytest_gpusim.registry import Registry
from pytest_gpusim.workload.generate import WorkloadSpec, generate_workload
from pytest_gpusim.workload.presets import preset
from pytest_gpusim.workload.store import store_workload
from pytest_gpusim.workload.trace import read_workload

if TYPE_CHECKING:
    from pytest_gpusim.bundle import Bundle
    from pytest_gpusim.case.given import GivenReal
    from pytest_gpusim.runs import Run
    from pytest_gpusim.workload import Workload

RealMode = Literal["live", "recorded"]


@dataclass(frozen=True)
class Case:
    """What is compared.

    ``workload`` is the name of a preset, a `WorkloadSpec`, or the path of a workload directory.
    ``engine`` states engine settings for a live run; a recording must have been made with them.
    ``params`` are the simulator's own options, ``backend_params`` the backend's. ``given`` are real
    runs that the user named, ``profile`` the bundle, instead of one below the profiling root.
    """

    model: ModelShape
    hardware: Hardware
    workload: str | WorkloadSpec | Path
    name: str = ""
    engine: EngineSettings = field(default_factory=EngineSettings)
    simulator: str = "vidur"
    backend: str = "vllm"
    params: Mapping[str, Any] = field(default_factory=dict)
    backend_params: Mapping[str, Any] = field(default_factory=dict)
    given: GivenReal | None = None
    profile: Bundle | None = None

    @property
    def case_name(self) -> str:
        """The folder of its recording, such as ``qwen3-0.6b-cpu-poisson``."""
        if self.name:
            return self.name
        model = self.model.name.rsplit("/", 1)[-1]
        return f"{model}-{self.hardware.name}-{self.workload_name}".lower()

    @property
    def workload_name(self) -> str:
        """The workload's short name, which tells limits, conversations and seeds apart."""
        if isinstance(self.workload, WorkloadSpec):
            return self.workload.short_name
        return Path(self.workload).name

    def spec(self) -> WorkloadSpec | None:
        """What to generate; None where the workload is a directory."""
        return workload_spec(self.workload, self.hardware.kind)


@dataclass(frozen=True)
class Settings:
    """Where things are, and how the real side is had.

    ``root_is_named``: the user named the profiling root; then it stands for a recording's profile.
    ``history``: whose spread is pooled with that of the real runs. ``accept``: names of checks that
    the user accepts.
    """

    registry: Registry
    artifacts: Path
    profiling_root: Path
    root_is_named: bool = False
    recordings: Path | None = None
    real: RealMode | None = None
    repeat: int = 3
    history: Path | None = None
    accept: Sequence[str] = ()


class CannotRunHere(GpusimError):
    """The case has neither a recording that matches nor the hardware to measure on."""


@dataclass(frozen=True)
class RealSide:
    """Real runs of one workload, and the bundle to simulate it with."""

    workload: Workload
    runs: list[Run]
    bundle: Bundle


def case_bundle(case: Case, settings: Settings, engine: EngineSettings) -> Bundle:
    """The case's bundle in the profiling root.

    Raises:
        InputError: There is none, or none that fits the engine's settings.
    """
    from pytest_gpusim.bundle import read_bundle, resolve_root

    if case.profile is not None:
        return case.profile
    place = resolve_root(settings.profiling_root, case.model.name, case.hardware.name, engine)
    return read_bundle(place)


def engine_of(run: Run) -> EngineSettings:
    """The settings that a run's engine resolved, as far as it says."""
    return EngineSettings.of_run(run.meta, run.path / "run_meta.json")


def case_workload(case: Case, artifacts: Path) -> Workload:
    """The case's workload, generated below ``artifacts/workloads`` where it is not a directory."""
    spec = case.spec()
    return stored_workload(Path(str(case.workload)) if spec is None else spec, artifacts)


def workload_spec(
    workload: str | WorkloadSpec | Path, kind: Literal["cpu", "cuda"]
) -> WorkloadSpec | None:
    """What to generate for a workload as a user names it; None where it is a directory."""
    if isinstance(workload, WorkloadSpec):
        return workload
    if isinstance(workload, str) and not Path(workload).is_dir():
        return preset(workload, kind)
    return None


def stored_workload(workload: WorkloadSpec | Path | str, artifacts: Path) -> Workload:
    """A workload's directory as it lies, or a generated one below ``artifacts/workloads``."""
    if not isinstance(workload, WorkloadSpec):
        return read_workload(Path(workload))
    return read_workload(
        store_workload(artifacts / "workloads", lambda out: generate_workload(workload, out))
    )
