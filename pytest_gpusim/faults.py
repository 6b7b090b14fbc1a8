"""Whose fault a failure is: what a plugin does wrong is named as the plugin's."""

from __future__ import annotations

import locale
import os
import shutil
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from types import FrameType
from typing import Any, NoReturn

from pytest_gpusim.errors import GpusimError, InputError, PluginError
from pytest_gpusim.limits import PLUGIN_SECONDS, Limit

_AGAIN_S = 10.0
"""A plugin that catches the end of its time meets it again after so long."""


@dataclass(frozen=True)
class Vacant:
    """Where a plugin is to write, and the folders above that were not there before."""

    outs: tuple[Path, ...]
    folders: tuple[Path, ...]

    @classmethod
    def of(cls, outs: Sequence[Path]) -> Vacant:
        """What is vacant now; the innermost folder first."""
        above = {folder for out in outs for folder in out.parents if not folder.exists()}
        return cls(tuple(outs), tuple(sorted(above, key=lambda folder: -len(folder.parts))))

    def holds(self, path: Path) -> bool:
        """Whether a path is a place to write, in it, or in the folder that becomes it."""
        return any(
            out in (path, *path.parents)
            or any(part.startswith(f".{out.name}.partial-") for part in path.parts)
            for out in self.outs
        )

    def sweep(self) -> None:
        """Remove what a plugin left, and the folders that nothing else is in."""
        for out in self.outs:
            if out.is_dir() and not out.is_symlink():
                shutil.rmtree(out, ignore_errors=True)
            elif out.exists() or out.is_symlink():
                out.unlink()
        for folder in self.folders:
            with suppress(OSError):
                folder.rmdir()


class PluginTimeout(PluginError):
    """A part of a plugin did not come back in time."""


class _TimeIsUp(BaseException):
    """Nothing that a plugin's ``except Exception`` would keep."""


@contextmanager
def plugin_call(
    what: str,
    function: Callable[..., Any],
    outs: Sequence[Path] = (),
    limit: Limit = PLUGIN_SECONDS,
) -> Iterator[Vacant]:
    """Call ``function`` inside; what it raises, or that it does not come back, names ``what``.

    Errors for the user pass, and so does what our own functions raise. Of a plugin that failed
    nothing is left at ``outs``, which it was to write.

    Args:
        what: The plugin's part in words.
        function: What is called; our own functions have no limit.
        outs: What it is to write, vacant now.
        limit: How many seconds it may take.

    Yields:
        What `plugin_result` needs.

    Raises:
        PluginError: A plugin's function failed, ended the process or took too long.
    """
    vacant = Vacant.of(outs)
    try:
        with ExitStack() as around:
            if not is_ours(function):
                around.enter_context(_undone())
                around.enter_context(time_limit(what, limit))
            yield vacant
    except InputError as error:
        if not is_ours(function) and vacant.holds(error.path):
            vacant.sweep()
            raise PluginError(f"{what} did not write a run as it must: {error}") from error
        raise
    except PluginTimeout:
        vacant.sweep()
        raise
    except GpusimError:
        raise
    except SystemExit as error:
        vacant.sweep()
        raise PluginError(f"{what} ended the process (exit code {error.code})") from error
    except BaseException as error:
        if is_ours(function) or _passes(error):
            raise
        vacant.sweep()
        raise PluginError(f"{what} failed: {described(error)}") from error


@contextmanager
def _undone() -> Iterator[None]:
    """What a plugin's call changes of the process, for good or in passing, is as it was behind it.

    That is the working directory (relative places to write are meant from there), the standard
    streams and their descriptors, the filters of warnings, what signals do, the locale, and the
    places of modules and the depth of calls that what comes later needs. A process that it forked
    and that comes back ends there: it would go on to write the same artifact; and to end this one
    at once is no more than to leave.
    """
    process, place, end = os.getpid(), _working_directory(), os._exit
    streams = sys.stdin, sys.stdout, sys.stderr
    depth, modules, said = sys.getrecursionlimit(), sys.path[:], locale.setlocale(locale.LC_ALL)
    signals = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def leave(status: int) -> NoReturn:
        if os.getpid() == process:
            raise SystemExit(status)
        end(status)

    try:
        with warnings.catch_warnings(), _kept_descriptors():
            os._exit = leave
            yield
    finally:
        os._exit = end
        if os.getpid() != process:
            os._exit(PluginError.exit_code)
        sys.setrecursionlimit(depth)
        sys.stdin, sys.stdout, sys.stderr = streams
        if not set(modules) <= set(sys.path):
            sys.path[:] = modules
        if place is not None:
            with suppress(OSError):
                os.chdir(place)
        with suppress(locale.Error):
            locale.setlocale(locale.LC_ALL, said)
        if threading.current_thread() is threading.main_thread():
            for number, handler in signals.items():
                if handler is not None and signal.getsignal(number) is not handler:
                    signal.signal(number, handler)


@contextmanager
def _kept_descriptors() -> Iterator[None]:
    """Keep standard output and error open, whoever closes them."""
    kept: dict[int, int] = {}
    for number in (1, 2):
        with suppress(OSError):  # closed before, or no more files may be open
            kept[number] = os.dup(number)
    try:
        yield
    finally:
        for number, copy in kept.items():
            try:
                os.fstat(number)
            except OSError:
                os.dup2(copy, number)
            os.close(copy)


def _working_directory() -> str | None:
    try:
        return os.getcwd()  # noqa: PTH109 - as it is called, links included
    except OSError:  # it was removed
        return None


def _passes(error: BaseException) -> bool:
    """Whether it is no fault: an interrupt, the end of somebody's time, a test that is skipped."""
    if isinstance(error, KeyboardInterrupt | _TimeIsUp):
        return True
    outcome = any(kind.__module__ == "_pytest.outcomes" for kind in type(error).__mro__)
    return outcome and "PYTEST_CURRENT_TEST" in os.environ


@contextmanager
def time_limit(what: str, limit: Limit = PLUGIN_SECONDS) -> Iterator[None]:
    """Interrupt what runs inside after so many seconds, by the alarm of this process.

    Without a thread: the alarm interrupts Python code, sleeps and waits for processes; what never
    comes back from outside of Python it cannot. An alarm that somebody else has set stands (a
    plugin that calls another, pytest-timeout), and other threads than the first have none.

    Raises:
        PluginTimeout: The time is up; it names ``what``.
    """
    if (
        not hasattr(signal, "setitimer")
        or threading.current_thread() is not threading.main_thread()
        or signal.getitimer(signal.ITIMER_REAL)[0] > 0
    ):
        yield
        return

    seconds = limit.value
    began = monotonic()
    early = False

    def ring(number: int, frame: FrameType | None) -> None:
        nonlocal early
        early = early or monotonic() - began < seconds - 1
        raise _TimeIsUp

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN_S)
    try:
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
    except _TimeIsUp:
        if early:
            raise PluginTimeout(f"{what} was ended by an alarm that it set itself") from None
        raise PluginTimeout(
            f"{what} has not come back after {seconds:,} seconds; {limit.advice}"
        ) from None


def described(error: BaseException) -> str:
    """A foreign exception in words, with the place that raised it."""
    try:
        text = str(error)
    except Exception:  # its own words fail as well
        text = ""
    said = f"{type(error).__name__}: {text}".rstrip(": ")
    return f"{said}{_place(error)}"


def is_ours(function: Callable[..., Any]) -> bool:
    """Whether a function is of this package."""
    module = getattr(function, "__module__", None) or type(function).__module__
    return module == "pytest_gpusim" or module.startswith("pytest_gpusim.")


@contextmanager
def plugin_result(what: str, function: Callable[..., Any], vacant: Vacant) -> Iterator[None]:
    """Read inside what ``function`` was to write; what is wrong with it names ``what``.

    Raises:
        PluginError: A plugin's function wrote nothing, or nothing that can be used.
    """
    try:
        yield
    except InputError as error:
        if is_ours(function):
            raise
        vacant.sweep()
        raise PluginError(f"{what} did not write a run as it must: {error}") from None


def _place(error: BaseException) -> str:
    """Where it was raised, outside of this package."""
    here = str(Path(__file__).parent)
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if here not in frame.filename
    ]
    return f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
