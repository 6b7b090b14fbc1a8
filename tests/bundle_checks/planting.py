"""Ways to break a bundle on purpose."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from pytest_gpusim.bundle.reader import digest_tables
from pytest_gpusim.bundle_checks.checks import check_bundle
from pytest_gpusim.registry import builtin_registry

Plant = Callable[[Path], None]


def failures(path: Path, **asked: object) -> dict[str, str]:
    checks = check_bundle(path, registry=builtin_registry(), **asked)
    for check in checks:
        assert "\n" not in check.detail
        assert check.detail
    return {check.name: check.detail for check in checks if check.status == "fail"}


def rewrite(path: Path, name: str, change: Callable[[pd.DataFrame], pd.DataFrame | None]) -> None:
    frame = pd.read_csv(path / name)
    changed = change(frame)
    (frame if changed is None else changed).to_csv(path / name, index=False)


def edit(name: str, change: Callable[[pd.DataFrame], pd.DataFrame | None]) -> Plant:
    return lambda path: rewrite(path, name, change)


def set_cell(name: str, row: int, column: str, value: object) -> Plant:
    def change(frame: pd.DataFrame) -> pd.DataFrame:
        frame = frame.astype({column: object})
        frame.loc[row, column] = value
        return frame

    return edit(name, change)


def scale_cell(name: str, row: int, column: str, factor: float) -> Plant:
    def change(frame: pd.DataFrame) -> pd.DataFrame:
        frame = frame.astype({column: float})
        frame.loc[row, column] *= factor
        return frame

    return edit(name, change)


def scale_mixed(*point: int, factor: float) -> Plant:
    """Scale the time at (chunk, its context, decodes, their context) of the joint grid."""

    def change(frame: pd.DataFrame) -> pd.DataFrame:
        here = (frame[["prefill_chunk", "kv_prefill", "n_decode", "kv_decode"]] == list(point)).all(
            axis=1
        )
        assert here.sum() == 1
        return frame.assign(time_ns=frame["time_ns"].where(~here, frame["time_ns"] * factor))

    return edit("mixed_attention.csv", change)


def set_meta(**values: object) -> Plant:
    def plant(path: Path) -> None:
        meta = json.loads((path / "profile_meta.json").read_text())
        meta.update(values)
        (path / "profile_meta.json").write_text(json.dumps(meta))

    return plant


def drop_meta(key: str) -> Plant:
    def plant(path: Path) -> None:
        meta = json.loads((path / "profile_meta.json").read_text())
        del meta[key]
        (path / "profile_meta.json").write_text(json.dumps(meta))

    return plant


def remove(name: str) -> Plant:
    return lambda path: (path / name).unlink()


def reseal(path: Path) -> None:
    """Make the digest hold again, so that what was planted is found for itself."""
    with contextlib.suppress(OSError, ValueError):
        set_meta(digest=digest_tables(path))(path)
