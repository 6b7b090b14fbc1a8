"""TOML files of users: within limits, wrong ones named."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from pytest_gpusim.errors import InputError
from pytest_gpusim.limits import YAML_BYTES
from pytest_gpusim.texts import read_text_within


def read_toml(path: Path | str, *, fix: str = "") -> dict[str, Any]:
    """The document of a TOML file.

    Raises:
        InputError: There is no such file, it is no TOML, or larger or deeper than the limits.
    """
    path = Path(path)
    text = read_text_within(path, YAML_BYTES, encoding="utf-8", expected="a TOML file", fix=fix)
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise InputError(path, "", "not usable TOML: it is nested too deeply", fix) from None
    except ValueError as error:  # broken syntax, or a number of thousands of digits
        raise InputError(path, "", f"not TOML: {error}", fix) from None
