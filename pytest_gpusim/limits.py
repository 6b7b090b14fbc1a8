"""How much of a foreign file is read. Each limit is named where it is met, and can be raised."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from pytest_gpusim.errors import InputError, UsageError


@dataclass(frozen=True)
class Limit:
    """One limit: the environment variable that raises it, its value, and what it bounds."""

    variable: str
    default: int
    what: str

    @property
    def value(self) -> int:
        """The variable's whole number where it is set, else the default.

        Raises:
            UsageError: The variable is no whole number above 0.
        """
        text = os.environ.get(self.variable)
        if not text:
            return self.default
        if not (text.isascii() and text.isdecimal()) or len(text) > 18 or not int(text):
            raise UsageError(f"{self.variable}={text}: expected a whole number above 0")
        return int(text)

    @property
    def advice(self) -> str:
        """What a message says of it."""
        return f"the limit is {self.value:,}; raise it with {self.variable}=N if this is meant"

    def check_option(self, option: str, found: int) -> None:
        """Raise `UsageError` where what was asked for is beyond the limit."""
        if found > self.default and found > self.value:
            raise UsageError(f"{option} {found}: {self.advice}")

    def check(self, path: Path | str, where: str, found: int) -> None:
        """Raise `InputError` where ``found`` is beyond the limit."""
        if found > self.default and found > self.value:
            raise InputError(path, where, f"{found:,} {self.what} are too many", self.advice)


LARGEST = 1e300
"""Of a rate, a factor or a tolerance: a whole number beyond may be none that a float can be."""

DOCUMENT_BYTES = Limit("GPUSIM_MAX_DOCUMENT_BYTES", 2 * 2**30, "bytes of one JSON document")
YAML_BYTES = Limit("GPUSIM_MAX_YAML_BYTES", 2**20, "bytes of one YAML document")
YAML_NODES = Limit("GPUSIM_MAX_YAML_NODES", 100_000, "values of one YAML document")
DEPTH = Limit("GPUSIM_MAX_DEPTH", 64, "levels of one JSON or YAML document")
UNPACKED_RATIO = Limit(
    "GPUSIM_MAX_UNPACKED_RATIO", 200, "bytes unpacked from each packed one, beyond 64 MiB"
)
ARCHIVE_FILES = Limit("GPUSIM_MAX_ARCHIVE_FILES", 10_000, "files of one archive")
RESPONSE_BYTES = Limit("GPUSIM_MAX_RESPONSE_BYTES", 64 * 2**20, "bytes of one answer of a server")
REQUEST_TOKENS = Limit("GPUSIM_MAX_REQUEST_TOKENS", 2**24, "tokens of one request")
GRID_POINTS = Limit("GPUSIM_MAX_GRID_POINTS", 100_000, "points of one grid")
REQUESTS = Limit("GPUSIM_MAX_REQUESTS", 20_000_000, "requests of one workload")
KV_BLOCKS = Limit("GPUSIM_MAX_KV_BLOCKS", 2**24, "KV blocks of one engine")
PLUGIN_SECONDS = Limit(
    "GPUSIM_MAX_PLUGIN_SECONDS", 3600, "seconds of a plugin's simulator, importer or import"
)
BACKEND_SECONDS = Limit("GPUSIM_MAX_BACKEND_SECONDS", 86_400, "seconds of a plugin's backend")
LIMITS = (
    DOCUMENT_BYTES,
    YAML_BYTES,
    YAML_NODES,
    DEPTH,
    UNPACKED_RATIO,
    ARCHIVE_FILES,
    RESPONSE_BYTES,
    REQUEST_TOKENS,
    REQUESTS,
    GRID_POINTS,
    KV_BLOCKS,
    PLUGIN_SECONDS,
    BACKEND_SECONDS,
)
"""All of them, for the documents."""

_SPECIAL = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def check_plain(path: Path | str) -> None:
    """Raise `InputError` where ``path`` is what may never end, or never begin: a pipe, a device.

    Files are looked at before they are read, which a pipe lets nobody do twice.
    """
    try:
        kind = _SPECIAL.get(stat.S_IFMT(os.stat(path).st_mode))  # noqa: PTH116 - of any path
    except (OSError, ValueError):
        return  # who opens it says why it cannot be
    if kind is not None:
        raise InputError(path, "", f"is {kind}, expected a file", "write what it gives to a file")


_UNPACKED_FREE = 64 * 2**20


def check_unpacked(path: Path | str, packed: int, unpacked: int) -> None:
    """Raise `InputError` where ``unpacked`` is beyond what ``packed`` bytes honestly hold."""
    if unpacked > _UNPACKED_FREE and unpacked > UNPACKED_RATIO.value * max(packed, 1):
        raise InputError(
            path,
            "",
            f"unpacks to more than {UNPACKED_RATIO.value} times its {packed:,} bytes",
            f"raise the limit with {UNPACKED_RATIO.variable}=N if this is meant",
        )
