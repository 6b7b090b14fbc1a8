"""Whose fault a failure is: what a plugin does wrong is named as the plugin's."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pytest_gpusim.errors import GpusimError, InputError, PluginError


@contextmanager
def plugin_call(what: str, function: Callable[..., Any]) -> Iterator[None]:
    """Call ``function`` inside; what it raises, or that it ends the process, names ``what``.

    Errors for the user pass, and so does what our own functions raise.

    Raises:
        PluginError: A plugin's function failed.
    """
    try:
        yield
    except GpusimError:
        raise
    except SystemExit as error:
        raise PluginError(f"{what} ended the process (exit code {error.code})") from error
    except Exception as error:
        if is_ours(function):
            raise
        said = f"{type(error).__name__}: {error}".rstrip(": ")
        raise PluginError(f"{what} failed: {said}{_place(error)}") from error


def is_ours(function: Callable[..., Any]) -> bool:
    """Whether a function is of this package."""
    module = getattr(function, "__module__", None) or type(function).__module__
    return module == "pytest_gpusim" or module.startswith("pytest_gpusim.")


@contextmanager
def plugin_result(what: str, function: Callable[..., Any]) -> Iterator[None]:
    """Read inside what ``function`` was to write; what is wrong with it names ``what``.

    Raises:
        PluginError: A plugin's function wrote nothing, or nothing that can be used.
    """
    try:
        yield
    except InputError as error:
        if is_ours(function):
            raise
        raise PluginError(f"{what} did not write a run as it must: {error}") from None


def _place(error: Exception) -> str:
    """Where it was raised, outside of this package."""
    here = str(Path(__file__).parent)
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if here not in frame.filename
    ]
    return f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
