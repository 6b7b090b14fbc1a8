"""A real run from whatever the user has: a run directory, or another tool's file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from pytest_gpusim.artifacts import DEFAULT_ROOT, new_id
from pytest_gpusim.errors import InputError
from pytest_gpusim.runs.importers.base import split_index
from pytest_gpusim.runs.reader import read_run
from pytest_gpusim.runs.run import Run
from pytest_gpusim.runs.schema import META, REQUESTS
from pytest_gpusim.tables import find_table


class RunImporters(Protocol):
    """The registry's table of run importers."""

    def get(self, name: str) -> Callable[[Sequence[Path], Path], None]:
        """The importer of that name."""

    def names(self) -> list[str]:
        """All names."""


class HasRunImporters(Protocol):
    """A `pytest_gpusim.registry.Registry`, as far as it matters here."""

    @property
    def run_importers(self) -> RunImporters:
        """Importers by kind."""


def load_real_run(
    path: Path | str, registry: HasRunImporters, *, store: Path = DEFAULT_ROOT / "real_runs"
) -> Run:
    """Read a run directory, or import another tool's file, its kind told by its content.

    Args:
        path: A run directory, or a file (or directory) that a registered importer recognises.
        registry: Whose importers may be used.
        store: Below it, an imported run gets a directory of its own.

    Raises:
        InputError: No importer recognises the file, or several do.
    """
    path = Path(path)
    if (path / META).exists() or find_table(path, REQUESTS) is not None:
        return read_run(path)
    if not split_index(path)[0].exists():
        raise InputError(path, "", "no such run directory or file")
    kind = recognise(path, registry)
    out = store / new_id(kind)
    registry.run_importers.get(kind)([path], out)
    return read_run(out)


def recognise(path: Path, registry: HasRunImporters) -> str:
    """The one kind of run that ``path`` holds.

    Raises:
        InputError: None or several; names the kinds.
    """
    importers = registry.run_importers
    found = []
    for kind in importers.names():
        recognises = getattr(importers.get(kind), "recognises", None)
        if recognises is not None and _holds(recognises, path):
            found.append(kind)
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(
            path,
            "",
            f"could be a run of {' or '.join(found)}",
            f"import it first: gpusim import-run KIND {path}",
        )
    what = "directory" if path.is_dir() else "file"
    raise InputError(
        path,
        "",
        f"is not a run directory, nor a {what} of a known kind ({', '.join(importers.names())})",
        "import it by name with gpusim import-run KIND",
    )


def _holds(recognises: Callable[[Path], bool], path: Path) -> bool:
    try:
        return recognises(path)
    except Exception:  # a file that breaks a plugin's look at it is not of its kind
        return False
