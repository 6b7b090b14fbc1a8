# Each name is loaded on first use: the start of a pytest session needs few of them.

from .engine import EngineSettings as EngineSettings
from .hardware import Hardware as Hardware
from .hardware import detect_device_name as detect_device_name
from .model import ModelShape as ModelShape
