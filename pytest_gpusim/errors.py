"""The errors that a user meets. Each message is one line: what is wrong, where, what to do."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_LONGEST = 1500
"""Characters of a message: what it quotes of a file may have any length."""


class GpusimError(Exception):
    """Base of all user-facing errors.

    ``exit_code`` is what the command line returns for it.
    """

    exit_code = 2

    def __init__(self, message: str) -> None:
        said = printable(message)
        if len(said) > _LONGEST:
            said = f"{said[: _LONGEST - 300]} … {said[-300:]}"
        super().__init__(said)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by message and fields, whatever a subclass's constructor takes."""
        return _rebuild, (type(self), str(self), dict(self.__dict__))


def shortly(value: object) -> str:
    """``value`` as messages show it: not more than a line's worth of it."""
    return reprlib.repr(value)


def meant(name: str, known: Iterable[str]) -> str:
    """`` (did you mean X?)`` where one of the known names is close to ``name``, else nothing."""
    from difflib import get_close_matches

    by_small = {each.lower(): each for each in known}
    close = get_close_matches(name.lower(), by_small, n=1, cutoff=0.75)
    return f" (did you mean {by_small[close[0]]}?)" if close else ""


def printable(text: str) -> str:
    """``text`` on one line, as it may be shown anywhere: names from files are only data.

    Control characters, escapes of a terminal, marks that turn the direction of writing and half
    surrogates are spelled out (``\\x1b``).
    """
    if text.isascii() and text.isprintable():
        return " ".join(text.split())
    return " ".join("".join(map(_shown, " ".join(text.split()))).split(" "))


def plain_lines(text: str) -> str:
    """``text`` with everything but line ends and tabs in it made printable; spaces stay."""
    if text.isascii() and text.replace("\n", "").isprintable():
        return text
    return "".join(c if c in "\n\t" else _shown(c) for c in text)


def _shown(character: str) -> str:
    # Cc, Cf, Cs, Co and Cn; spaces other than the plain one are not printable either.
    if character.isprintable():
        return character
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")


def _rebuild(kind: type[GpusimError], message: str, fields: dict[str, Any]) -> GpusimError:
    error = kind.__new__(kind, message)
    error.__dict__.update(fields)
    return error


class UsageError(GpusimError):
    """A wrong option, name or combination."""


class InputError(GpusimError):
    """A file that cannot be used.

    Args:
        path: The file or directory.
        where: Row, field or key inside it; empty for the file as a whole.
        problem: What was found and what was expected.
        fix: What to run or change.
    """

    def __init__(self, path: Path | str, where: str, problem: str, fix: str = "") -> None:
        place = f"{path}: {where}: " if where else f"{path}: "
        super().__init__(place + problem + (f"; {fix}" if fix else ""))
        self.path = Path(path)
        self.where = where


class EngineError(GpusimError):
    """An engine, a simulator or an optional package failed."""

    exit_code = 3


class PluginError(EngineError):
    """A simulator, a backend or an importer of a plugin failed, or did not do what it must."""


class CheckFailed(GpusimError):
    """A comparison did not pass, or a check of a profile failed."""

    exit_code = 1


class GpusimWarning(UserWarning):
    """Something that a user should know, and that stops nothing."""


def require_package(module: str, extra: str, purpose: str) -> None:
    """Raise `EngineError` unless ``module`` can be found; does not import it."""
    from importlib.util import find_spec

    if find_spec(module) is None:
        raise EngineError(
            f"{purpose} needs the package '{module}': pip install 'pytest-gpusim[{extra}]'"
        )
