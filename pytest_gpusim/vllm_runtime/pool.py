"""One engine for a session: reused while model and settings stay the same."""

from __future__ import annotations

import atexit
from typing import Any

from pytest_gpusim.vllm_runtime.process import HANG_TIMEOUT_S, EngineProcess
from pytest_gpusim.vllm_runtime.spec import LaunchSpec

_current: dict[str, EngineProcess] = {}


def shared_engine(
    spec: LaunchSpec, *, hang_timeout_s: float = HANG_TIMEOUT_S, **options: Any
) -> EngineProcess:
    """The session's engine of this spec, started where it is not running.

    An engine of another spec is stopped first: two would share the device, and be measured so.
    """
    engine = _current.get(spec.key)
    if engine is not None and engine.alive:
        engine.hang_timeout_s = hang_timeout_s
        return engine
    close_engines()
    engine = EngineProcess(spec, hang_timeout_s=hang_timeout_s, **options)
    _current[spec.key] = engine
    return engine


def close_engines() -> None:
    """Stop what is running."""
    while _current:
        _current.popitem()[1].close()


atexit.register(close_engines)
