"""A grid of simulations from a TOML file: every value that is a list is an axis.

::

    model = "Qwen/Qwen3-0.6B"
    hardware = "cpu"
    simulator = ["vidur", "reference"]
    profile = "profiles"            # a bundle or a profiling root

    [load]                          # or: workload = ["chat", "code"], workload directories
    arrivals = "poisson"
    requests = 200
    rate = [2, 4, 8]
    seed = [0, 1]
    prefill = "256:1024"
    decode = 128

    [engine]                        # vLLM's names
    max_num_seqs = [64, 128]

    [params]                        # the simulator's own options
    scheduler = "vllm"

Paths are relative to the file.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from itertools import product
from pathlib import Path
from typing import Any

from pytest_gpusim.errors import GpusimError, InputError, meant, shortly
from pytest_gpusim.limits import GRID_POINTS
from pytest_gpusim.texts import NO_PATH, can_be_path
from pytest_gpusim.toml_documents import read_toml
from pytest_gpusim.workload.generate import Lengths, Seconds, WorkloadSpec

_SCALARS = ("model", "hardware", "simulator", "profile", "workload", "clock")
_TEXTS = ("model", "hardware", "simulator", "profile", "workload")
_TABLES = ("load", "engine", "params")
_LENGTHS = ("prefill", "decode", "turns")
_DEFAULTS = {"simulator": "vidur"}
_CLOCKS = ("engine", "client")


@dataclass(frozen=True)
class Coordinates:
    """One point of a grid: what each key of the file is there, and which of them vary.

    Attributes:
        values: ``model``, ``load.rate``, ``engine.max_num_seqs``, … by their names in the file.
        axes: The names of those that are lists in the file.
    """

    values: Mapping[str, Any]
    axes: tuple[str, ...]

    def table(self, name: str) -> dict[str, Any]:
        """The values below ``[name]``."""
        start = f"{name}."
        return {
            key.removeprefix(start): v for key, v in self.values.items() if key.startswith(start)
        }

    @property
    def place(self) -> dict[str, Any]:
        """The values along the axes: what tells this point from the others."""
        return {name: self.values[name] for name in self.axes}


@dataclass(frozen=True)
class Grid:
    """A grid file, read.

    Attributes:
        path: The file.
        axes: Values by name, in the file's order; a name with one value does not vary.
        varying: The names that are lists in the file.
    """

    path: Path
    axes: Mapping[str, tuple[Any, ...]]
    varying: tuple[str, ...]

    def points(self) -> Iterator[Coordinates]:
        """All combinations; the last axis of the file changes first."""
        for values in product(*self.axes.values()):
            yield Coordinates(dict(zip(self.axes, values, strict=True)), self.varying)

    def file(self, name: str) -> Path:
        """A path that the file names.

        Raises:
            InputError: No file can have that name.
        """
        if not can_be_path(name):
            raise InputError(self.path, "", f"{shortly(name)} {NO_PATH}")
        return self.path.parent / name

    def load(self, point: Coordinates) -> WorkloadSpec:
        """What to generate at a point.

        Raises:
            InputError: A key is unknown, or a value makes no workload.
        """
        stated = point.table("load")
        known = {field.name for field in fields(WorkloadSpec)}
        for key in stated:
            if key not in known:
                raise InputError(
                    self.path, f"load.{key}", f"is unknown; known are {', '.join(sorted(known))}"
                )
        for key in ("arrivals", "requests"):
            if key not in stated:
                raise InputError(self.path, f"load.{key}", "is missing")
        values: dict[str, Any] = {"rate": None, "seed": 0, **stated}
        for key in _LENGTHS:
            if key in values:
                values[key] = Lengths.parse(str(values[key]), f"load.{key}")
        if "think_time" in values:
            values["think_time"] = Seconds.parse(str(values["think_time"]), "load.think_time")
        if "lengths_from" in values:
            values["lengths_from"] = self.file(str(values["lengths_from"]))
        try:
            spec = WorkloadSpec(**values)
            spec.check()
        except (GpusimError, TypeError) as error:
            raise InputError(self.path, "load", str(error)) from None
        return spec


def read_grid(path: Path) -> Grid:
    """Read a grid file.

    Raises:
        InputError: It is no TOML, a key is unknown or missing, or an axis is empty.
    """
    document = read_toml(path, fix="give a grid in TOML")
    flat: dict[str, Any] = {}
    for key, value in document.items():
        if key in _SCALARS:
            flat[key] = value
        elif key in _TABLES and isinstance(value, dict):
            flat.update({f"{key}.{name}": each for name, each in value.items()})
        else:
            known = ", ".join((*_SCALARS, *(f"[{name}]" for name in _TABLES)))
            hint = meant(key, (*_SCALARS, *_TABLES))
            raise InputError(path, key, f"is unknown{hint}; known are {known}")
    for key in ("model", "hardware", "profile"):
        if key not in flat:
            raise InputError(path, key, "is missing")
    has_load = any(key.startswith("load.") for key in flat)
    if has_load == ("workload" in flat):
        raise InputError(path, "workload", "give either workload or a table [load]")
    for key, value in _DEFAULTS.items():
        flat.setdefault(key, value)
    axes = {key: _axis(path, key, value) for key, value in flat.items()}
    GRID_POINTS.check(path, "", math.prod(map(len, axes.values())))
    for key in _TEXTS:
        for value in axes.get(key, ()):
            if not isinstance(value, str):
                raise InputError(path, key, f"expected a text, found {value!r}")
    for clock in axes.get("clock", ()):
        if clock not in _CLOCKS:
            raise InputError(path, "clock", f"{clock!r} is unknown; known are {', '.join(_CLOCKS)}")
    return Grid(path, axes, tuple(key for key, value in flat.items() if isinstance(value, list)))


def _axis(path: Path, key: str, value: Any) -> tuple[Any, ...]:
    values = value if isinstance(value, list) else [value]
    if not values:
        raise InputError(path, key, "has no value")
    for each in values:
        if not isinstance(each, str | int | float | bool):
            raise InputError(
                path, key, f"expected a text, a number or a list of them, found {each!r}"
            )
        if isinstance(each, float) and not math.isfinite(each):
            raise InputError(path, key, f"expected a finite number, found {each!r}")
    return tuple(values)
