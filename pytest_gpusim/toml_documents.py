"""TOML files of users: within limits, wrong ones named."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from pytest_gpusim.errors import InputError
from pytest_gpusim.limits import YAML_BYTES


def read_toml(path: Path | str, *, fix: str = "") -> dict[str, Any]:
    """The document of a TOML file.

    Raises:
        InputError: There is no such file, it is no TOML, or larger or deeper than the limits.
    """
    path = Path(path)
    limit = YAML_BYTES.value
    try:
        with path.open("rb") as stream:
            content = stream.read(limit + 1)
        if len(content) > limit:
            raise InputError(path, "", f"has more than {limit:,} bytes", YAML_BYTES.advice)
        return tomllib.loads(content.decode("utf-8"))
    except FileNotFoundError:
        raise InputError(path, "", "no such file", fix) from None
    except IsADirectoryError:
        raise InputError(path, "", "is a directory, expected a TOML file", fix) from None
    except UnicodeDecodeError:
        raise InputError(path, "", "is not UTF-8 text", fix) from None
    except RecursionError:
        raise InputError(path, "", "not usable TOML: it is nested too deeply", fix) from None
    except ValueError as error:  # broken syntax, or a number of thousands of digits
        raise InputError(path, "", f"not TOML: {error}", fix) from None
    except OSError as error:
        raise InputError(path, "", f"cannot be read: {error.strerror}", fix) from None
