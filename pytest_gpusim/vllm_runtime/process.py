"""The parent's side of an engine in a child process: start, ask, listen, stop."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pytest_gpusim.artifacts import DEFAULT_ROOT, new_id
from pytest_gpusim.errors import EngineError, require_package
from pytest_gpusim.vllm_runtime.spec import LaunchSpec

START_TIMEOUT_S = 1200.0
HANG_TIMEOUT_S = 300.0
_STOP_TIMEOUT_S = 5.0


class EngineStopped(EngineError):
    """The engine's process failed, died or hung; the message says which, and names its log."""


class EngineProcess:
    """An engine in a process of its own.

    Attributes:
        spec: What was started.
        engine: Its resolved settings, under the contract's names.
        device_name: The device that it runs on.
        log: Its standard output and error.
        warmed_up: What it was warmed up with, by the users' own keys.
    """

    def __init__(
        self,
        spec: LaunchSpec,
        *,
        hang_timeout_s: float = HANG_TIMEOUT_S,
        directory: Path | None = None,
    ) -> None:
        require_package("vllm", "cpu" if spec.device == "cpu" else "cuda", "measuring vLLM")
        self.spec = spec
        self.hang_timeout_s = hang_timeout_s
        self.warmed_up: dict[str, dict[str, Any]] = {}
        place = directory or DEFAULT_ROOT / "engines" / new_id("vllm")
        place.mkdir(parents=True, exist_ok=True)
        self.log = (place / "engine.log").resolve()
        self._buffer = b""
        self._events, inherited = os.pipe()
        with self.log.open("wb") as log:
            # A session of its own: Ctrl-C is ours to hear, and the whole group ours to end.
            self._process = subprocess.Popen(
                [sys.executable, "-m", "pytest_gpusim.vllm_runtime.child", str(inherited),
                 str(place.resolve())],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=spec.environment(),
                pass_fds=(inherited,),
                start_new_session=True,
            )  # fmt: skip
        os.close(inherited)
        started = time.monotonic()
        try:
            ready = self.ask({"command": "start", "spec": spec.to_json()}, START_TIMEOUT_S)
        except EngineStopped as error:
            raise EngineStopped(f"the vLLM engine did not start: {error}") from None
        self.start_seconds = time.monotonic() - started
        self.engine: dict[str, Any] = ready["engine"]
        self.device_name = str(ready["device_name"])

    @property
    def pid(self) -> int:
        """Of the child."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        return self._process.poll() is None

    def ask(self, command: dict[str, Any], timeout_s: float | None = None) -> dict[str, Any]:
        """Send a command that has one event as its answer."""
        return next(self.stream(command, timeout_s))

    def stream(
        self, command: dict[str, Any], timeout_s: float | None = None
    ) -> Iterator[dict[str, Any]]:
        """Send a command and yield its events; the caller knows which one is the last.

        Raises:
            EngineStopped: The command failed, or the process died, or nothing was heard for
                ``timeout_s`` (then it is killed).
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(command).encode() + b"\n")
            self._process.stdin.flush()
        except (OSError, ValueError):
            raise self._died() from None
        while True:
            try:
                event = self._next_event(timeout_s or self.hang_timeout_s)
            except KeyboardInterrupt:
                self.kill()  # in the middle of something: of no use to anybody else
                raise
            if event["event"] == "failed":
                self.kill()
                said = f"{event['type']}: {event['message']}; see {self.log}"
                at_start = command["command"] == "start"
                raise EngineStopped(said if at_start else f"the vLLM engine failed: {said}")
            yield event

    def close(self) -> None:
        """End the process: it leaves when its commands end, and is killed if it does not."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_STOP_TIMEOUT_S)
        self.kill()

    def kill(self) -> None:
        """End the process and everything that it started, at once."""
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        if self._events >= 0:
            os.close(self._events)
            self._events = -1

    def _next_event(self, timeout_s: float) -> dict[str, Any]:
        deadline = time.monotonic() + timeout_s
        waiting = select.poll()
        waiting.register(self._events, select.POLLIN)
        while (end := self._buffer.find(b"\n")) < 0:
            left = deadline - time.monotonic()
            if left <= 0:
                self.kill()
                raise EngineStopped(
                    f"it hung: nothing heard for {timeout_s:.0f} s, so it was killed; "
                    f"see {self.log}"
                )
            if not waiting.poll(left * 1000):
                continue
            data = os.read(self._events, 1 << 16)
            if not data:
                raise self._died()
            self._buffer += data
        line, self._buffer = self._buffer[:end], self._buffer[end + 1 :]
        event: dict[str, Any] = json.loads(line)
        return event

    def _died(self) -> EngineStopped:
        try:
            code = self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            code = None
        self.kill()
        if code is not None and code < 0:
            name = signal.Signals(-code).name
            hint = ", out of memory perhaps" if -code == signal.SIGKILL else ""
            return EngineStopped(f"it was killed by {name}{hint}; see {self.log}")
        return EngineStopped(f"it ended with exit code {code}; see {self.log}")
