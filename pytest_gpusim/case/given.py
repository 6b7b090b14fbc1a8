"""The real side from what the user has: results of tools, run directories, patterns of them."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_gpusim.errors import InputError, UsageError
from pytest_gpusim.registry import Registry
from pytest_gpusim.workload.store import store_workload
from pytest_gpusim.workload.trace import read_workload

if TYPE_CHECKING:
    from pytest_gpusim.runs import Run
    from pytest_gpusim.runs.importers.stated import Stated
    from pytest_gpusim.workload import Workload

RealFiles = str | Path | Sequence[str | Path]
"""A result file of another tool, a run directory, a folder of runs, a pattern, or several."""


@dataclass(frozen=True)
class GivenReal:
    """Real runs that were named by file, and the workload that they served."""

    runs: tuple[Run, ...]
    workload: Workload


def find_real(real: RealFiles, places: Sequence[Path]) -> list[Path]:
    """The files and run directories that ``real`` names, in the order given, patterns sorted.

    Args:
        real: One or several; a relative one is looked for in each of ``places`` in turn.
        places: Directories, the likeliest first.

    Raises:
        InputError: Nothing lies there, or a folder holds no run.
        UsageError: No file, or one of them twice: repeats are runs of their own.
    """
    named = [real] if isinstance(real, str | Path) else list(real)
    found = [path for one in named for path in _find(Path(one), places)]
    if not found:
        raise UsageError("real: no file is named; give a result file, a run directory or a pattern")
    twice = {path for path in found if found.count(path) > 1}
    if twice:
        raise UsageError(f"real: {min(twice)} is named twice; repeats are runs of their own")
    return found


def _find(path: Path, places: Sequence[Path]) -> list[Path]:
    from pytest_gpusim.runs.importers.files import no_such, split_index
    from pytest_gpusim.runs.importers.options import ALL

    for place in places:
        here = place / path
        if split_index(here)[0].exists():
            return _runs_of_folder(here)
        if here.name.endswith(f"#{ALL}") and Path(str(here).removesuffix(f"#{ALL}")).is_file():
            return [here]
        if glob.has_magic(str(path)):
            # Path.glob takes no absolute pattern.
            matches = [Path(m) for m in glob.glob(str(here), recursive=True)]  # noqa: PTH207
            if matches:
                return sorted(matches, key=_natural)
        if "#" in path.name and here.with_name(here.name.rpartition("#")[0]).is_file():
            raise no_such(here)
    looked = ", ".join(dict.fromkeys(str(place) for place in places)) if places else ""
    where = f"; looked for in {looked}" if looked and not path.is_absolute() else ""
    raise InputError(path, "", f"no such file or run directory{where}")


def _runs_of_folder(path: Path) -> list[Path]:
    """``1…N`` of a repeated measurement; anything else is a run itself."""
    if not path.is_dir() or any(each.is_file() for each in path.iterdir()):
        return [path]
    inner = [each for each in path.iterdir() if each.is_dir() and not each.name.startswith(".")]
    return sorted(inner, key=_natural) or [path]


def _natural(path: Path) -> list[tuple[int, str]]:
    """Sort key by which ``10`` comes after ``9``."""
    parts = re.split(r"(\d+)", str(path))
    return [(int(part), "") if part.isdecimal() else (0, part) for part in parts]


def read_given(
    paths: Iterable[Path], registry: Registry, artifacts: Path, stated: Stated
) -> GivenReal:
    """Read real runs, with what is stated of them beside their files.

    The workload is the stated one, else what the first run served, with its arrivals and lengths.

    Raises:
        InputError: A file cannot be used, or contradicts what is stated.
    """
    from pytest_gpusim.runs.importers.load import each_run
    from pytest_gpusim.runs.importers.scheduled import like_first

    each = (one for path in paths for one in each_run(path, registry))
    runs = tuple(
        like_first([_read(path, registry, artifacts / "real_runs", stated) for path in each])
    )
    workload = stated.workload or workload_of(runs[0], artifacts / "workloads")
    return GivenReal(runs, workload)


def _read(path: Path, registry: Registry, store: Path, stated: Stated) -> Run:
    from pytest_gpusim.runs import read_run
    from pytest_gpusim.runs.importers.load import id_of_file, recognise
    from pytest_gpusim.runs.importers.stated import import_stated

    if (path / "run_meta.json").exists():
        kind, run = "gpusim", read_run(path)
        if _says_all(run, stated):
            return run
    else:
        kind = recognise(path, registry)
    out = store / id_of_file(path)
    import_stated(kind, registry.run_importers.get(kind), [path], out, stated)
    return read_run(out)


def _says_all(run: Run, stated: Stated) -> bool:
    """Whether a run directory itself says what is stated; then it is compared as it lies."""
    said = {
        "model": stated.model,
        "hardware": stated.hardware.name if stated.hardware else None,
        "device_name": stated.device_name,
        "workload_digest": stated.workload.digest if stated.workload else None,
    }
    engine = run.meta.get("engine") or {}
    asked = stated.engine.to_json() if stated.engine else {}
    return all(value in (None, run.meta.get(key)) for key, value in said.items()) and all(
        engine.get(key) == value for key, value in asked.items()
    )


def workload_of(run: Run, store: Path) -> Workload:
    """The requests of a run, with its arrivals and the lengths that it produced."""
    from pytest_gpusim.runs.as_workload import import_run

    return read_workload(store_workload(store, lambda out: import_run(run.path, out, {})))
