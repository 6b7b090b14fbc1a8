"""A sound bundle that tests copy and break."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.factories import make_bundle


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All tables, two degrees; as if profiled on vLLM. Read-only."""
    path = tmp_path_factory.mktemp("sound") / "bundle"
    make_bundle(path, mixed=True, tensor_parallel_sizes=(1, 2), meta={"source": "vllm"})
    return path
