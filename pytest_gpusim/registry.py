"""Names that a user types, and what stands behind them; filled by one hook.

Built-in entries are import paths, so that looking at the registry imports none of them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar, cast

from pytest_gpusim.deployment.hardware import BUILTIN_HARDWARE, Hardware
from pytest_gpusim.errors import PluginError, UsageError, meant, shortly
from pytest_gpusim.parameters import Parameter
from pytest_gpusim.providers import (
    Backend,
    CheckMeasure,
    Measure,
    Simulate,
    Simulator,
    load_attribute,
)

if TYPE_CHECKING:
    from pytest_gpusim.deployment.model import ModelShape

ImportRun = Callable[..., None]
"""Called with the files, the run directory to write and, where it takes a third, the options."""
ImportWorkload = Callable[[Path, Path, Mapping[str, Any]], None]
"""Called with the file, the workload directory to write, and the options (see the CLI)."""


class ProfileSource(Protocol):
    """Something that makes a bundle; one sub-command of ``gpusim profile``."""

    help: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the source's own options."""

    def produce(self, arguments: argparse.Namespace, registry: Registry, out: Path) -> None:
        """Write a bundle at ``out``."""


T = TypeVar("T")


class Names(Generic[T]):
    """A table from names to values or to ``module:attribute`` paths, resolved on first use."""

    def __init__(self, what: str, shipped: Callable[[], Mapping[str, T]] | None = None) -> None:
        self.what = what
        self._shipped = shipped  # asked on first use: what a session does not need costs it nothing
        self._added: dict[str, T | str] = {}

    @property
    def _entries(self) -> dict[str, T | str]:
        if self._shipped is not None:
            shipped, self._shipped = self._shipped, None
            self._added.update(shipped())
        return self._added

    def add(self, name: str, value: T | str) -> None:
        if name in self._entries:
            raise UsageError(f"{self.what} {name!r} is registered twice")
        self._entries[name] = value

    def require(self, name: str) -> None:
        """Raise `UsageError`, with the known names, unless ``name`` is one; loads nothing."""
        if name not in self._entries:
            known = ", ".join(sorted(self._entries)) or "none"
            hint = meant(name, self._entries)
            raise UsageError(f"unknown {self.what} {name!r}{hint}; known are {known}")

    def get(self, name: str) -> T:
        self.require(name)
        value = self._entries[name]
        if isinstance(value, str):
            value = cast(T, load_attribute(value, f"{self.what} {name!r}"))
            self._entries[name] = value
        return value

    def names(self) -> list[str]:
        return sorted(self._entries)


class Registry:
    """Simulators, backends, hardware, models, profile sources and importers by name."""

    def __init__(self, models: Callable[[], Mapping[str, ModelShape]] = dict) -> None:
        self.simulators: Names[Simulator] = Names("simulator")
        self.backends: Names[Backend] = Names("backend")
        self.hardware: Names[Hardware] = Names("hardware")
        self.models: Names[ModelShape] = Names("model", models)
        self.profile_sources: Names[ProfileSource] = Names("profile source")
        self.run_importers: Names[ImportRun] = Names("kind of run")
        self.workload_importers: Names[ImportWorkload] = Names("kind of workload")

    def add_simulator(
        self,
        name: str,
        simulate: Simulate | str,
        *,
        parameters: Sequence[Parameter] | str = (),
    ) -> None:
        """Register a simulator: called with `SimulationInputs`, writes a run directory.

        Args:
            name: What the user types.
            simulate: What is called, or its ``module:attribute``.
            parameters: What it takes beside (``--param``); others are refused.
        """
        _require_callable(self.simulators, name, simulate)
        self.simulators.add(name, Simulator(name, simulate, parameters))

    def add_backend(
        self,
        name: str,
        measure: Measure | str,
        *,
        parameters: Sequence[Parameter] | str = (),
        remote: bool = False,
        package: tuple[str, str] | None = None,
        check: CheckMeasure | str | None = None,
    ) -> None:
        """Register a real engine: called with `MeasureInputs`, writes run directories.

        Args:
            name: What the user types.
            measure: What is called, or its ``module:attribute``.
            parameters: What it takes beside (``--param``); others are refused.
            remote: Whether it may be on another machine, so that this one's device is not needed.
            package: A module that must be installed, and the extra that has it.
            check: Refuses what can be refused before anything runs.
        """
        _require_callable(self.backends, name, measure)
        self.backends.add(name, Backend(name, measure, parameters, remote, package, check))

    def add_hardware(self, hardware: Hardware) -> None:
        """Register a device class; its name becomes a pytest marker."""
        self.hardware.add(hardware.name, hardware)

    def add_model(self, shape: ModelShape) -> None:
        """Register a model under ``shape.name``."""
        self.models.add(shape.name, shape)

    def add_profile_source(self, name: str, source: ProfileSource | str) -> None:
        """Register a maker of bundles, ``gpusim profile NAME``."""
        self.profile_sources.add(name, source)

    def add_importer(
        self,
        kind: str,
        importer: ImportRun | ImportWorkload | str,
        *,
        produces: Literal["run", "workload"] = "run",
    ) -> None:
        """Register a reader of other tools' files.

        A run importer is called with (files, out directory) and, where it takes three arguments,
        the options; a workload importer with (file, out directory, options).
        """
        _require_callable(self.run_importers, kind, importer)
        if produces == "run":
            self.run_importers.add(kind, cast("ImportRun | str", importer))
        elif produces == "workload":
            self.workload_importers.add(kind, cast("ImportWorkload | str", importer))
        else:
            raise UsageError(f"importer {kind!r}: produces is 'run' or 'workload'")

    def find_model(self, name: str) -> ModelShape | None:
        """As `model`; None where there is neither a model nor a file of that name."""
        if name in self.models.names():
            return self.models.get(name)
        from pytest_gpusim.deployment.model import ModelShape

        path = Path(name)
        try:
            is_there = path.is_file() or (path / "config.json").is_file()
        except OSError:  # a name that no file can have
            return None
        return ModelShape.from_config_file(path) if is_there else None

    def model(self, name: str) -> ModelShape:
        """A registered model, or the shape in a ``config.json`` (or its directory) by path."""
        found = self.find_model(name)
        if found is not None:
            return found
        known = self.models.names()
        if name.endswith(".json"):
            raise UsageError(f"model {name}: no such file; give a config.json or a known name")
        raise UsageError(
            f"unknown model {name!r}{meant(name, known)}; known are {', '.join(known)}, or give "
            "the path of a config.json"
        )


def _require_callable(names: Names[Any], name: str, value: Any) -> None:
    if not isinstance(value, str) and not callable(value):
        said = f"expected a function or its module:attribute, found {shortly(value)}"
        raise PluginError(f"{names.what} {name!r}: {said}")


def _builtin_models() -> Mapping[str, ModelShape]:
    from pytest_gpusim.deployment.models import BUILTIN_MODELS

    return {shape.name: shape for shape in BUILTIN_MODELS}


def builtin_registry() -> Registry:
    """A registry with everything that ships with the package."""
    registry = Registry(_builtin_models)
    for hardware in BUILTIN_HARDWARE:
        registry.add_hardware(hardware)
    here = "pytest_gpusim"
    registry.add_simulator(
        "vidur",
        f"{here}.simulators.vidur.runner:simulate",
        parameters=f"{here}.simulators.vidur.parameters:PARAMETERS",
    )
    registry.add_simulator(
        "reference",
        f"{here}.simulators.reference:simulate",
        parameters=f"{here}.simulators.parameters:FLEET",
    )
    registry.add_backend(
        "vllm",
        f"{here}.backends.vllm:measure",
        parameters=f"{here}.backends.vllm_parameters:PARAMETERS",
        package=("vllm", "'pytest-gpusim[cpu]' or 'pytest-gpusim[cuda]'"),
    )
    registry.add_profile_source("vllm", f"{here}.profiling.vllm:SOURCE")
    registry.add_profile_source("vidur", f"{here}.profiling.vidur_data:SOURCE")
    registry.add_profile_source("aiconfigurator", f"{here}.profiling.aiconfigurator:SOURCE")
    openai = f"{here}.backends.openai"
    registry.add_backend(
        "openai",
        f"{openai}.backend:measure",
        parameters=f"{openai}.parameters:PARAMETERS",
        remote=True,
        package=("aiohttp", "'pytest-gpusim[server]'"),
        check=f"{openai}.options:check",
    )
    for kind in ("vllm-bench", "aiperf", "guidellm", "inference-perf", "genai-perf", "gpusim"):
        module = kind.replace("-", "_")
        registry.add_importer(kind, f"{here}.runs.importers.{module}:import_run")
    for kind, importer in {
        "sglang": "vllm_bench:import_sglang",
        "csv": "own_tables:import_run",
        "vidur-metrics": "simulated:import_vidur",
        "llmservingsim-sim": "simulated:import_servingsim",
        "blis": "blis:import_run",
        "aisimulate": "simulated:import_aisimulate",
    }.items():
        registry.add_importer(kind, f"{here}.runs.importers.{importer}")
    for kind, importer in {
        "azure": "csv_traces:import_azure",
        "vidur": "csv_traces:import_vidur",
        "burstgpt": "csv_traces:import_burstgpt",
        "lengths": "csv_traces:import_lengths",
        "mooncake": "mooncake:import_workload",
        "sharegpt": "sharegpt:import_workload",
        "csv": "own_tables:import_table",
    }.items():
        registry.add_importer(kind, f"{here}.workload.importers.{importer}", produces="workload")
    registry.add_importer("run", f"{here}.runs.as_workload:import_run", produces="workload")
    servingsim = f"{here}.llmservingsim"
    registry.add_profile_source("llmservingsim", f"{servingsim}.profile:SOURCE")
    registry.add_importer("llmservingsim", f"{servingsim}.run:import_run")
    registry.add_importer(
        "llmservingsim", f"{servingsim}.workload:import_workload", produces="workload"
    )
    return registry
