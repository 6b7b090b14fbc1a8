"""Reading a bundle; what is wrong with it is said by file, line and column."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_gpusim.artifacts import check_schema_version, digest_files, read_json
from pytest_gpusim.bundle.schema import (
    ATTENTION,
    ATTENTION_KEYS,
    ATTENTION_OPERATORS,
    LAYER_OPERATORS,
    META,
    META_KEYS,
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
from pytest_gpusim.tables import read_table

if TYPE_CHECKING:
    import pandas as pd

_FIX = "make the bundle again with 'gpusim profile'"


def read_bundle(directory: Path | str) -> Bundle:
    """Read a bundle; its tables must be those that its digest was made of.

    Raises:
        InputError: A file or column is missing, a number is not one, or the digest does not hold.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise InputError(directory, "", "no such bundle", _FIX)
    meta = read_bundle_meta(directory)
    found = digest_tables(directory)
    if found != meta["digest"]:
        raise InputError(
            directory / META,
            "digest",
            f"is {str(meta['digest'])[:12]}…, the tables give {found[:12]}…: they were changed "
            "after they were written",
            _FIX,
        )
    bundle, problems = read_bundle_tables(directory, meta)
    if bundle is None:
        raise problems[0]
    return bundle


def read_bundle_tables(
    directory: Path, meta: dict[str, Any]
) -> tuple[Bundle | None, list[InputError]]:
    """The bundle whatever its digest says, or all that is wrong with its tables, file by file."""
    problems: list[InputError] = []

    def read(name: str) -> Any:
        try:
            if name == MLP:
                return _read_mlp(directory / name)
            if name == ATTENTION:
                return _read_attention(directory / name)
            return _read_small(directory, name)
        except InputError as error:
            problems.append(error)
            return None

    tables = {name.removesuffix(".csv"): read(name) for name in TABLES}
    return (None if problems else Bundle(path=directory, meta=meta, **tables)), problems


def read_bundle_meta(directory: Path) -> dict[str, Any]:
    """``profile_meta.json``, with the keys of the contract present."""
    path = directory / META
    if not path.exists():
        raise InputError(
            directory, "", f"no {META}: the tables alone do not say what was measured", _FIX
        )
    meta = read_json(path, fix=_FIX)
    if not isinstance(meta, dict):
        raise InputError(path, "", "expected a JSON object", _FIX)
    check_schema_version(path, meta)
    for key in META_KEYS:
        if key not in meta:
            raise InputError(path, key, "is missing", _FIX)
    return meta


def digest_tables(directory: Path) -> str:
    """What the bundle's digest is of: its tables, in a fixed order."""
    return digest_files(directory / name for name in TABLES)


def _read_mlp(path: Path) -> pd.DataFrame:
    operators = [time_column(op) for op in (*LAYER_OPERATORS, *STEP_OPERATORS)]
    optional = [time_column(op) for op in OPTIONAL_LAYER_OPERATORS]
    final_norm = time_column("final_layernorm")
    return read_table(
        path,
        required=[*MLP_KEYS, *(c for c in operators if c != final_norm)],
        integers=[*(key for key in MLP_KEYS if key != "use_gated_mlp"), "head_dim"],
        numbers=[*operators, *optional],
        nullable=[final_norm, *optional],
        fix=_FIX,
    )


def _read_attention(path: Path) -> pd.DataFrame:
    times = [time_column(op) for op in ATTENTION_OPERATORS]
    frame = read_table(
        path,
        required=[*ATTENTION_KEYS, *times],
        integers=[*(key for key in ATTENTION_KEYS if key != "is_prefill"), "head_dim"],
        numbers=times,
        nullable=times,
        fix=_FIX,
    )
    words = frame["is_prefill"].str.lower()
    bad = ~words.isin(["true", "false", "1", "0"])
    if bad.any():
        line = int(frame.index[bad][0]) + 2
        raise InputError(path, f"line {line}, column is_prefill", "expected True or False", _FIX)
    frame["is_prefill"] = words.isin(["true", "1"])
    return frame


def _read_small(directory: Path, name: str) -> pd.DataFrame | None:
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
        numbers=[column for column in columns if column != "operator"],
        nullable=nullable,
        signed=signed,
        fix=_FIX,
    )
