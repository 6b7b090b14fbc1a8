"""Which file an importer takes, how it is told from others, and which of several runs in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pytest_gpusim.errors import InputError, UsageError
from pytest_gpusim.runs.importers.options import ALL

ImportFunction = TypeVar("ImportFunction", bound=Callable[..., None])


def recognised_by(
    recognises: Callable[[Path], bool],
    *,
    runs_in: Callable[[Path], int] | None = None,
    simulator: str | None = None,
    general: bool = False,
) -> Callable[[ImportFunction], ImportFunction]:
    """Mark an importer with the test by which its files are told from others.

    Args:
        recognises: Looks at the content of a file or directory and never raises; so the file itself
            can be given wherever a run is. An importer without it is used by name only.
        runs_in: How many runs a file holds, ``FILE#0`` the first of them.
        simulator: The simulator whose results these are, where they are no measurements.
        general: Whether an importer that also recognises the file goes first.
    """

    def mark(importer: ImportFunction) -> ImportFunction:
        importer.recognises = recognises  # type: ignore[attr-defined]
        importer.runs_in = runs_in  # type: ignore[attr-defined]
        importer.simulator = simulator  # type: ignore[attr-defined]
        importer.general = general  # type: ignore[attr-defined]
        return importer

    return mark


def only_file(files: Sequence[Path], kind: str) -> Path:
    """The one file that an importer takes."""
    if len(files) != 1:
        raise UsageError(f"import-run {kind}: takes one file, {len(files)} were given")
    return files[0]


def split_index(path: Path) -> tuple[Path, int | None]:
    """``FILE#3`` as the file and 3, for files that hold several runs; other paths as they are."""
    name, mark, index = path.name.rpartition("#")
    if mark and index.isdecimal() and len(index) < 10 and not path.exists():
        return path.with_name(name), int(index)
    return path, None


def no_such(path: Path) -> InputError:
    """The error of a path where nothing lies; of ``FILE#x`` it says how runs are named."""
    name, mark, which = path.name.rpartition("#")
    file = path.with_name(name) if mark and name else path
    if file == path or not file.exists():
        return InputError(path, "", "no such run directory or file")
    one = f"name one, as {file}#0"
    if which == ALL:
        return InputError(path, "", f"#{ALL} are several runs", one)
    fix = f"{one}, or all of them where repeats are asked for, as {file}#{ALL}"
    return InputError(path, "", f"#{which} is no run's number", fix)


def require_counted(path: Path, what: str, held: int, counted: Any) -> None:
    """Refuse a file with fewer requests than the summary beside it counts; no count holds."""
    if isinstance(counted, int | float) and not isinstance(counted, bool) and held < counted:
        problem = f"holds {held} of the {counted:g} requests that its summary counts as {what}"
        raise InputError(path, "", problem, "give the whole file, or leave the summary elsewhere")


def choose(path: Path, key: str, entries: Sequence[Any], index: int | None) -> Any:
    """The one of several runs in a file that ``FILE#k`` names."""
    if not entries:
        raise InputError(path, key, "is empty")
    if index is None and len(entries) > 1:
        raise InputError(
            path,
            key,
            f"has {len(entries)}, each a run of its own",
            f"name one: {path}#0 to #{len(entries) - 1}, or {path}#all as repeats",
        )
    if (index or 0) >= len(entries):
        raise InputError(path, key, f"has {len(entries)}, there is no #{index}")
    return entries[index or 0]
