"""Writing a bundle, whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_gpusim.artifacts import atomic_directory, tool_version, utc_now
from pytest_gpusim.bundle.reader import digest_tables, read_bundle
from pytest_gpusim.bundle.schema import ATTENTION, META, META_KEYS, MLP, TABLES
from pytest_gpusim.json_documents import SCHEMA_VERSION, write_json

if TYPE_CHECKING:
    import pandas as pd


def write_bundle(
    out: Path, tables: Mapping[str, pd.DataFrame | None], meta: Mapping[str, Any]
) -> None:
    """Write a bundle at ``out``.

    Args:
        out: An absent or empty directory.
        tables: By file name (``mlp.csv`` and ``attention.csv`` at least); None is left out.
        meta: The metadata; version, time and digest are filled in, absent keys become null.

    Raises:
        InputError: What was given is not a bundle; nothing is left.
    """
    unknown = set(tables) - set(TABLES)
    if unknown or MLP not in tables or ATTENTION not in tables:
        raise ValueError(f"a bundle has {MLP} and {ATTENTION}, and no {sorted(unknown)}")
    with atomic_directory(out) as partial:
        for name, table in tables.items():
            if table is not None:
                table.to_csv(partial / name, index=False, lineterminator="\n", float_format="%.7g")
        known = {
            **meta,
            "schema_version": SCHEMA_VERSION,
            "created_at": meta.get("created_at") or utc_now(),
            "tool_version": tool_version(),
            "digest": digest_tables(partial),
        }
        ordered = {key: known.pop(key, None) for key in META_KEYS}
        write_json(partial / META, {**ordered, **known})
        read_bundle(partial)
