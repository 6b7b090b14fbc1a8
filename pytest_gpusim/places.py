"""Where artifacts and profiles lie, for the plugin, the command line and the doctor alike."""

from __future__ import annotations

import os
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
