"""What is deployed: a model's shape, the hardware under it, and the engine's settings."""

from pytest_gpusim.deployment.engine import EngineSettings
from pytest_gpusim.deployment.hardware import Hardware, detect_device_name
from pytest_gpusim.deployment.model import ModelShape

__all__ = ["EngineSettings", "Hardware", "ModelShape", "detect_device_name"]
