"""Sessions of these tests run in this process."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from tests.case.recording import make_recording

RecordingOf = Callable[[tuple[float, ...]], tuple[Path, Path]]


@pytest.fixture(scope="session")
def recording_of(tmp_path_factory: pytest.TempPathFactory) -> RecordingOf:
    """Recordings by the factors of their real runs, each made once, with its workload."""

    @cache
    def make(factors: tuple[float, ...]) -> tuple[Path, Path]:
        scratch = tmp_path_factory.mktemp("recording")
        workload = make_recording(scratch / "tiny", scratch, factors=factors)
        return scratch / "tiny", workload

    return make


@pytest.fixture(autouse=True)
def _few_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plugins of other packages cost each session a second."""
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p no:anyio -p no:hypothesispytest")
    # They are no workers, even where these tests are run by one: pytest-benchmark asks.
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
