"""Decisions from runs: which real and simulated runs are of which setting at which load.

::

    slo = "ttft_p90=500ms,tpot_p90=40ms"    # decide by capacity at these limits
    objective = ["e2e_p90", "goodput"]      # and by a figure, at each load

    [[point]]
    setting = "64 sequences"
    load = 4.0                              # requests per second, or clients
    real = ["runs/64-4-1", "runs/64-4-2"]   # repeats
    simulated = "sims/64-4"                 # or a list

Paths are relative to the file; a real run may be another tool's file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_gpusim.errors import InputError
from pytest_gpusim.planning.decision import Decision, Setting
from pytest_gpusim.planning.figures import FIGURES, figures_of
from pytest_gpusim.planning.slo import Limits, parse_limits
from pytest_gpusim.registry import Registry
from pytest_gpusim.toml_documents import read_toml

if TYPE_CHECKING:
    from pytest_gpusim.compare.measure import RunMetrics

_KEYS = {"slo", "share", "objective", "point"}
_POINT_KEYS = {"setting", "load", "real", "simulated"}
_HIGHER = ("requests_per_s", "output_tokens_per_s", "goodput")
_GOODPUT = "goodput"


@dataclass(frozen=True)
class Measured:
    """One run: its metrics, and the figures of `FIGURES`."""

    metrics: RunMetrics
    figures: Mapping[str, float | int | None]


@dataclass
class Sides:
    """The runs of one setting, by load: repeats and simulations."""

    real: dict[float, list[Measured]] = field(default_factory=dict)
    simulated: dict[float, list[Measured]] = field(default_factory=dict)


@dataclass(frozen=True)
class Question:
    """A decision file, read, with its runs.

    Attributes:
        path: The file.
        limits: Of ``slo``; None where it has none.
        objectives: Figures to decide by at each load.
        settings: The runs of each setting, by its name.
    """

    path: Path
    limits: Limits | None
    objectives: tuple[str, ...]
    settings: Mapping[str, Sides]

    @property
    def loads(self) -> list[float]:
        """All loads, ascending."""
        return sorted({load for sides in self.settings.values() for load in sides.real})

    def decisions(self) -> list[Decision]:
        """One by capacity, where limits are stated and there is more than one load; and one for
        each objective at each load.
        """
        found = []
        if self.limits is not None and len(self.loads) > 1:
            settings = tuple(_by_capacity(n, s, self.limits) for n, s in self.settings.items())
            found.append(Decision(f"load within {self.limits}", settings, True))
        for name in self.objectives:
            for load in self.loads:
                settings = tuple(
                    Setting(
                        setting,
                        self._values(sides.real[load], name),
                        self._values(sides.simulated[load], name),
                    )
                    for setting, sides in self.settings.items()
                    if load in sides.real
                )
                if len(settings) > 1:
                    found.append(Decision(f"{name} at load {load:g}", settings, name in _HIGHER))
        if not found:
            raise InputError(
                self.path, "objective", "nothing to decide by: give slo and several loads, or it"
            )
        return found

    def _values(self, runs: Sequence[Measured], name: str) -> tuple[float, ...]:
        if name == _GOODPUT:
            assert self.limits is not None
            return tuple(self.limits.goodput(run.metrics) for run in runs)
        key = name if name in FIGURES else f"{name}_ns"
        values = [run.figures[key] for run in runs]
        if any(value is None for value in values):
            raise InputError(self.path, "objective", f"{name} is not known of every run")
        scale = 1e-6 if key.endswith("_ns") else 1.0
        return tuple(float(value) * scale for value in values if value is not None)


def read_question(path: Path, registry: Registry, store: Path) -> Question:
    """Read a decision file and its runs.

    Args:
        path: The file.
        registry: Whose importers read other tools' files.
        store: Where imported runs go.

    Raises:
        InputError: The file or a run cannot be used, or a point has but one side.
    """
    document = _document(path)
    slo, share = document.get("slo"), document.get("share")
    limits = parse_limits(str(slo), share) if slo is not None else None
    stated = document.get("objective", [])
    objectives = tuple([stated] if isinstance(stated, str) else stated)
    for name in objectives:
        if name not in FIGURES and f"{name}_ns" not in FIGURES and name != _GOODPUT:
            known = ", ".join(figure.removesuffix("_ns") for figure in FIGURES)
            raise InputError(path, "objective", f"{name!r} is unknown; known are {known}, goodput")
        if name == _GOODPUT and limits is None:
            raise InputError(path, "slo", "is missing, and goodput is the share within it")
    settings: dict[str, Sides] = {}
    for number, point in enumerate(document["point"], start=1):
        _add_point(settings, path, f"point {number}", point, registry, store)
    return Question(path, limits, objectives, settings)


def _document(path: Path) -> dict[str, Any]:
    document = read_toml(path, fix="give a decision in TOML")
    for key in document:
        if key not in _KEYS:
            raise InputError(path, key, f"is unknown; known are {', '.join(sorted(_KEYS))}")
    if not isinstance(document.get("point"), list) or not document["point"]:
        raise InputError(path, "point", "expected tables [[point]]")
    return document


def _add_point(
    settings: dict[str, Sides],
    path: Path,
    where: str,
    point: Any,
    registry: Registry,
    store: Path,
) -> None:
    from pytest_gpusim.runs.importers import load_real_run

    if not isinstance(point, dict) or set(point) != _POINT_KEYS:
        raise InputError(path, where, f"expected {', '.join(sorted(_POINT_KEYS))}")
    load = point["load"]
    if not isinstance(load, int | float) or isinstance(load, bool) or not load > 0:
        raise InputError(path, f"{where}, load", f"expected a number above 0, found {load!r}")
    sides = settings.setdefault(str(point["setting"]), Sides())
    if load in sides.real:
        raise InputError(path, where, f"{point['setting']} at load {load:g} stands twice")
    for key, side in (("real", sides.real), ("simulated", sides.simulated)):
        names = point[key] if isinstance(point[key], list) else [point[key]]
        if not names:
            raise InputError(path, f"{where}, {key}", "names no run")
        runs = [load_real_run(path.parent / str(n), registry, store=store) for n in names]
        side[float(load)] = [_measured(run) for run in runs]


def _measured(run: Any) -> Measured:
    from pytest_gpusim.compare.measure import measure_run

    return Measured(measure_run(run), figures_of(run))


def _by_capacity(name: str, sides: Sides, limits: Limits) -> Setting:
    notes: list[str] = []
    values: dict[str, tuple[float, ...]] = {}
    for side, runs in (("real", sides.real), ("simulated", sides.simulated)):
        repeats = min(len(each) for each in runs.values())
        found = [
            _capacity({load: limits.margin(each[k].metrics) for load, each in runs.items()})
            for k in range(repeats)
        ]
        values[side] = tuple(value for value, _ in found)
        notes += [f"{side} {bound}" for bound in dict.fromkeys(b for _, b in found) if bound]
    return Setting(name, values["real"], values["simulated"], tuple(notes))


def _capacity(margins: Mapping[float, float]) -> tuple[float, str]:
    """The load at which a margin becomes less than nothing, and whether that is but a bound.

    Between two measured loads the margin is taken as linear in the logarithm of the load.
    """
    loads = sorted(margins)
    for below, above in zip([None, *loads], loads, strict=False):
        if margins[above] >= 0:
            continue
        if below is None:
            return above, "is at most the lowest load"
        part = margins[below] / (margins[below] - margins[above])
        return math.exp(math.log(below) + part * math.log(above / below)), ""
    return loads[-1], "is at least the highest load"
