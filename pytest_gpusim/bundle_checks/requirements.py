"""What a bundle must be of, and must cover."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_gpusim.deployment import EngineSettings, Hardware, ModelShape
    from pytest_gpusim.workload import Workload


@dataclass(frozen=True)
class Requirements:
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
