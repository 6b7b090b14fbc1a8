"""What a simulation assumed of its engine, told where it is made."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pytest_gpusim.json_documents import read_json


def say_assumed(run: Path) -> None:
    """Print, to standard error, the settings of a simulated run that nobody stated."""
    if (path := run / "run_meta.json").is_file():
        for line in assumed_lines(read_json(path)):
            print(f"gpusim: {line}", file=sys.stderr)


def assumed_lines(meta: Mapping[str, Any]) -> Iterator[str]:
    """A line for each source of settings that a run's metadata says were assumed."""
    engine, assumed = meta.get("engine") or {}, meta.get("assumed") or {}
    by_source: dict[str, list[str]] = {}
    for name, source in assumed.items():
        by_source.setdefault(source, []).append(f"{name}={engine.get(name)}")
    for source, settings in by_source.items():
        yield f"not stated: {', '.join(settings)}: {source}"
