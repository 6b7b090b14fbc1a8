"""Whose fault a failure is: what a plugin does wrong is named as the plugin's."""

from __future__ import annotations

import shutil
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pytest_gpusim.errors import GpusimError, InputError, PluginError


@contextmanager
def plugin_call(
    what: str, function: Callable[..., Any], outs: Sequence[Path] = ()
) -> Iterator[None]:
    """Call ``function`` inside; what it raises, or that it ends the process, names ``what``.

    Errors for the user pass, and so does what our own functions raise. Of a plugin that failed
    nothing is left at ``outs``, which it was to write.

    Raises:
        PluginError: A plugin's function failed.
    """
    try:
        yield
    except InputError as error:
        if not is_ours(function) and any(_is_at(error.path, out) for out in outs):
            _sweep(outs)
            raise PluginError(f"{what} did not write a run as it must: {error}") from error
        raise
    except GpusimError:
        raise
    except SystemExit as error:
        _sweep(outs)
        raise PluginError(f"{what} ended the process (exit code {error.code})") from error
    except Exception as error:
        if is_ours(function):
            raise
        _sweep(outs)
        raise PluginError(f"{what} failed: {described(error)}") from error


def described(error: Exception) -> str:
    """A foreign exception in words, with the place that raised it."""
    said = f"{type(error).__name__}: {error}".rstrip(": ")
    return f"{said}{_place(error)}"


def is_ours(function: Callable[..., Any]) -> bool:
    """Whether a function is of this package."""
    module = getattr(function, "__module__", None) or type(function).__module__
    return module == "pytest_gpusim" or module.startswith("pytest_gpusim.")


@contextmanager
def plugin_result(
    what: str, function: Callable[..., Any], outs: Sequence[Path] = ()
) -> Iterator[None]:
    """Read inside what ``function`` was to write; what is wrong with it names ``what``.

    Raises:
        PluginError: A plugin's function wrote nothing, or nothing that can be used.
    """
    try:
        yield
    except InputError as error:
        if is_ours(function):
            raise
        _sweep(outs)
        raise PluginError(f"{what} did not write a run as it must: {error}") from None


def _is_at(path: Path, out: Path) -> bool:
    """Whether a path is the directory to write, in it, or in the one that becomes it."""
    begun = f".{out.name}.partial-"
    return out in (path, *path.parents) or any(part.startswith(begun) for part in path.parts)


def _sweep(outs: Sequence[Path]) -> None:
    """Remove what a plugin left at places that were vacant before."""
    for out in outs:
        if out.is_dir() and not out.is_symlink():
            shutil.rmtree(out, ignore_errors=True)
        elif out.exists() or out.is_symlink():
            out.unlink()
        for parent in list(out.parents)[:2]:
            # The folders of runs that no run is in.
            if parent.name.endswith("_runs") or parent.name == "tmp":
                with suppress(OSError):
                    parent.rmdir()


def _place(error: Exception) -> str:
    """Where it was raised, outside of this package."""
    here = str(Path(__file__).parent)
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if here not in frame.filename
    ]
    return f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
