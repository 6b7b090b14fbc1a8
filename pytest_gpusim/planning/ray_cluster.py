"""Points on a Ray cluster: inputs travel through Ray's object store, runs come back as bytes.

No file system is shared. A node that dies takes its tasks with it, and Ray runs those again
elsewhere. Every node needs pytest-gpusim of the driver's version, with what the simulator needs.
"""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_gpusim.artifacts import atomic_directory, package_version
from pytest_gpusim.errors import EngineError
from pytest_gpusim.json_documents import read_json, write_json
from pytest_gpusim.planning.point import Point, run_point
from pytest_gpusim.planning.workers import Outcome
from pytest_gpusim.registry import Registry

Files = Mapping[str, bytes]
"""A directory's files by their relative names."""

# How often a task runs again whose worker or node died; a point's own failure is its result.
_RETRIES = 10
_CONNECT_S = 10
_RUN_META = "run_meta.json"


def run_on_ray(
    points: Sequence[Point], registry: Callable[[], Registry], out: Path, address: str
) -> Iterator[Outcome]:
    """Run points on the cluster at ``address``; each run directory is ``out / key``.

    Args:
        points: What to run.
        registry: Makes the registry on a worker; a function of a module, or a partial of one.
        out: Where the runs go, on this machine.
        address: As ``ray.init`` takes it: ``auto``, ``HOST:PORT``, ``ray://HOST:PORT``.

    Raises:
        EngineError: Ray is not installed, or there is no such cluster.
    """
    try:
        import ray
    except ImportError:
        raise EngineError("ray is not installed: pip install 'pytest-gpusim[ray]'") from None
    mine = not ray.is_initialized()
    if mine:
        _require_listener(address)
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise EngineError(f"--ray {address}: no cluster there ({reason})") from None
    try:
        yield from _submit(ray, points, registry, out)
    finally:
        if mine:
            ray.shutdown()


def _require_listener(address: str) -> None:
    """Say at once what Ray takes minutes to find: that nobody listens at an address."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdecimal():
        return
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_S).close()
    except OSError as error:
        reason = error.strerror or str(error)
        raise EngineError(f"--ray {address}: no cluster there ({reason})") from None


def _submit(
    ray: Any, points: Sequence[Point], registry: Callable[[], Registry], out: Path
) -> Iterator[Outcome]:
    run = ray.remote(_run_remotely).options(max_retries=_RETRIES)
    folders = {folder for point in points for folder in (point.workload, point.bundle)}
    packed = {folder: ray.put(_pack(folder)) for folder in folders}
    version = package_version("pytest-gpusim")
    waiting = {
        run.remote(point, packed[point.workload], packed[point.bundle], registry, version): point
        for point in points
    }
    while waiting:
        (ready,), _ = ray.wait(list(waiting), num_returns=1)
        point = waiting.pop(ready)
        try:
            files, reason = ray.get(ready)
        except ray.exceptions.RayError as error:
            first = str(error).strip().splitlines()[0]
            yield Outcome(point.key, f"Ray: {type(error).__name__}: {first}")
            continue
        if not reason and not (out / point.key).is_dir():
            _unpack_run(files, point, out / point.key)
        yield Outcome(point.key, reason)


def _run_remotely(
    point: Point, workload: Files, bundle: Files, registry: Callable[[], Registry], version: str
) -> tuple[Files, str]:
    """Run a point on a worker; returns the run's files, and why it failed."""
    found = package_version("pytest-gpusim")
    if found != version:
        return {}, f"a worker has pytest-gpusim {found}, this machine {version}"
    with tempfile.TemporaryDirectory(prefix="gpusim-ray-") as scratch:
        place = Path(scratch)
        _unpack(workload, place / "workload")
        _unpack(bundle, place / "bundle")
        moved = point.moved(place / "workload", place / "bundle")
        reason = run_point(moved, registry(), place / "run")
        return ({} if reason else _pack(place / "run")), reason


def _pack(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def _unpack(files: Files, directory: Path) -> None:
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _unpack_run(files: Files, point: Point, out: Path) -> None:
    """A run that came back, its metadata naming the inputs where they lie here."""
    with atomic_directory(out) as partial:
        _unpack(files, partial)
        meta = read_json(partial / _RUN_META)
        meta.update(
            run_id=out.name, workload_dir=str(point.workload), profiling_root=str(point.bundle)
        )
        write_json(partial / _RUN_META, meta)
