"""Reading a bundle; what is wrong with it is said by file, line and column."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_gpusim.artifacts import digest_files
from pytest_gpusim.bundle.commands import OTHER_SOURCES, profile_command
from pytest_gpusim.bundle.metadata import made_again, read_bundle_meta
from pytest_gpusim.bundle.schema import (
    ATTENTION,
    ATTENTION_KEYS,
    ATTENTION_OPERATORS,
    LATER_TABLES,
    LAYER_OPERATORS,
    META,
    MLP,
    MLP_KEYS,
    OPTIONAL_LAYER_OPERATORS,
    OVERHEAD,
    SKEW_FIT,
    SMALL_TABLES,
    STEP_OPERATORS,
    TABLES,
    Bundle,
    time_column,
)
from pytest_gpusim.errors import InputError
from pytest_gpusim.tables import line_of, read_table

if TYPE_CHECKING:
    import pandas as pd


__all__ = ["digest_tables", "read_bundle", "read_bundle_meta", "read_bundle_tables"]


def read_bundle(directory: Path | str) -> Bundle:
    """Read a bundle and verify its digest.

    Raises:
        InputError: A file or column is missing, a number is not one, or the digest does not hold.
    """
    directory = Path(directory)
    if not directory.is_dir():
        fix = f"make one with '{profile_command({})}'; {OTHER_SOURCES}"
        raise InputError(directory, "", "no such bundle", fix)
    meta = read_bundle_meta(directory)
    # The tables come first: what is wrong in them is said by line and column.
    bundle, problems = read_bundle_tables(directory, meta)
    if bundle is None:
        raise problems[0]
    found = digest_tables(directory)
    if found != meta["digest"]:
        raise InputError(
            directory / META,
            "digest",
            f"is {str(meta['digest'])[:12]}…, the tables give {found[:12]}…: they were changed "
            "after they were written",
            made_again(meta),
        )
    return bundle


def read_bundle_tables(
    directory: Path, meta: dict[str, Any]
) -> tuple[Bundle | None, list[InputError]]:
    """The bundle whatever its digest says, or all that is wrong with its tables, file by file."""
    problems: list[InputError] = []
    fix = made_again(meta)

    def read(name: str) -> Any:
        try:
            if name in (MLP, ATTENTION):
                table = (_read_mlp if name == MLP else _read_attention)(directory / name, fix)
                if table.empty:
                    raise InputError(directory / name, "", "has a header and no rows", fix)
                return table
            return _read_small(directory, name, fix)
        except InputError as error:
            problems.append(error)
            return None

    tables = {name.removesuffix(".csv"): read(name) for name in TABLES}
    return (None if problems else Bundle(path=directory, meta=meta, **tables)), problems


def digest_tables(directory: Path) -> str:
    """What the bundle's digest is of: its tables, in a fixed order, later ones only if any."""
    return digest_files(
        directory / name
        for name in TABLES
        if name not in LATER_TABLES or (directory / name).exists()
    )


def _read_mlp(path: Path, fix: str) -> pd.DataFrame:
    operators = [time_column(op) for op in (*LAYER_OPERATORS, *STEP_OPERATORS)]
    optional = [time_column(op) for op in OPTIONAL_LAYER_OPERATORS]
    final_norm = time_column("final_layernorm")
    return read_table(
        path,
        required=[*MLP_KEYS, *(c for c in operators if c != final_norm)],
        integers=[*(key for key in MLP_KEYS if key != "use_gated_mlp"), "head_dim"],
        numbers=[*operators, *optional],
        nullable=[final_norm, *optional],
        fix=fix,
    )


def _read_attention(path: Path, fix: str) -> pd.DataFrame:
    times = [time_column(op) for op in ATTENTION_OPERATORS]
    frame = read_table(
        path,
        required=[*ATTENTION_KEYS, *times],
        integers=[*(key for key in ATTENTION_KEYS if key != "is_prefill"), "head_dim"],
        numbers=times,
        nullable=times,
        fix=fix,
    )
    words = frame["is_prefill"].str.lower()
    bad = ~words.isin(["true", "false", "1", "0"])
    if bad.any():
        where = f"{line_of(path, int(bad.to_numpy().argmax()))}, column is_prefill"
        raise InputError(path, where, "expected True or False", fix)
    frame["is_prefill"] = words.isin(["true", "1"])
    return frame


def _read_small(directory: Path, name: str, fix: str) -> pd.DataFrame | None:
    path = directory / name
    if not path.exists():
        return None
    columns = SMALL_TABLES[name]
    signed: tuple[str, ...] = ()
    nullable: tuple[str, ...] = ()
    if name == SKEW_FIT:
        signed = columns
        nullable = tuple(column for column in columns if column != "alpha")
    # Times are whole ns; the overhead of a compiled engine may be negative (fused operators).
    if name == OVERHEAD:
        signed = ("time_ns",)
    return read_table(
        path,
        required=columns,
        numbers=[column for column in columns if column not in ("operator", "boundary")],
        nullable=nullable,
        signed=signed,
        fix=fix,
    )
