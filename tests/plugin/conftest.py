"""Sessions of these tests run in this process."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _few_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plugins of other packages cost each session a second."""
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p no:anyio -p no:hypothesispytest")
    # They are no workers, even where these tests are run by one: pytest-benchmark asks.
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
