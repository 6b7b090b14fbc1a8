"""Fixtures for data that others measured, and how property tests draw their examples."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples in every run, so that a change fails by its own fault alone; GPUSIM_TESTS_DRAW=N
# draws N new ones, to look for what is still wrong.
settings.register_profile("same", derandomize=True, deadline=None)
if drawn := os.environ.get("GPUSIM_TESTS_DRAW"):
    settings.register_profile("drawn", max_examples=int(drawn), deadline=None)
settings.load_profile("drawn" if drawn else "same")


def _shared_directory(variable: str, holds: str) -> Path:
    """The directory that ``variable`` names; skips without it (CI turns that into a failure)."""
    value = os.environ.get(variable)
    if value and Path(value).is_dir():
        return Path(value)
    reason = f"{variable} is {value or 'not set'}: set it to the directory that holds {holds}"
    pytest.skip(reason)


@pytest.fixture(scope="session")
def trace_data() -> Path:
    """The directory of public workload traces, ``GPUSIM_TRACE_DATA``."""
    return _shared_directory("GPUSIM_TRACE_DATA", "azure_llm_2023_conv.csv")


@pytest.fixture(scope="session")
def published_data() -> Path:
    """The directory of published runs, ``GPUSIM_PUBLISHED_DATA``."""
    return _shared_directory("GPUSIM_PUBLISHED_DATA", "rtx4090_llama-3.1-8b")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The directory with ``data`` and ``cases``, ``GPUSIM_SHARED_DATA``."""
    return _shared_directory("GPUSIM_SHARED_DATA", "cases")
