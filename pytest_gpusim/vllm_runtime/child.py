"""The engine's process: ``python -m pytest_gpusim.vllm_runtime.child EVENTS_FD DIRECTORY``.

Commands come as JSON lines on standard input, events leave as JSON lines on the descriptor.
Standard output and error are the log. When the commands end, because the parent closed them or
died, the process ends, in the middle of a step too.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

from pytest_gpusim.vllm_runtime.spec import LaunchSpec


def main() -> None:
    """Serve commands until they end."""
    events = os.fdopen(int(sys.argv[1]), "w", encoding="utf-8", buffering=1)
    commands: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_read_commands, args=(commands,), daemon=True).start()

    def emit(event: dict[str, Any]) -> None:
        events.write(json.dumps(event, separators=(",", ":")) + "\n")

    while True:
        command = commands.get()
        try:
            _SERVE[command["command"]](command, emit)
        except BaseException as error:
            traceback.print_exc()
            emit({"event": "failed", "type": type(error).__name__, "message": _innermost(error)})
            if not isinstance(error, Exception):
                raise


class _State:
    """What one process holds: one engine."""

    spec: LaunchSpec
    driver: Any


def _start(command: dict[str, Any], emit: Any) -> None:
    from pytest_gpusim.vllm_runtime.driver import Driver
    from pytest_gpusim.vllm_runtime.engine import device_name, resolved_settings, start_engine

    _State.spec = LaunchSpec.from_json(command["spec"])
    engine = start_engine(_State.spec, Path(sys.argv[2]))
    _State.driver = Driver(engine)
    emit(
        {
            "event": "ready",
            "engine": resolved_settings(engine, _State.spec),
            "device_name": device_name(_State.spec),
        }
    )


def _replay(command: dict[str, Any], emit: Any) -> None:
    from pytest_gpusim.vllm_runtime.replay import replay

    try:
        replay(_State.driver, command, emit)
    except BaseException:
        _State.driver.abandon()
        raise


def _shape(command: dict[str, Any], emit: Any) -> None:
    from pytest_gpusim.vllm_runtime.shapes import run_shape

    try:
        rows = run_shape(_State.driver, command, _State.spec.device)
    finally:
        _State.driver.abandon()
    emit({"event": "shape", "rows": rows})


_SERVE = {"start": _start, "replay": _replay, "shape": _shape}


def _read_commands(commands: queue.SimpleQueue[dict[str, Any]]) -> None:
    for line in sys.stdin:
        commands.put(json.loads(line))
    os._exit(0)


def _innermost(error: BaseException) -> str:
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    if lines:
        return lines[-1].strip()
    frame = traceback.extract_tb(error.__traceback__)[-1]  # an assertion without words: which one
    return f"{frame.line} ({frame.filename}:{frame.lineno})"


if __name__ == "__main__":
    main()
