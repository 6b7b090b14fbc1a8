"""Workloads filed under their ids, so that the same one is there once."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from pytest_gpusim.artifacts import made_folder, partial_name, safe_name, sweep_partials
from pytest_gpusim.workload.trace import read_workload


def store_workload(root: Path, make: Callable[[Path], None]) -> Path:
    """Make a workload and file it under its id; one that is there already is used."""
    sweep_partials(root)
    name = partial_name("workload")
    with made_folder(root), tempfile.TemporaryDirectory(prefix=name, dir=root) as scratch:
        made = Path(scratch) / "workload"
        make(made)
        place = root / safe_name(read_workload(made).workload_id)
        if not place.exists():
            try:
                made.rename(place)
            except OSError:  # another process was faster
                shutil.rmtree(made, ignore_errors=True)
    return place
