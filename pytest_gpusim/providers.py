"""Simulators and backends: what they are given, how they are called, and what they must write."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from pytest_gpusim.errors import EngineError, GpusimError, PluginError, UsageError
from pytest_gpusim.faults import (
    Vacant,
    described,
    is_ours,
    plugin_call,
    plugin_result,
    time_limit,
)
from pytest_gpusim.limits import BACKEND_SECONDS
from pytest_gpusim.parameters import Parameter, read_parameters

if TYPE_CHECKING:
    from pytest_gpusim.bundle import Bundle
    from pytest_gpusim.deployment.engine import EngineSettings
    from pytest_gpusim.deployment.hardware import Hardware
    from pytest_gpusim.deployment.model import ModelShape
    from pytest_gpusim.runs import Clock
    from pytest_gpusim.workload import Workload


@dataclass(frozen=True)
class SimulationInputs:
    """What a simulator is given; it writes a run directory at ``out_dir``.

    ``clock`` says whose times it gives: the engine's, or its client's, with the bundle's front end
    in between. ``compress`` asks for packed tables, less than a tenth as large.
    """

    model: ModelShape
    hardware: Hardware
    workload: Workload
    bundle: Bundle
    engine: EngineSettings
    out_dir: Path
    params: Mapping[str, Any] = field(default_factory=dict)
    clock: Clock = "engine"
    compress: bool = False


@dataclass(frozen=True)
class MeasureInputs:
    """What a backend is given; it writes one run directory per entry of ``out_dirs``."""

    model: ModelShape
    hardware: Hardware
    workload: Workload
    engine: EngineSettings
    out_dirs: Sequence[Path]
    params: Mapping[str, Any] = field(default_factory=dict)


Simulate = Callable[[SimulationInputs], None]
Measure = Callable[[MeasureInputs], None]
CheckMeasure = Callable[[Mapping[str, Any], "Hardware | None"], None]
"""Called with the parameters and the device class, None where nobody named it; raises
`UsageError` for what can be refused before anything runs."""


T = TypeVar("T")


@dataclass(frozen=True)
class Provider(Generic[T]):
    """Something that goes by a name and takes parameters; not imported before it is used.

    Attributes:
        name: What the user types.
        target: What is called, or its ``module:attribute``.
        parameters: What it takes, or the ``module:attribute`` of them.
    """

    name: str
    target: T | str
    parameters: Sequence[Parameter] | str = ()
    what = "provider"

    def load(self) -> T:
        """What is called; raises `EngineError` where it cannot be imported."""
        if not isinstance(self.target, str):
            return self.target
        return cast(T, load_attribute(self.target, f"{self.what} {self.name!r}"))

    def declared(self) -> tuple[Parameter, ...]:
        """Its parameters."""
        if isinstance(self.parameters, str):
            found = load_attribute(self.parameters, f"{self.what} {self.name!r}")
            return tuple(cast("Sequence[Parameter]", found))
        return tuple(self.parameters)

    def read(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The given parameters in their kinds; raises `UsageError` for an unknown one."""
        return read_parameters(self.declared(), params, f"the {self.name} {self.what}")


@dataclass(frozen=True)
class Simulator(Provider[Simulate]):
    """A simulator by its name; call it with `SimulationInputs`."""

    what = "simulator"

    def __call__(self, inputs: SimulationInputs) -> None:
        """Check the parameters and simulate.

        Raises:
            UsageError: A parameter is unknown or of another kind.
        """
        simulate, outs = self.load(), [inputs.out_dir]
        made = replace(inputs, params=self.read(inputs.params))
        what = f"the simulator {self.name!r}"
        with plugin_call(what, simulate, outs) as vacant:
            simulate(made)
        _require_runs(what, simulate, vacant)


@dataclass(frozen=True)
class Backend(Provider[Measure]):
    """A real engine by its name; call it with `MeasureInputs`.

    Attributes:
        remote: Whether it may run on another machine: then nothing of this one is needed, nor does
            it tell what was measured.
        package: The module that must be installed, and the extra that has it; empty for none.
        check: Refuses what can be refused before anything runs, or its ``module:attribute``.
    """

    remote: bool = False
    package: tuple[str, str] | None = None
    check: CheckMeasure | str | None = None
    what = "backend"

    def __call__(self, inputs: MeasureInputs) -> None:
        """Check the parameters and measure.

        Raises:
            UsageError: A parameter is unknown or of another kind.
            EngineError: A package that it needs is not installed.
        """
        params = self.read(inputs.params)
        if lacks := self.lacks():
            raise EngineError(f"the {self.name} backend: {lacks}")
        measure, outs = self.load(), list(inputs.out_dirs)
        what = f"the backend {self.name!r}"
        with plugin_call(what, measure, outs, BACKEND_SECONDS) as vacant:
            measure(replace(inputs, params=params))
        _require_runs(what, measure, vacant)

    def lacks(self) -> str | None:
        """The package that it needs and that is not installed, in words; None where all is well."""
        from importlib.util import find_spec

        if self.package is None or find_spec(self.package[0]) is not None:
            return None
        module, extra = self.package
        return f"{module} is not installed: pip install {extra}"

    def require(self, params: Mapping[str, Any], hardware: Hardware | None) -> None:
        """Refuse what cannot be measured; ``hardware`` is None where nobody named it.

        Raises:
            UsageError: A parameter is wrong, or it is not known what device would be measured.
        """
        read = self.read(params)
        if self.check is not None:
            check = self.check
            if isinstance(check, str):
                check = cast(CheckMeasure, load_attribute(check, f"backend {self.name!r}"))
            check(read, hardware)
        elif self.remote and hardware is None:
            raise UsageError(
                f"the {self.name} backend may be on another machine: say what it has, such as "
                "--hardware a100"
            )


def load_attribute(path: str, owner: str) -> Any:
    """The object at ``module:attribute``; raises `EngineError` where it cannot be had."""
    module, _, attribute = path.partition(":")
    try:
        with time_limit(f"{owner}, being loaded,"):
            return getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise EngineError(f"{owner} cannot be loaded: {error}") from error
    except GpusimError:
        raise
    except (Exception, SystemExit) as error:  # whatever a plugin's module does
        said = "it ended the process" if isinstance(error, SystemExit) else described(error)
        raise PluginError(f"{owner} cannot be loaded: {said}") from error


def _require_runs(what: str, function: Callable[..., Any], vacant: Vacant) -> None:
    """Raise `PluginError` where a plugin's function did not write what it must."""
    if is_ours(function):
        return  # they write by `write_run`, which reads what it wrote
    from pytest_gpusim.runs import read_run

    with plugin_result(what, function, vacant):
        for out in vacant.outs:
            read_run(out)
