"""Tolerances from a TOML file, for a whole session or a command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pytest_gpusim.compare.judging.tolerances import read_limits
from pytest_gpusim.errors import InputError, UsageError
from pytest_gpusim.toml_documents import read_toml

_FIX = 'write [tolerances] and below it ttft_p50 = 0.10, or ttft_p50 = { rel = 0.10, abs = "2ms" }'


def read_tolerance_file(path: Path | str) -> dict[str, Any]:
    """The table ``[tolerances]`` of a file, in the syntax of `judging.tolerances`.

    Raises:
        InputError: There is no such file or table, or a tolerance is impossible.
    """
    path = Path(path)
    document = read_toml(path, fix=_FIX)
    table = document.get("tolerances")
    if not isinstance(table, dict) or not table:
        raise InputError(path, "tolerances", "no such table, or an empty one", _FIX)
    try:
        read_limits(table)
    except UsageError as error:
        raise InputError(path, "tolerances", str(error)) from None
    return table
