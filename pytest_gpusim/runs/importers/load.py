"""A run from whatever the user has: a run directory, or another tool's file."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from pytest_gpusim.artifacts import DEFAULT_ROOT, new_id, safe_name
from pytest_gpusim.columns import read_rows
from pytest_gpusim.documents import forget_documents, read_documents
from pytest_gpusim.errors import GpusimWarning, InputError, UsageError
from pytest_gpusim.faults import PluginTimeout, is_ours, time_limit
from pytest_gpusim.runs.importers.aside import how_to_read, what_it_is
from pytest_gpusim.runs.importers.files import no_such, split_index
from pytest_gpusim.runs.importers.options import ALL, call_importer
from pytest_gpusim.runs.reader import read_run
from pytest_gpusim.runs.run import Run
from pytest_gpusim.runs.schema import META, REQUESTS
from pytest_gpusim.tables import find_table
from pytest_gpusim.texts import open_text

_MOST_ENTRIES, _MOST_BYTES = 200, 1 << 23
"""How far a directory is looked through for what could be meant."""
_PIECE, _MOST_UNPACKED = 1 << 20, 1 << 27
"""How far a file of no known kind is read for what is wrong with it."""


class RunImporters(Protocol):
    """The registry's table of run importers."""

    def get(self, name: str) -> Callable[..., None]:
        """The importer of that name."""

    def names(self) -> list[str]:
        """All names."""


class HasRunImporters(Protocol):
    """A `pytest_gpusim.registry.Registry`, as far as it matters here."""

    @property
    def run_importers(self) -> RunImporters:
        """Importers by kind."""


def load_real_run(
    path: Path | str,
    registry: HasRunImporters,
    *,
    store: Path = DEFAULT_ROOT / "real_runs",
    options: Mapping[str, Any] | None = None,
) -> Run:
    """Read a run directory, or import another tool's file, its kind told by its content.

    Args:
        path: A run directory, or a file (or directory) that a registered importer recognises.
        registry: Whose importers may be used.
        store: Below it, an imported run gets a directory of its own.
        options: What the importer takes (see `pytest_gpusim.runs.importers.options`).

    Raises:
        InputError: No importer recognises the file, or several do.
    """
    path = Path(path)
    if is_run_directory(path, registry):
        return read_run(path)
    if not split_index(path)[0].exists():
        raise no_such(path)
    kind = "csv" if (options or {}).get("columns") else recognise(path, registry)
    out = store / id_of_file(path)
    return call_importer(kind, registry.run_importers.get(kind), [path], out, options or {})


def load_real_runs(
    path: Path | str, registry: HasRunImporters, *, store: Path = DEFAULT_ROOT / "real_runs"
) -> list[Run]:
    """As `load_real_run`; of ``FILE#all`` every run that the file holds, as repeats."""
    return [load_real_run(each, registry, store=store) for each in each_run(Path(path), registry)]


def load_simulated_run(
    path: Path | str,
    registry: HasRunImporters,
    *,
    store: Path = DEFAULT_ROOT,
    replayed: Callable[[Path], Path] | None = None,
) -> Run:
    """Read the run directory of a simulation, or import another simulator's own file.

    Args:
        path: A run directory, or a file of a simulator that a registered importer recognises.
        registry: Whose importers may be used.
        store: Below it, an imported run gets a directory of its own, by its simulator.
        replayed: Gives, of the file, the workload that was simulated, for one without arrivals.
    """
    path = Path(path)
    if is_run_directory(path, registry):
        return read_run(path)
    if not split_index(path)[0].exists():
        raise no_such(path)
    kind = recognise(path, registry)
    importer = registry.run_importers.get(kind)
    simulator = getattr(importer, "simulator", None)
    out = store / safe_name(f"{simulator or 'simulated'}_runs") / id_of_file(path)
    # A table of one's own may be of either side; it stands where a simulation is asked for.
    own: dict[str, Any] = {"simulator": "simulated"} if kind == "csv" else {}
    lacks_arrivals = getattr(importer, "lacks_arrivals", None)
    if replayed is not None and lacks_arrivals is not None and lacks_arrivals(path):
        own["workload"] = replayed(path)
    return call_importer(kind, importer, [path], out, own)


def id_of_file(path: Path) -> str:
    """A new directory's name that says which file an imported run is of: ``bench-1-2026…``."""
    name = re.sub(r"(\.(jsonl?|csv|gz|xz))+(?=#|$)", "", path.name)
    return new_id(name.replace("#", "-"))


def is_run_directory(path: Path, registry: HasRunImporters) -> bool:
    """Whether this is a run directory of the contract, complete or not, and no other tool's."""
    if (path / META).exists():
        return True
    # Vidur's own results lie in a file of the same name.
    return find_table(path, REQUESTS) is not None and not _kinds(path, registry, ("gpusim",))


def each_run(path: Path, registry: HasRunImporters) -> list[Path]:
    """``FILE#0``, ``FILE#1``, … of ``FILE#all``; any other path alone.

    Raises:
        UsageError: The file's kind holds one run only.
    """
    name, mark, which = path.name.rpartition("#")
    if not mark or which != ALL or path.exists():
        return [path]
    file = path.with_name(name)
    if not file.exists():
        raise InputError(file, "", "no such file")
    kind = recognise(file, registry)
    runs_in = getattr(registry.run_importers.get(kind), "runs_in", None)
    if runs_in is None:
        raise UsageError(f"{path}: a file of the kind {kind} holds one run")
    return [file.with_name(f"{name}#{number}") for number in range(runs_in(file))]


def recognise(path: Path, registry: HasRunImporters) -> str:
    """The one kind of run that ``path`` holds.

    Raises:
        InputError: None or several; names the kinds.
    """
    found = _kinds(path, registry)
    if len(found) > 1:
        importers = registry.run_importers
        found = [kind for kind in found if not getattr(importers.get(kind), "general", False)]
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(
            path,
            "",
            f"could be a run of {' or '.join(found)}",
            f"import it first: gpusim import-run KIND {path}",
        )
    whole, index = split_index(path)
    if index is not None and (kinds := _kinds(whole, registry)):
        raise InputError(path, "", f"a file of the kind {kinds[0]} holds one run: give {whole}")
    path = whole
    _refuse_by_name(path)
    what = "directory" if path.is_dir() else "file"
    known = ", ".join(registry.run_importers.names())
    fix = how_to_read(path) or "import it by name with gpusim import-run KIND"
    if path.is_dir() and not any(path.iterdir()):
        raise InputError(path, "", "is empty, expected a run directory or another tool's result")
    if path.is_dir():
        inside = _inside(path, registry)
        fix = f"name one that is in it: {', '.join(map(str, inside))}" if inside else fix
    else:
        with open_text(path) as stream:  # what is no text, or no honest one, says so itself
            for _ in iter(lambda: stream.read(_PIECE), ""):
                if stream.buffer.tell() > _MOST_UNPACKED:
                    break
            else:
                if {".json", ".jsonl"} & {*path.suffixes}:
                    read_documents(path)  # one that was cut off says where
                if {".csv", ".tsv"} & {*path.suffixes} and next(read_rows(path), None) is None:
                    raise InputError(path, "", "has no rows below its header")
    raise InputError(
        path, "", f"is not a run directory, nor a {what} of a known kind ({known})", fix
    )


def _refuse_by_name(path: Path) -> None:
    """Raise `InputError` for what a tool writes beside its requests, or where only such lies."""
    files = islice(sorted(path.iterdir()), _MOST_ENTRIES) if path.is_dir() else [path]
    for file in files:
        if file.is_file() and file.stat().st_size < _MOST_BYTES and (said := what_it_is(file)):
            raise InputError(file, "", *said)


def _inside(path: Path, registry: HasRunImporters) -> list[Path]:
    """The first few files in a directory, however deep, that are of a known kind."""
    files = (
        each
        for each in islice(path.rglob("*"), _MOST_ENTRIES)
        if each.suffix in (".json", ".jsonl", ".csv")
        and each.is_file()
        and each.stat().st_size < _MOST_BYTES
    )
    return sorted(islice((each for each in files if _kinds(each, registry)), 3))


def _kinds(path: Path, registry: HasRunImporters, without: tuple[str, ...] = ()) -> list[str]:
    """The kinds whose importers recognise the file; one whose look at it fails is named."""
    try:
        return _kinds_that_fit(path, registry, without)
    finally:
        forget_documents()


def _kinds_that_fit(path: Path, registry: HasRunImporters, without: tuple[str, ...]) -> list[str]:
    found = []
    for kind in registry.run_importers.names():
        if kind in without:
            continue
        recognises = getattr(registry.run_importers.get(kind), "recognises", None)
        try:
            if recognises is None:
                continue
            what = f"the importer {kind!r}, looking at {path},"
            with nullcontext() if is_ours(recognises) else time_limit(what):
                if recognises(path):
                    found.append(kind)
        except PluginTimeout:
            raise
        except Exception as error:  # whatever a plugin raises
            said = f"{type(error).__name__}: {error}".rstrip(": ")
            warnings.warn(
                GpusimWarning(
                    f"{path}: the importer {kind!r} failed to look at it, so it is not taken for "
                    f"one of its kind: {' '.join(said.split())}"
                ),
                stacklevel=4,
            )
    return found
