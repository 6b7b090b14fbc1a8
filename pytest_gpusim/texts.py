"""Text files, plain or gzipped: opened and read within limits, errors by file; values in texts."""

from __future__ import annotations

import ast
import csv
import gzip
import io
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from pytest_gpusim.errors import InputError
from pytest_gpusim.limits import Limit, check_unpacked
from pytest_gpusim.progress import Progress

_UNPACK = "unpack it first"
_NO_TEXT = (
    (b"\x28\xb5\x2f\xfd", "packed by zstd", _UNPACK),
    (b"\xfd7zXZ\x00", "packed by xz", _UNPACK),
    (b"BZh", "packed by bzip2", _UNPACK),
    (b"PK\x03\x04", "a ZIP archive (or an Excel sheet)", "unpack it, or save it as CSV"),
    (b"PAR1", "a Parquet file", "write it as CSV or JSON lines"),
    (b"ARROW1", "an Arrow file", "write it as CSV or JSON lines"),
    (b"SQLite f", "a SQLite database", "write its table as CSV"),
    (b"\xff\xfe", "UTF-16", "save it as UTF-8"),
    (b"\xfe\xff", "UTF-16", "save it as UTF-8"),
)
"""How files begin that people have beside texts, what they are, and what to do."""

_DIGITS = 18
_LONGEST_LITERAL = 1 << 17


def whole_number(text: str) -> int | None:
    """The whole number that ``text`` writes in digits alone; more than 18 count nothing: None."""
    digits = text.strip()
    return int(digits) if digits.isdecimal() and len(digits) <= _DIGITS else None


def python_literal(text: str) -> Any:
    """What Python wrote as ``text`` (``True``, ``None``, ``{'a': 16}``), else the text itself."""
    if len(text) > _LONGEST_LITERAL:
        return text
    try:
        return ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return text


@contextmanager
def open_text(path: Path, *, fix: str = "") -> Iterator[TextIO]:
    """Open a text file, plain or ``.gz``, whose reading errors become `InputError`."""
    # newline="": cells of a CSV keep theirs.
    with (
        _errors_of(path, fix=fix),
        io.TextIOWrapper(_opened(path, fix), encoding="utf-8-sig", newline="") as stream,
    ):
        yield stream


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
        with _opened(path, fix) as stream:
            # In pieces: a read of so many bytes would first ask for their memory.
            pieces, left = [], limit.value + 1
            while left and (piece := stream.read(min(left, 1 << 20))):
                pieces.append(piece)
                left -= len(piece)
        content = b"".join(pieces)
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


def open_bytes(path: Path) -> io.BufferedReader | gzip.GzipFile:
    """Open a file for reading, plain or unpacked within the limits; says how far a long one is."""
    return _BoundedGzip(path) if path.suffix == ".gz" else _watched(path)


def _opened(path: Path, fix: str = "") -> io.BufferedReader | gzip.GzipFile:
    """A text's bytes, unpacked where they are gzipped, whatever the file is called."""
    stream = _watched(path)
    begins = stream.peek(8)
    for mark, what, what_to_do in _NO_TEXT:
        if begins.startswith(mark):
            stream.close()
            raise InputError(path, "", f"is {what}, not a text: {what_to_do}", fix)
    if not begins.startswith(b"\x1f\x8b"):
        return stream
    stream.close()
    return _BoundedGzip(path)


def _watched(path: Path) -> io.BufferedReader:
    return io.BufferedReader(_Watched(path), 1 << 16)


class _Watched(io.FileIO):
    """A file that says now and then how much of it was read."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        size = os.fstat(self.fileno()).st_size  # 0 of a pipe
        self._progress = Progress(f"read {path.name}", size >> 20, "MiB")
        self._read = 0

    def readinto(self, buffer: Any) -> int | None:
        """As `io.FileIO.readinto`."""
        count = super().readinto(buffer)
        self._read += count or 0
        self._progress.reach(lambda: self._read >> 20)
        return count

    def close(self) -> None:
        """As `io.FileIO.close`."""
        if not self.closed:
            self._progress.end()
        super().close()


class _BoundedGzip(gzip.GzipFile):
    """A gzipped file for reading, which refuses to unpack beyond the limits."""

    def __init__(self, path: Path) -> None:
        packed = _watched(path)
        super().__init__(mode="rb", fileobj=packed)
        self.myfileobj = packed  # type: ignore[assignment] # closed with this one
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
