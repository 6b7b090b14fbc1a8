"""Text files, plain or packed: opened and read within limits, errors by file; values in texts."""

from __future__ import annotations

import ast
import csv
import gzip
import io
import os
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from pytest_gpusim.errors import InputError
from pytest_gpusim.limits import Limit, check_plain, check_unpacked
from pytest_gpusim.progress import Progress

_UNPACK = "unpack it first"
_NO_TEXT = (
    (b"\x28\xb5\x2f\xfd", "packed by zstd", _UNPACK),
    (b"BZh", "packed by bzip2", _UNPACK),
    (b"PK\x03\x04", "a ZIP archive (or an Excel sheet)", "unpack it, or save it as CSV"),
    (b"PAR1", "a Parquet file", "write it as CSV or JSON lines"),
    (b"ARROW1", "an Arrow file", "write it as CSV or JSON lines"),
    (b"SQLite f", "a SQLite database", "write its table as CSV"),
    (b"\xff\xfe", "UTF-16", "save it as UTF-8"),
    (b"\xfe\xff", "UTF-16", "save it as UTF-8"),
)
"""How files begin that people have beside texts, what they are, and what to do."""
_PACKED = {b"\x1f\x8b": ".gz", b"\xfd7zXZ\x00": ".xz"}
"""How packed files begin that are read, and how they are usually called."""
PACKED_SUFFIXES = tuple(_PACKED.values())

NO_PATH = "is no name that a file can have"
_DIGITS = 18
_LONGEST_PATH, _LONGEST_NAME = 4096, 255
"""Linux' PATH_MAX and NAME_MAX, in bytes."""
_LONGEST_LITERAL = 1 << 17


def can_be_path(name: str) -> bool:
    """Whether a file can be called so: without NUL, half surrogates and parts beyond 255 bytes."""
    try:
        raw = os.fsencode(name)
    except UnicodeEncodeError:
        return False
    parts = raw.split(b"/")
    return b"\0" not in raw and len(raw) < _LONGEST_PATH and max(map(len, parts)) <= _LONGEST_NAME


def whole_number(text: str) -> int | None:
    """The whole number that ``text`` writes in digits alone; more than 18 count nothing: None."""
    digits = text.strip()
    return int(digits) if digits.isdecimal() and len(digits) <= _DIGITS else None


def python_literal(text: str) -> Any:
    """What Python wrote as ``text`` (``True``, ``None``, ``{'a': 16}``), else the text itself."""
    if len(text) > _LONGEST_LITERAL:
        return text
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes and numbers that Python will not take
            return ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return text


@contextmanager
def open_text(path: Path, *, fix: str = "", holes: bool = False) -> Iterator[TextIO]:
    """Open a text file, plain or packed, whose reading errors become `InputError`.

    Zero bytes are such an error but with ``holes``, as a log has them that was cut while it was
    written: a hole costs its maker nothing, and the line that it makes has no end.
    """
    # newline="": cells of a CSV keep theirs.
    with (
        _errors_of(path, fix=fix),
        io.TextIOWrapper(
            _opened(path, fix, holes=holes), encoding="utf-8-sig", newline=""
        ) as stream,
    ):
        yield stream


def read_text_within(
    path: Path, limit: Limit, *, encoding: str = "utf-8-sig", expected: str = "", fix: str = ""
) -> str:
    """A whole text file, plain or packed, within a limit of bytes.

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
            if isinstance(stream, io.BufferedReader) and path.stat().st_size > limit.value:
                raise InputError(path, "", f"has more than {limit.value:,} bytes", limit.advice)
            # In pieces: a read of so many bytes would first ask for their memory.
            pieces, left = [], limit.value + 1
            while left and (piece := stream.read(min(left, 1 << 20))):
                pieces.append(piece)
                left -= len(piece)
        content = b"".join(pieces)
        if len(content) > limit.value:
            raise InputError(path, "", f"has more than {limit.value:,} bytes", limit.advice)
        return content.decode(encoding)


def lines_within(path: Path, stream: TextIO, limit: Limit) -> Iterator[str]:
    """The lines of an opened text, none longer than a limit.

    Raises:
        InputError: One is; names it.
    """
    most, number = limit.value, 0
    while line := stream.readline(most + 1):
        number += 1
        if len(line) > most:
            raise InputError(path, f"line {number}", f"is longer than {most:,}", limit.advice)
        yield line


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
    except OSError as error:
        if expected and isinstance(error, IsADirectoryError):
            raise InputError(path, "", f"is a directory, expected {expected}", fix) from None
        said = getattr(error, "strerror", None) or error
        raise InputError(path, "", f"cannot be read: {said}", fix) from None


def open_bytes(path: Path, *, fix: str = "") -> io.BufferedReader:
    """Open a file for reading, plain or, where its suffix is of `PACKED_SUFFIXES`, unpacked within
    the limits; says how far a long one is.
    """
    return _unpacked(path, path.suffix, fix) if path.suffix in PACKED_SUFFIXES else _watched(path)


def open_table(path: Path, *, fix: str = "") -> io.BufferedReader:
    """As `open_bytes`, of a text: zero bytes in it are an error."""
    if path.suffix in PACKED_SUFFIXES:
        return _unpacked(path, path.suffix, fix, text=True)
    return _watched(path, text=True)


def _opened(path: Path, fix: str = "", *, holes: bool = False) -> io.BufferedReader:
    """A text's bytes, unpacked where they are packed, whatever the file is called."""
    stream = _watched(path)
    begins = stream.peek(8)
    for mark, what, what_to_do in _NO_TEXT:
        if begins.startswith(mark):
            stream.close()
            raise InputError(path, "", f"is {what}, not a text: {what_to_do}", fix)
    suffix = next((suffix for mark, suffix in _PACKED.items() if begins.startswith(mark)), None)
    if holes and not suffix:
        return stream
    stream.close()
    return _unpacked(path, suffix, fix, text=not holes) if suffix else _watched(path, text=True)


def _unpacked(path: Path, suffix: str, fix: str, *, text: bool = False) -> io.BufferedReader:
    return io.BufferedReader(_Unpacked(path, suffix, fix, text=text), 1 << 16)


def _watched(path: Path, *, text: bool = False) -> io.BufferedReader:
    try:
        return io.BufferedReader(_Watched(path, text=text), 1 << 16)
    except ValueError:  # NUL, or half a surrogate pair
        raise InputError(path, "", NO_PATH) from None


def _require_text(path: Path, content: bytes) -> None:
    if b"\0" in content:
        raise InputError(path, "", "holds zero bytes: it is no text, or was cut by a crash")


class _Watched(io.FileIO):
    """A file that says now and then how much of it was read."""

    def __init__(self, path: Path, *, text: bool = False) -> None:
        check_plain(path)
        try:
            super().__init__(path)
        except PermissionError as error:
            raise InputError(path, "", f"cannot be read: {error.strerror}") from None
        self._path, self._text = path, text
        size = os.fstat(self.fileno()).st_size
        self._progress = Progress(f"read {path.name}", size >> 20, "MiB")
        self._read = 0

    def readinto(self, buffer: Any) -> int | None:
        """As `io.FileIO.readinto`."""
        count = super().readinto(buffer)
        self._read += count or 0
        if self._text and count:
            _require_text(self._path, bytes(memoryview(buffer)[:count]))
        self._progress.reach(lambda: self._read >> 20)
        return count

    def close(self) -> None:
        """As `io.FileIO.close`."""
        if not self.closed:
            self._progress.end()
        super().close()


class _Unpacked(io.RawIOBase):
    """A packed file for reading, which refuses to unpack beyond the limits."""

    def __init__(self, path: Path, suffix: str, fix: str, *, text: bool) -> None:
        super().__init__()
        self._source = _watched(path)
        self._stream: io.BufferedIOBase
        self._broken: tuple[type[Exception], ...]
        if suffix == ".xz":
            import lzma  # a Python may be built without it

            self._stream = lzma.LZMAFile(self._source)  # noqa: SIM115 - closed with this one
            self._broken = (EOFError, lzma.LZMAError, MemoryError)
        else:
            self._stream = gzip.GzipFile(mode="rb", fileobj=self._source)
            self._broken = (EOFError, gzip.BadGzipFile, zlib.error)
        self._path, self._fix, self._text = path, fix, text
        self._size = path.stat().st_size
        self._read = 0

    def readable(self) -> bool:
        """As `io.RawIOBase.readable`."""
        return True

    def seekable(self) -> bool:
        """As `io.RawIOBase.seekable`."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """As `io.RawIOBase.seek`; back to the start, it is unpacked again."""
        self._read = self._stream.seek(offset, whence)
        return self._read

    def readinto(self, buffer: Any) -> int:
        """As `io.RawIOBase.readinto`."""
        try:
            content = self._stream.read1(len(buffer))
        except self._broken as error:
            said = str(error) or "claims more memory than there is"
            raise InputError(self._path, "", f"cannot be read: {said}", self._fix) from None
        self._read += len(content)
        check_unpacked(self._path, self._size, self._read)
        if self._text:
            _require_text(self._path, content)
        buffer[: len(content)] = content
        return len(content)

    def close(self) -> None:
        """As `io.RawIOBase.close`."""
        self._source.close()
        super().close()
