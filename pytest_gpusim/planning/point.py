"""One simulation of a grid: what it is of, the key that follows from that, and running it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_gpusim.artifacts import package_version
from pytest_gpusim.case import run_simulator
from pytest_gpusim.deployment import EngineSettings, Hardware, ModelShape
from pytest_gpusim.errors import GpusimError, InputError, shortly
from pytest_gpusim.json_documents import digest_json, read_json
from pytest_gpusim.progress import silent
from pytest_gpusim.providers import SimulationInputs
from pytest_gpusim.registry import Registry

if TYPE_CHECKING:
    from pytest_gpusim.bundle import Bundle
    from pytest_gpusim.runs import Clock
    from pytest_gpusim.workload import Workload

_KEY_DIGITS = 16
# When and by what a bundle was made decides nothing.
_MADE = {"created_at", "tool_version"}


@dataclass(frozen=True)
class Point:
    """A simulation to be made, in values that travel between processes.

    Attributes:
        key: A digest of all that decides its result; the name of its run directory.
        simulator: Its name in the registry.
        workload: The workload's directory.
        bundle: The profile's directory.
        engine: What is stated of the engine; the rest is the bundle's.
        params: The simulator's own options.
        clock: Whose times are simulated.
        digests: Of the contents of workload and bundle, by their names in a run's metadata.
    """

    key: str
    simulator: str
    model: ModelShape
    hardware: Hardware
    workload: Path
    bundle: Path
    engine: EngineSettings
    params: Mapping[str, Any]
    clock: Clock = "engine"
    digests: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        simulator: str,
        model: ModelShape,
        hardware: Hardware,
        workload: Workload,
        bundle: Bundle,
        engine: EngineSettings,
        params: Mapping[str, Any],
        clock: Clock = "engine",
    ) -> Point:
        """The point of these inputs; the same contents give the same key on every machine."""
        content = {
            "version": package_version("pytest-gpusim"),
            "simulator": simulator,
            "model": model.to_json(),
            "hardware": hardware.name,
            "workload": workload.digest,
            "bundle": bundle.digest,
            "profile": {k: v for k, v in bundle.meta.items() if k not in _MADE},
            "engine": engine.to_json(),
            "params": dict(params),
            "clock": clock,
        }
        key = digest_json(content)[:_KEY_DIGITS]
        return cls(
            key,
            simulator,
            model,
            hardware,
            workload.path,
            bundle.path,
            engine,
            dict(params),
            clock,
            {"workload_digest": workload.digest, "profiling_digest": bundle.digest},
        )

    def require_own(self, directory: Path) -> None:
        """Raise `InputError` where a run that lies at this point's place says that it is of others.

        It was found by its key alone: somebody may have moved or copied it there. What a run does
        not say, as those of plugins may, is not held against it.
        """
        place = directory / "run_meta.json"
        meta = read_json(place)
        own: dict[str, Any] = {"model": self.model.name, "clock": self.clock, **self.digests}
        said: dict[str, Any] = {name: meta.get(name) for name in own}
        for part, stated in (("engine", self.engine.to_json()), ("params", self.params)):
            known = meta.get(part)
            if isinstance(known, dict):
                own |= {f"{part}.{name}": value for name, value in stated.items()}
                said |= {f"{part}.{name}": known.get(name) for name in stated}
        for name, value in own.items():
            found = said[name]
            # A setting's text, such as a dtype, a run may say in another word.
            compared = isinstance(value, int) or "." not in name
            if compared and type(found) is type(value) and found != value:
                problem = f"is {shortly(found)}, but this point's is {shortly(value)}"
                fix = f"remove {directory}, and the point is simulated again"
                raise InputError(place, name, problem, fix)

    def moved(self, workload: Path, bundle: Path) -> Point:
        """The same point with its inputs elsewhere."""
        return replace(self, workload=workload, bundle=bundle)


def run_point(point: Point, registry: Registry, out: Path) -> str:
    """Simulate a point and write its run directory ``out``; returns why it failed, else nothing.

    A point never fails its neighbours: what goes wrong is its own row's reason. One that another
    sweep has made meanwhile is not made again.
    """
    if out.is_dir():
        return ""
    try:
        inputs = SimulationInputs(
            point.model,
            point.hardware,
            _workload(point.workload),
            _bundle(point.bundle),
            point.engine,
            out,
            point.params,
            point.clock,
        )
        with silent():
            run_simulator(point.simulator, registry, inputs)
    except GpusimError as error:
        return "" if out.is_dir() else str(error)
    except Exception as error:
        return f"{type(error).__name__}: {error} (a defect; please report it)"
    return ""


@lru_cache(maxsize=8)
def _workload(path: Path) -> Workload:
    from pytest_gpusim.workload import read_workload

    return read_workload(path)


@lru_cache(maxsize=8)
def _bundle(path: Path) -> Bundle:
    from pytest_gpusim.bundle import read_bundle

    return read_bundle(path)
