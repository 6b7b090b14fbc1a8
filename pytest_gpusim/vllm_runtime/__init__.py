"""The life of a vLLM engine, in a child process that we start; the only place that imports vllm.

Parent: `spec`, `process`, `pool`. Child (``python -m pytest_gpusim.vllm_runtime.child``): the rest.
"""

from pytest_gpusim.vllm_runtime.pool import close_engines, shared_engine
from pytest_gpusim.vllm_runtime.process import EngineProcess, EngineStopped
from pytest_gpusim.vllm_runtime.spec import LaunchSpec

__all__ = ["EngineProcess", "EngineStopped", "LaunchSpec", "close_engines", "shared_engine"]
