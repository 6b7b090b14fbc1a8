"""A server that stands in for any OpenAI-compatible one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.backends.stub_server import StubServer, stub_server


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[StubServer]:
    """Started anew for each test, which says what it answers; no key of the user's is sent."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with stub_server() as server:
        yield server
