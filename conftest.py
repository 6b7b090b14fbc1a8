"""For the project's own tests: they drive real pytest sessions, and `-m prereq` stays light."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Under ``-m prereq`` import only the test files that have such tests: seconds, not more."""
    if config.getoption("markexpr") == "prereq" and collection_path.suffix == ".py":
        return True if "prereq" not in collection_path.read_text(encoding="utf-8") else None
    return None
