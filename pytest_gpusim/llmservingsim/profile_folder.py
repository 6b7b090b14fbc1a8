"""Finding the tables of one model and tensor-parallel degree in LLMServingSim's profiles."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from pytest_gpusim.errors import InputError, UsageError
from pytest_gpusim.llmservingsim.identity import (
    devices_contradict,
    dtypes_contradict,
    models_contradict,
)
from pytest_gpusim.tables import find_table, read_table
from pytest_gpusim.texts import whole_number
from pytest_gpusim.yaml_documents import read_yaml

DENSE = "dense.csv"
_META = ("meta.yaml", "meta.yml")
_FIX = "give the folder that holds dense.csv"
_DEGREE_NAME = re.compile(r"^tp[-_=]?(\d+)$", re.IGNORECASE)
# Times that say the opposite of the folders' names by more than this are no noise.
_CONTRADICTION = 1.2


def mapping(value: Any) -> Mapping[str, Any]:
    """``value`` where it is a mapping, else an empty one: a section may be a string or absent."""
    return value if isinstance(value, Mapping) else {}


@dataclass(frozen=True)
class Wanted:
    """What a profile must be of; None where that is not known."""

    tensor_parallel: int | None = None
    model: str | None = None
    device: str | None = None
    dtype: str | None = None


@dataclass(frozen=True)
class ProfileFiles:
    """Where a profile's files are.

    Attributes:
        tables: The folder with the CSVs of the degree that is asked for.
        meta_path: ``meta.yaml``, or the tables' ``dense.csv`` where there is none.
        meta: Its content.
        tensor_parallel: The degree.
        siblings: Folders of the other degrees, the lowest first.
        notes: What had to be assumed.
    """

    tables: Path
    meta_path: Path
    meta: Mapping[str, Any]
    tensor_parallel: int
    siblings: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()

    def text(self, key: str) -> str | None:
        """An entry of ``meta.yaml`` as text; None where it is absent."""
        value = self.meta.get(key)
        return None if value is None else str(value)

    def section(self, key: str) -> Mapping[str, Any]:
        """A section of ``meta.yaml``; empty where it is absent or no mapping."""
        return mapping(self.meta.get(key))


@dataclass(frozen=True)
class _Profile:
    """The folders of tables that share what their ``meta.yaml`` says of model, GPU and variant."""

    meta_path: Path
    meta: Mapping[str, Any]
    folders: tuple[Path, ...]
    degrees: tuple[int, ...]

    def label(self) -> str:
        keys = ("model", "variant", "gpu", "hardware")
        words = [str(self.meta[key]) for key in keys if self.meta.get(key) is not None]
        return f"{' '.join(words) or 'unnamed'} ({self.meta_path.parent})"


def find_profile(directory: Path, wanted: int | Wanted | None = None) -> ProfileFiles:
    """Find the tables for a tensor-parallel degree below ``directory``.

    Profiles of several models or variants are told apart by the ``meta.yaml`` nearest to them.
    Sharded ones keep one folder per degree: which is which is told by names such as ``tp2``, or by
    ``tp_degrees`` and the times of the projections, which read 1/degree of the weights.

    Args:
        directory: The profile, or a folder with profiles below it.
        wanted: What it must be of; a number is the tensor-parallel degree.

    Raises:
        InputError: There is no such profile, or it is of something else.
        UsageError: Several fit.
    """
    directory = Path(directory)
    asked = wanted if isinstance(wanted, Wanted) else Wanted(wanted)
    if not directory.is_dir():
        raise InputError(directory, "", "no such directory", _FIX)
    return _of_degree(_choose(directory, _profiles(directory), asked), asked.tensor_parallel)


def _profiles(directory: Path) -> list[_Profile]:
    folders = sorted(
        {
            path.parent
            for name in (DENSE, f"{DENSE}.gz")
            for path in directory.rglob(name)
            if path.is_file() and not path.parent.name.startswith(".")
        },
        key=_depth,
    )
    if not folders:
        raise InputError(directory, "", "no dense.csv in it or below", _FIX)
    every = sorted((p for name in _META for p in directory.rglob(name)), key=_depth)
    found: dict[tuple[str, ...], _Profile] = {}
    for folder in folders:
        near = (folder / name for folder in _upwards(folder, directory) for name in _META)
        path = next((p for p in near if p.is_file()), every[0] if every else None)
        meta = _read_yaml(path) if path is not None else {}
        key = tuple(str(meta.get(word)) for word in ("model", "variant", "gpu", "hardware"))
        here = _Profile(path or folder / DENSE, meta, (folder,), tuple(_degrees(meta)))
        known = found.get(key)
        found[key] = here if known is None else _joined(known, here)
    return list(found.values())


def _joined(one: _Profile, other: _Profile) -> _Profile:
    degrees = tuple(sorted({*one.degrees, *other.degrees}))
    return replace(one, folders=(*one.folders, *other.folders), degrees=degrees)


def _choose(directory: Path, profiles: Sequence[_Profile], wanted: Wanted) -> _Profile:
    fitting = [profile for profile in profiles if _contradiction(profile.meta, wanted) is None]
    if len(fitting) > 1 and wanted.tensor_parallel is not None:
        fitting = [p for p in fitting if wanted.tensor_parallel in p.degrees] or fitting
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise UsageError(
            f"{directory}: several profiles fit: {', '.join(p.label() for p in fitting)}; "
            "give the folder of one"
        )
    if len(profiles) == 1:
        key, found, asked = _contradiction(profiles[0].meta, wanted) or ("", "", "")
        raise InputError(
            profiles[0].meta_path, key, f"the profile is of {found}, the run of {asked}"
        )
    raise InputError(
        directory,
        "",
        f"no profile is of {wanted.model or 'this model'} on {wanted.device or 'this GPU'} in "
        f"{wanted.dtype or 'its dtype'}; found are {', '.join(p.label() for p in profiles)}",
    )


def _contradiction(meta: Mapping[str, Any], wanted: Wanted) -> tuple[str, str, str] | None:
    """(key, what the profile is of, what is asked) of the first contradiction; None without one."""
    model = meta.get("model")
    if model and models_contradict(str(model), wanted.model):
        return "model", str(model), str(wanted.model)
    gpus = [str(meta[key]) for key in ("gpu", "hardware") if meta.get(key)]
    if devices_contradict(gpus, [wanted.device]):
        return "gpu", gpus[0], str(wanted.device)
    stated = mapping(meta.get("engine_effective")).get("dtype")
    for key, value in (("variant", meta.get("variant")), ("engine_effective.dtype", stated)):
        if value and dtypes_contradict(str(value), wanted.dtype):
            return key, str(value), str(wanted.dtype)
    return None


def _of_degree(profile: _Profile, wanted: int | None) -> ProfileFiles:
    path, meta, folders = profile.meta_path, profile.meta, profile.folders
    notes: tuple[str, ...] = ()
    by_degree = _by_name(folders)
    unnamed = [folder for folder in folders if folder not in by_degree.values()]
    if len(unnamed) == 1 and by_degree and wanted is not None:
        by_degree.setdefault(wanted, unnamed[0])  # flat tables beside those of other degrees
    elif len(folders) == 1:
        by_degree = _alone(profile, by_degree, wanted)
    elif unnamed or (len(profile.degrees) == len(folders) and _named_against_times(by_degree)):
        if by_degree and not unnamed:
            notes = ("degrees are matched by times, which contradict the folders' names",)
        by_degree = _by_times(profile)
    if wanted is not None and wanted not in by_degree:
        raise InputError(path, "tp_degrees", f"is {sorted(by_degree)}, asked for is {wanted}")
    degree = wanted or min(by_degree)
    others = tuple(by_degree[other] for other in sorted(by_degree) if other != degree)
    return ProfileFiles(by_degree[degree], path, meta, degree, others, notes)


def _by_name(folders: Sequence[Path]) -> dict[int, Path]:
    named = [(_DEGREE_NAME.match(folder.name), folder) for folder in folders]
    found = [(int(match[1]), folder) for match, folder in named if match]
    return dict(found) if len(dict(found)) == len(found) else {}


def _alone(profile: _Profile, named: Mapping[int, Path], wanted: int | None) -> dict[int, Path]:
    """The one folder with tables by its degree: the one that is asked for, if nothing denies it."""
    (folder,) = profile.folders
    degrees = profile.degrees or tuple(named) or ((1,) if wanted is None else (wanted,))
    if wanted is None and len(degrees) > 1:
        raise UsageError(
            f"{profile.meta_path}: tp_degrees is {list(degrees)} and there is one set of tables; "
            "say which it is with --tensor-parallel-size"
        )
    if wanted is not None and wanted in degrees and (not named or wanted in named):
        return {wanted: folder}
    return dict.fromkeys(named or degrees, folder)


def _by_times(profile: _Profile) -> dict[int, Path]:
    if len(profile.degrees) != len(profile.folders):
        raise InputError(
            profile.meta_path,
            "tp_degrees",
            f"names {len(profile.degrees)} degrees, {len(profile.folders)} folders have tables",
        )
    folders = sorted(profile.folders, key=_projection_us, reverse=True)
    return dict(zip(profile.degrees, folders, strict=True))


def _named_against_times(by_name: Mapping[int, Path]) -> bool:
    times = [_projection_us(by_name[degree]) for degree in sorted(by_name)]
    return any(high > low * _CONTRADICTION for low, high in pairwise(times))


def _projection_us(directory: Path) -> float:
    """Mean time of a projection at its five smallest sizes: that of reading its weights.

    It is ``gate_up_proj``, or ``o_proj`` where all layers have experts in its place.
    """
    path = find_table(directory, DENSE) or directory / DENSE
    frame = read_table(path, required=["layer", "tokens", "time_us"], numbers=["tokens", "time_us"])
    for layer in ("gate_up_proj", "o_proj"):
        rows = frame[frame["layer"].str.strip() == layer]
        if len(rows):
            return float(rows.sort_values("tokens")["time_us"].iloc[:5].mean())
    raise InputError(path, "column layer", "has no gate_up_proj")


def _degrees(meta: Mapping[str, Any]) -> list[int]:
    """``tp_degrees``, in whatever form: a list, one number, or text."""
    stated = meta.get("tp_degrees")
    if stated is None:
        stated = meta.get("tp_degree", [])
    numbers = map(whole_number, re.findall(r"\d+", str(stated)))
    return sorted({number for number in numbers if number})


def _upwards(folder: Path, top: Path) -> Iterator[Path]:
    yield folder
    while folder != top and folder != folder.parent:
        folder = folder.parent
        yield folder


def _read_yaml(path: Path) -> Mapping[str, Any]:
    document = read_yaml(path)
    if not isinstance(document, dict):
        raise InputError(path, "", "expected a mapping")
    return {str(key): value for key, value in document.items()}


def _depth(path: Path) -> tuple[int, str]:
    return len(path.parts), str(path)
