"""What a bundle is asked for, and what is known beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pytest_gpusim.deployment import EngineSettings, Hardware, ModelShape
    from pytest_gpusim.workload import Workload


class _HardwareNames(Protocol):
    def get(self, name: str) -> Hardware: ...

    def names(self) -> list[str]: ...


class _ModelNames(Protocol):
    def get(self, name: str) -> ModelShape: ...

    def names(self) -> list[str]: ...


class Knows(Protocol):
    """A `pytest_gpusim.registry.Registry`, as far as it matters here."""

    @property
    def hardware(self) -> _HardwareNames:
        """Device classes by name."""

    @property
    def models(self) -> _ModelNames:
        """Shapes by name."""


@dataclass(frozen=True)
class Asked:
    """What a bundle must be of and must cover; None asks for nothing.

    ``device_name`` is that of the very device, ``engine_from`` the file or run directory that
    ``engine`` was read from.
    """

    model: ModelShape | None = None
    hardware: Hardware | None = None
    workload: Workload | None = None
    engine: EngineSettings | None = None
    device_name: str | None = None
    engine_from: Path | None = None

    @property
    def model_name(self) -> str | None:
        """The model's name."""
        return self.model.name if self.model is not None else None

    @property
    def hardware_name(self) -> str | None:
        """The device class's name."""
        return self.hardware.name if self.hardware is not None else None
