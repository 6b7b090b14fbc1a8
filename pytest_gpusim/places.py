"""Where artifacts and profiles lie: for the plugin, the command line and the doctor alike."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pytest_gpusim.artifacts import DEFAULT_ROOT

ENV_PROFILING_ROOT = "GPUSIM_PROFILING_ROOT"
DEFAULT_PROFILING_ROOT = DEFAULT_ROOT / "vidur_profiling"


@dataclass(frozen=True)
class ProfilingRoot:
    """Where bundles are looked for, and who said so."""

    path: Path
    source: str

    @property
    def is_named(self) -> bool:
        """Whether the user named it."""
        return self.source != "default"


def find_profiling_root(
    option: Path | str | None = None,
    *,
    ini: str = "",
    here: Path = Path(),
    base: Path = Path(),
) -> ProfilingRoot:
    """The profiling root: option, ini, environment or default, in that order.

    Args:
        option: What ``--profiling-root`` says.
        ini: What pytest's ``gpusim_profiling_root`` says, relative to ``base``.
        here: What the option and the environment are relative to.
        base: What holds the default's ``tmp``.
    """
    if option:
        return ProfilingRoot(here / option, "--profiling-root")
    if ini:
        return ProfilingRoot(base / ini, "gpusim_profiling_root")
    if variable := os.environ.get(ENV_PROFILING_ROOT):
        return ProfilingRoot(here / variable, ENV_PROFILING_ROOT)
    return ProfilingRoot(base / DEFAULT_PROFILING_ROOT, "default")


LATEST = "latest"
_KEPT = ("vidur_profiling", "recordings")
_MADE_BY_VIDUR = ("vidur_cache", "vidur_output")
_MADE = (
    "comparisons",
    "engines",
    "published",
    "profiling_state",
    "sweeps",
    "vidur_cache",
    "vidur_output",
    "workloads",
)


def point_to_latest(artifact: Path, artifacts: Path) -> None:
    """Let ``artifacts/latest`` be a link to ``artifact``, where links can be made."""
    link = artifacts / LATEST
    fresh = link.with_name(f".{LATEST}-{os.getpid()}")
    with suppress(OSError):
        if link.exists() and not link.is_symlink():
            return  # somebody's own
        fresh.symlink_to(os.path.relpath(artifact, artifacts), target_is_directory=True)
        fresh.replace(link)


def removable(artifacts: Path, *, days: float = 0, everything: bool = False) -> Iterator[Path]:
    """Generated artifacts below ``artifacts`` that are older than ``days``, in order.

    Only folders that this project makes; profiles and recordings, which took long to make, only
    with ``everything``.
    """
    before = time.time() - days * 86_400
    for kind in sorted(artifacts.iterdir()) if artifacts.is_dir() else ():
        known = kind.name in (*_MADE, *_MADE_BY_VIDUR) or kind.name.endswith("_runs")
        if kind.is_symlink():
            if kind.name == LATEST:
                yield kind
        elif kind.is_dir() and (known or (everything and kind.name in _KEPT)):
            yield from (one for one in sorted(kind.iterdir()) if one.lstat().st_mtime <= before)


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files below a directory."""
    if path.is_symlink() or path.is_file():
        return path.lstat().st_size
    return sum(each.lstat().st_size for each in path.rglob("*") if each.is_file())


def remove(path: Path) -> None:
    """Remove a file, a link, or a directory with all below it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
