"""Bundles of different models that hold the same numbers: one was passed off as the other."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from pytest_gpusim.bundle.schema import (
    ATTENTION,
    ATTENTION_OPERATORS,
    LAYER_OPERATORS,
    META,
    MLP,
    OPTIONAL_LAYER_OPERATORS,
    STEP_OPERATORS,
    TP,
    time_column,
)
from pytest_gpusim.errors import GpusimError

_TABLES = (
    (MLP, ("num_tokens", TP), (*LAYER_OPERATORS, *OPTIONAL_LAYER_OPERATORS, *STEP_OPERATORS)),
    (
        ATTENTION,
        ("is_prefill", "batch_size", "prefill_chunk_size", "kv_cache_size", TP),
        ATTENTION_OPERATORS,
    ),
)
"""By table: what tells its rows apart, and the operators that are timed."""


class Templates:
    """Finds bundles of the same numbers; reads each bundle once."""

    def __init__(self) -> None:
        self._numbers: dict[Path, str | None] = {}

    def copied_from(self, bundle: Path, others: Sequence[Path]) -> list[str]:
        """Bundles of another model or device whose measured times are those of ``bundle``.

        Shape columns do not count: patching them is how a template is passed off. Neither does the
        order of rows and columns, nor what else a table holds.
        """
        identity = _identity(bundle)
        if identity is None:
            return []
        strangers = [
            other
            for other in others
            if other.resolve() != bundle.resolve() and _identity(other) not in (None, identity)
        ]
        numbers = self._of(bundle) if strangers else None
        if numbers is None:
            return []
        return [str(other) for other in strangers if self._of(other) == numbers]

    def _of(self, bundle: Path) -> str | None:
        place = bundle.resolve()
        if place not in self._numbers:
            self._numbers[place] = _numbers(bundle)
        return self._numbers[place]


def _identity(bundle: Path) -> tuple[str, str] | None:
    from pytest_gpusim.json_documents import read_json

    try:
        meta = read_json(bundle / META)
        return str(meta["model"]), str(meta["hardware"])
    except (GpusimError, KeyError, TypeError):
        return None


def _numbers(bundle: Path) -> str | None:
    """Digest of the times of the two required tables, in the order of their points."""
    import pandas as pd

    from pytest_gpusim.tables import read_table

    total = hashlib.sha256()
    for name, keys, operators in _TABLES:
        try:
            frame = read_table(bundle / name, required=())
        except GpusimError:
            return None
        numbers = [key for key in keys if key in frame.columns and key != "is_prefill"]
        frame[numbers] = frame[numbers].apply(pd.to_numeric, errors="coerce")
        known = [time_column(op) for op in operators if time_column(op) in frame.columns]
        if not known or frame.empty:
            return None
        frame = frame.sort_values([key for key in keys if key in frame.columns], kind="stable")
        for column in known:
            values = pd.to_numeric(frame[column], errors="coerce").fillna(-1.0)
            if values.nunique() > 1:  # a column of zeros or gaps tells nothing
                total.update(column.encode())
                total.update(values.to_numpy(dtype="float64").round(9).tobytes())
    return total.hexdigest()
