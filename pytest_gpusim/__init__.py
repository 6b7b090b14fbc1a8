"""Can I trust my LLM-inference simulator? Evidence from real engines, as pytest tests."""

from pytest_gpusim.deployment import EngineSettings, Hardware, ModelShape
from pytest_gpusim.errors import CheckFailed, EngineError, GpusimError, InputError, UsageError
from pytest_gpusim.registry import MeasureInputs, Registry, SimulationInputs
from pytest_gpusim.workload.generate import Lengths, WorkloadSpec

__all__ = [
    "CheckFailed",
    "EngineError",
    "EngineSettings",
    "GpusimError",
    "Hardware",
    "InputError",
    "Lengths",
    "MeasureInputs",
    "ModelShape",
    "Registry",
    "SimulationInputs",
    "UsageError",
    "WorkloadSpec",
]
