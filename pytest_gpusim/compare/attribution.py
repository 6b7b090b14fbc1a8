"""Where the error of a simulation comes from."""

from __future__ import annotations

from typing import Any

from pytest_gpusim.compare.checks import CheckContext


def attribute(context: CheckContext) -> dict[str, Any]:
    """Attribute."""
    return {"phases": _phases(context), "findings": []}


def _phases(context: CheckContext) -> dict[str, Any]:
    return {}
