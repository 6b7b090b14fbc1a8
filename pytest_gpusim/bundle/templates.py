"""Bundles of different models that hold the same numbers: one was passed off as the other."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from pytest_gpusim.bundle.schema import ATTENTION, META, MLP
from pytest_gpusim.errors import GpusimError


def copied_from(bundle: Path, others: Sequence[Path]) -> list[str]:
    """Bundles of another model or device whose measured times are those of ``bundle``.

    Shape columns do not count: patching them is how a template is passed off.
    """
    identity, numbers = _identity(bundle), _numbers(bundle)
    if identity is None or numbers is None:
        return []
    return [
        str(other)
        for other in others
        if other.resolve() != bundle.resolve()
        and _identity(other) not in (None, identity)
        and _numbers(other) == numbers
    ]


def _identity(bundle: Path) -> tuple[str, str] | None:
    from pytest_gpusim.artifacts import read_json

    try:
        meta = read_json(bundle / META)
        return str(meta["model"]), str(meta["hardware"])
    except (GpusimError, KeyError, TypeError):
        return None


def _numbers(bundle: Path) -> str | None:
    """Digest of the times of the two required tables, in the rows' order."""
    import pandas as pd

    total = hashlib.sha256()
    for name in (MLP, ATTENTION):
        try:
            frame = pd.read_csv(bundle / name)
        except (OSError, ValueError):
            return None
        times = sorted(column for column in frame.columns if column.startswith("time_stats."))
        if not times or frame.empty:
            return None
        for column in times:
            values = pd.to_numeric(frame[column], errors="coerce").fillna(-1.0)
            if values.nunique() > 1:
                total.update(values.to_numpy(dtype="float64").round(9).tobytes())
    return total.hexdigest()
