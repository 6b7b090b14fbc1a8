"""Tolerances from a TOML file, for a whole session or a command."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from pytest_gpusim.compare.judging.tolerances import read_limits
from pytest_gpusim.errors import InputError, UsageError

_FIX = 'write [tolerances] and below it ttft_p50 = 0.10, or ttft_p50 = { rel = 0.10, abs = "2ms" }'


def read_tolerance_file(path: Path | str) -> dict[str, Any]:
    """The table ``[tolerances]`` of a file, in the syntax of `judging.tolerances`.

    Raises:
        InputError: There is no such file or table, or a tolerance is impossible.
    """
    path = Path(path)
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(path, "", "no such file") from None
    except IsADirectoryError:
        raise InputError(path, "", "is a directory, expected a TOML file") from None
    except UnicodeDecodeError:
        raise InputError(path, "", "is not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(path, "", f"not TOML: {error}", _FIX) from None
    table = document.get("tolerances")
    if not isinstance(table, dict) or not table:
        raise InputError(path, "tolerances", "no such table, or an empty one", _FIX)
    try:
        read_limits(table)
    except UsageError as error:
        raise InputError(path, "tolerances", str(error)) from None
    return table
