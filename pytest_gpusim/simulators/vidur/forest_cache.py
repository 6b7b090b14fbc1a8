"""What trained forests predict, kept in the user's cache directory.

Only tables of numbers are kept, never a model: reading one runs no code, so a file that somebody
changed can at worst hold other numbers. Its checksum tells a cut or damaged file, not an attacker,
who could write a fitting one.
"""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
import warnings
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from pytest_gpusim.errors import GpusimWarning
from pytest_gpusim.places import remove

Predictions = dict[str, dict[tuple[int, ...], float]]
"""By operator: Vidur's features, each a whole number, to the time in ms."""

LOCK_SECONDS = 600
"""How long another process's training is waited for."""
_HEADER = b"gpusim forest 1 "


class PredictionCache:
    """One entry; its directory is named by the digest of all that it depends on."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "predictions"
        self._lock = directory / "lock"

    def get(self, build: Callable[[], Predictions]) -> Predictions:
        """What is kept, or what ``build`` returns, which is kept then.

        One process builds, others wait for it, with a word and for some minutes. What cannot be
        read as it was written is built anew.
        """
        with self._locked():
            kept = self._load()
            if kept is not None:
                return kept
            built = build()
            self._store(built)
            return built

    def _locked(self) -> Any:
        from filelock import FileLock, Timeout

        try:
            self._lock.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self._lock)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                self._say("is held by another process: waiting for it")
                lock.acquire(timeout=LOCK_SECONDS)
        except Timeout:
            self._say(f"is held for {LOCK_SECONDS} s: going on without it")
            return nullcontext()
        except OSError:  # a cache that cannot be written is no reason not to simulate
            return nullcontext()
        return _Held(lock)

    def _say(self, what: str) -> None:
        said = f"the lock of the cache of trained forests, {self._lock}, {what}"
        warnings.warn(GpusimWarning(said), stacklevel=4)

    def _load(self) -> Predictions | None:
        try:
            content = self.path.read_bytes()
            header, _, payload = content.partition(b"\n")
            if header != _header(payload):
                return None
            return _unpacked(payload)
        except Exception:  # whatever is wrong with it, it is rebuilt
            return None

    def _store(self, predictions: Predictions) -> None:
        payload = _packed(predictions)
        partial = None
        try:
            for left in self.path.parent.glob("tmp*"):  # of processes that were killed
                remove(left)
            if self.path.is_dir():
                remove(self.path)
            with tempfile.NamedTemporaryFile(dir=self.path.parent, delete=False) as stream:
                partial = Path(stream.name)
                stream.write(_header(payload) + b"\n" + payload)
                stream.flush()
                os.fsync(stream.fileno())
            partial.replace(self.path)
        except OSError:
            if partial is not None:
                partial.unlink(missing_ok=True)


class _Held:
    """A lock that is held already, given back at the end of a block."""

    def __init__(self, lock: Any) -> None:
        self._lock = lock

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def _header(payload: bytes) -> bytes:
    return _HEADER + hashlib.sha256(payload).hexdigest().encode("ascii")


def _packed(predictions: Mapping[str, Mapping[tuple[int, ...], float]]) -> bytes:
    import numpy as np

    arrays: dict[str, Any] = {}
    for name, table in predictions.items():
        arrays[f"{name}.keys"] = np.array(list(table), dtype=np.int64)
        arrays[f"{name}.values"] = np.array(list(table.values()), dtype=np.float64)
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def _unpacked(payload: bytes) -> Predictions:
    import numpy as np

    predictions: Predictions = {}
    with np.load(io.BytesIO(payload), allow_pickle=False) as arrays:
        for entry in arrays.files:
            if not entry.endswith(".keys"):
                continue
            name = entry.removesuffix(".keys")
            keys = map(tuple, arrays[entry].tolist())
            predictions[name] = dict(zip(keys, arrays[f"{name}.values"].tolist(), strict=True))
    return predictions
