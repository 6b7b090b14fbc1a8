"""Text files, plain or gzipped: opened and read within limits, errors by file."""

from __future__ import annotations

import csv
import gzip
import io
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TextIO, cast

from pytest_gpusim.errors import InputError
from pytest_gpusim.limits import Limit, check_unpacked
from pytest_gpusim.progress import Progress


@contextmanager
def open_text(path: Path, *, fix: str = "") -> Iterator[TextIO]:
    """Open a text file, plain or ``.gz``, whose reading errors become `InputError`."""
    # newline="": cells of a CSV keep theirs.
    with (
        _errors_of(path, fix=fix),
        io.TextIOWrapper(_opened(path), encoding="utf-8-sig", newline="") as stream,
    ):
        yield stream


@contextmanager
def reading(path: Path, stream: TextIO) -> Iterator[Callable[[], None]]:
    """A function to call after each piece of an opened file: says now and then how far that is."""
    # Of a packed file the place in it, since its unpacked size is not known.
    source = getattr(stream.buffer, "fileobj", stream.buffer)
    size = os.fstat(stream.fileno()).st_size
    with Progress(f"read {path.name}", size >> 20, "MiB") as progress:
        yield lambda: progress.reach(lambda: source.tell() >> 20)


def read_text_within(
    path: Path, limit: Limit, *, encoding: str = "utf-8-sig", expected: str = "", fix: str = ""
) -> str:
    """A whole text file, plain or ``.gz``, within a limit of bytes.

    Args:
        path: The file.
        limit: In bytes, once unpacked.
        encoding: UTF-8, with or without a mark of byte order.
        expected: What it should be where it is a directory, such as ``a TOML file``.
        fix: What to do where it cannot be read.

    Raises:
        InputError: It cannot be read, is no text, or larger than the limit.
    """
    with _errors_of(path, expected=expected, fix=fix):
        with _opened(path) as stream:
            content = stream.read(limit.value + 1)
        if len(content) > limit.value:
            raise InputError(path, "", f"has more than {limit.value:,} bytes", limit.advice)
        return content.decode(encoding)


@contextmanager
def _errors_of(path: Path, *, expected: str = "", fix: str = "") -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise InputError(path, "", "no such file", fix) from None
    except UnicodeDecodeError:
        raise InputError(path, "", "is not UTF-8 text", fix) from None
    except csv.Error as error:
        raise InputError(path, "", f"not a CSV: {error}", fix) from None
    except (OSError, EOFError, zlib.error) as error:
        if expected and isinstance(error, IsADirectoryError):
            raise InputError(path, "", f"is a directory, expected {expected}", fix) from None
        said = getattr(error, "strerror", None) or error
        raise InputError(path, "", f"cannot be read: {said}", fix) from None


def _opened(path: Path) -> BinaryIO:
    return cast(BinaryIO, BoundedGzip(path)) if path.suffix == ".gz" else path.open("rb")


class BoundedGzip(gzip.GzipFile):
    """A gzipped file for reading, which refuses to unpack beyond the limits."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "rb")
        self._path = path
        self._packed = path.stat().st_size
        self._unpacked = 0

    def read(self, size: int | None = -1) -> bytes:
        """As `gzip.GzipFile.read`; a read of everything is one of many pieces."""
        if size is None or size < 0:
            return b"".join(iter(lambda: self.read(1 << 20), b""))
        return self._counted(super().read(size))

    def read1(self, size: int = -1) -> bytes:
        """As `gzip.GzipFile.read1`."""
        return self._counted(super().read1(size))

    def _counted(self, content: bytes) -> bytes:
        self._unpacked += len(content)
        check_unpacked(self._path, self._packed, self._unpacked)
        return content
