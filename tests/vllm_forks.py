"""A process that has imported vLLM, apart from pytest's: each script runs in a fork of it.

vLLM takes ten seconds of a processor to import, and does not go away.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
_LONGEST_S = 300
_SERVER = """
import contextlib, importlib, json, os, signal, sys, traceback
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
for name in ("config", "engine.arg_utils", "v1.core.sched.async_scheduler",
             "v1.structured_output", "entrypoints.launchers.cli_args", "benchmarks.datasets"):
    with contextlib.suppress(ImportError):
        importlib.import_module(f"vllm.{name}")
for line in sys.stdin:
    asked = json.loads(line)
    child = os.fork()
    if child == 0:
        signal.alarm(asked["longest_s"])
        for number, file in ((1, asked["stdout"]), (2, asked["stderr"])):
            os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), number)
        sys.argv[1:] = asked["arguments"]
        try:
            exec(asked["script"], {"__name__": "__main__"})
            code = 0
        except BaseException:
            traceback.print_exc()
            code = 1
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), file=answers, flush=True)
"""


class Done(NamedTuple):
    """What a script printed; it did not fail."""

    stdout: str
    stderr: str


class Forks:
    """Runs scripts, one after another."""

    def __init__(self, server: subprocess.Popen[str], place: Path) -> None:
        self._server = server
        self._place = place

    def run(self, script: str, *arguments: object) -> Done:
        """Run Python source with ``arguments`` in ``sys.argv``."""
        files = [self._place / name for name in ("stdout", "stderr")]
        for file in files:
            file.unlink(missing_ok=True)
        asked = {
            "script": script,
            "arguments": [str(each) for each in arguments],
            "stdout": str(files[0]),
            "stderr": str(files[1]),
            "longest_s": _LONGEST_S,
        }
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(asked) + "\n")
        self._server.stdin.flush()
        code = self._server.stdout.readline().strip()
        done = Done(*(file.read_text() if file.exists() else "" for file in files))
        assert code == "0", f"{code or 'the server is gone'}: {done.stderr[-2000:]}"
        return done


@contextmanager
def vllm_forks_in(place: Path) -> Iterator[Forks]:
    """The process, whose log and answers lie in ``place``."""
    quiet = {"VLLM_LOGGING_LEVEL": "ERROR", "HF_HUB_OFFLINE": "1"}
    with (
        (place / "log").open("w") as log,
        subprocess.Popen(
            [sys.executable, "-c", _SERVER],
            cwd=ROOT,
            env={**os.environ, **quiet},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        ) as server,
    ):
        yield Forks(server, place)
