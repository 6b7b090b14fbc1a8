"""Writing a run directory: whole or not at all, the same rows giving the same bytes."""

from __future__ import annotations

import csv
import gzip
import io
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from pytest_gpusim.artifacts import atomic_directory, provenance
from pytest_gpusim.json_documents import write_json
from pytest_gpusim.progress import ticked
from pytest_gpusim.runs.reader import check_run
from pytest_gpusim.runs.run import Run
from pytest_gpusim.runs.schema import (
    ASKED_COLUMNS,
    BATCHES,
    ENGINE_COLUMNS,
    META,
    REQUEST_COLUMNS,
    REQUESTS,
    SCHEMA_VERSIONS,
    STEP_COLUMNS,
    STEPS,
    TOKEN_COLUMNS,
    TOKEN_ID,
    TOKENS,
)

if TYPE_CHECKING:
    import pandas as pd


OWN_WORKLOAD = "workload"
"""Where in a run's directory the workload lies that an imported result itself tells of."""

_META_KEYS = (
    "schema_version",
    "run_id",
    "run_type",
    "backend",
    "model",
    "hardware",
    "device_name",
    "workload_dir",
    "workload_digest",
    "profiling_root",
    "profiling_digest",
    "profile",
    "engine",
    "assumed",
    "token_times",
    "started_at",
    "ended_at",
    "git_commit",
    "git_dirty",
    "env",
    "params",
    "warmup",
    "lateness",
)


def write_run(
    out: Path,
    *,
    requests: Iterable[Mapping[str, Any] | Sequence[Any]],
    tokens: Iterable[Mapping[str, Any] | Sequence[Any]] | None,
    meta: Mapping[str, Any],
    steps: Iterable[Mapping[str, Any] | Sequence[Any]] | None = None,
    step_batches: Iterable[Mapping[int, int]] | None = None,
    compress: bool = False,
    workload: Callable[[Path], Mapping[str, Any]] | None = None,
) -> None:
    """Write a run directory at ``out``.

    Args:
        out: An absent or empty directory.
        requests: Rows of `REQUEST_COLUMNS`; a mapping may leave out what it does not know, a
            sequence has every column. Where the first has one of `ASKED_COLUMNS` (in a sequence,
            more values than `REQUEST_COLUMNS`) or `ENGINE_COLUMNS`, those are written too.
        tokens: Rows of `TOKEN_COLUMNS`, or None where the source has no token times. Where the
            first has a ``token_id`` (in a sequence a fifth value), that column is written too.
        meta: ``run_meta.json``; the keys of the contract that are absent become null, git state
            and versions are filled in.
        steps: Rows of `STEP_COLUMNS`, where known.
        step_batches: Per step, tokens by request id, where known.
        compress: Pack the tables as ``.xz`` (schema version 2), batches as ``.gz``.
        workload: Writes the run's own workload at the path that it is given, and returns what the
            metadata says of it.

    Raises:
        InputError: The rows break an invariant of the contract; nothing is left.
    """
    with atomic_directory(out) as partial:
        columns, rows = _with_more(requests, REQUEST_COLUMNS, ASKED_COLUMNS, ENGINE_COLUMNS)
        _write_rows(partial, REQUESTS, columns, rows, compress)
        columns, rows = _with_more(tokens or (), TOKEN_COLUMNS, (TOKEN_ID,))
        _write_rows(partial, TOKENS, columns, rows, compress)
        if steps is not None:
            rows = ticked(steps, "write steps", 0, "steps")
            _write_rows(partial, STEPS, STEP_COLUMNS, rows, compress)
        if step_batches is not None:
            with _open_batches(partial, compress) as stream:
                line, before = "", None
                for batch in ticked(step_batches, "write batches", 0, "steps"):
                    if batch is not before:  # decode steps often pass the same mapping again
                        keyed = {str(k): v for k, v in batch.items()}
                        line, before = json.dumps(keyed, separators=(",", ":")) + "\n", batch
                    stream.write(line)
        own = workload(partial / OWN_WORKLOAD) if workload is not None else {}
        known = {**provenance(), **meta, **own, "schema_version": SCHEMA_VERSIONS[compress]}
        known["token_times"] = tokens is not None
        known.setdefault("run_id", out.name)
        ordered = {key: known.pop(key, None) for key in _META_KEYS}
        write_json(partial / META, {**ordered, **known})
        check_run(partial)


def rewrite_run(run: Run, out: Path, meta: Mapping[str, Any], *, compress: bool = False) -> None:
    """Write a run that was read, with other metadata; what that does not say stays unknown."""
    tokens = run.tokens
    more = [c for c in (*ASKED_COLUMNS, *ENGINE_COLUMNS) if c in run.requests.columns]
    rows = _rows_of(run.requests, [*REQUEST_COLUMNS, *more])
    columns = [c for c in (*TOKEN_COLUMNS, TOKEN_ID) if tokens is not None and c in tokens.columns]
    own = run.path / OWN_WORKLOAD

    def workload(place: Path) -> Mapping[str, Any]:
        shutil.copytree(own, place)
        return {}

    keeps = meta.get("workload_dir") == OWN_WORKLOAD and own.is_dir()
    write_run(
        out,
        requests=[dict(zip([*REQUEST_COLUMNS, *more], row, strict=True)) for row in rows],
        tokens=None if tokens is None else _rows_of(tokens, columns),
        steps=None if run.steps is None else _rows_of(run.steps, STEP_COLUMNS),
        step_batches=run.batches(),
        meta={**dict.fromkeys(_META_KEYS), **meta},
        compress=compress,
        workload=workload if keeps else None,
    )


def _rows_of(frame: pd.DataFrame, columns: Sequence[str]) -> list[list[Any]]:
    """Rows of a table, empty cells as None."""
    table = frame[list(columns)].astype(object)
    return list(table.where(table.notna(), None).values.tolist())


def _with_more(
    rows: Iterable[Mapping[str, Any] | Sequence[Any]],
    columns: tuple[str, ...],
    *groups: tuple[str, ...],
) -> tuple[tuple[str, ...], Iterable[Mapping[str, Any] | Sequence[Any]]]:
    """(columns, rows) of a table whose first row tells which groups of columns it has besides."""
    rest = iter(rows)
    first = next(rest, None)
    if first is None:
        return columns, ()
    for more in groups:
        known = (
            any(name in first for name in more)
            if isinstance(first, Mapping)
            else len(first) > len(columns)
        )
        columns = (*columns, *more) if known else columns
    return columns, chain([first], rest)


def _as_sequences(
    rows: Iterable[Mapping[str, Any] | Sequence[Any]], columns: Sequence[str]
) -> Iterator[Sequence[Any]]:
    return (
        row
        # Of a tuple this is known at once, of an abstract type not.
        if isinstance(row, tuple) or not isinstance(row, Mapping)
        else [row.get(column) for column in columns]
        for row in rows
    )


def _write_rows(
    directory: Path,
    name: str,
    columns: Sequence[str],
    rows: Iterable[Mapping[str, Any] | Sequence[Any]],
    compress: bool,
) -> None:
    with _open(directory, name, compress) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(_as_sequences(rows, columns))


def _open(directory: Path, name: str, compress: bool) -> TextIO:
    if not compress:
        return (directory / name).open("w", newline="", encoding="utf-8")
    import lzma

    # The next level takes three times as long and packs rows by request no tighter.
    path = directory / f"{name}.xz"
    return lzma.open(path, "wt", preset=1, newline="", encoding="utf-8")


def _open_batches(directory: Path, compress: bool) -> TextIO:
    """Lines that repeat: xz would make a thousandth of them, which the limits of readers refuse."""
    if not compress:
        return _open(directory, BATCHES, compress)
    # mtime 0: the same batches give the same bytes.
    packed = gzip.GzipFile(directory / f"{BATCHES}.gz", "wb", compresslevel=6, mtime=0)
    return io.TextIOWrapper(packed, encoding="utf-8", newline="")
