"""Sessions of these tests run in this process: what each would load anew is loaded once, here.

pytester unloads the modules that a session imported first; some, numpy among them, do not even load
twice.
"""

from __future__ import annotations

import jinja2  # noqa: F401
import jsonschema  # noqa: F401
import pandas  # noqa: F401
import pytest
import rich.table  # noqa: F401
import scipy.stats  # noqa: F401

import pytest_gpusim.api
import pytest_gpusim.backends.archive
import pytest_gpusim.backends.recorded
import pytest_gpusim.bundle_checks.checks
import pytest_gpusim.report.charts
import pytest_gpusim.report.html
import pytest_gpusim.report.terminal
import pytest_gpusim.simulators.reference  # noqa: F401


@pytest.fixture(autouse=True)
def _few_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plugins of other packages cost each session a second."""
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p no:anyio -p no:hypothesispytest")
