# Each name is loaded on first use: the start of a pytest session needs few of them.

from .engine import EngineSettings
from .hardware import Hardware, detect_device_name
from .model import ModelShape

__all__ = ["EngineSettings", "Hardware", "ModelShape", "detect_device_name"]
