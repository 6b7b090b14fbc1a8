"""What is asked of the runs of several settings at several loads, and what follows from them."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_gpusim.errors import InputError
from pytest_gpusim.planning.bearing import Bearing
from pytest_gpusim.planning.decision import Bound, Decision, Setting
from pytest_gpusim.planning.evidence import Evidence
from pytest_gpusim.planning.figures import FIGURES
from pytest_gpusim.planning.slo import Limits

if TYPE_CHECKING:
    from pytest_gpusim.compare.measure import RunMetrics

GOODPUT, GOOD_REQUESTS = "goodput", "good_requests_per_s"
_HIGHER = ("requests_per_s", "output_tokens_per_s", GOODPUT, GOOD_REQUESTS)


@dataclass(frozen=True)
class Measured:
    """One run.

    Attributes:
        metrics: Its metrics.
        figures: See `FIGURES`.
        source: Where it lies and what it was made from, by words for a reader.
    """

    metrics: RunMetrics
    figures: Mapping[str, float | int | None]
    source: Mapping[str, str]


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
        evidence: What the checks found of each point.
    """

    path: Path
    limits: Limits | None
    objectives: tuple[str, ...]
    settings: Mapping[str, Sides]
    evidence: tuple[Evidence, ...]

    @property
    def loads(self) -> list[float]:
        """All loads, ascending."""
        return sorted({load for sides in self.settings.values() for load in sides.real})

    def decisions(self) -> list[Decision]:
        """One by capacity, where limits are stated and there is more than one load; and one for
        each objective at each load. Of a single setting, one for each objective between its loads.

        Raises:
            InputError: There is nothing to decide.
        """
        found = list(self._between_loads() if len(self.settings) == 1 else self._between_settings())
        if not found and not self.bearings:
            raise InputError(
                self.path, "objective", "nothing to decide by: give slo and several loads, or it"
            )
        return found

    @cached_property
    def capacities(self) -> tuple[Setting, ...]:
        """Each setting's load at which the limits break; empty without limits or at one load."""
        if self.limits is None or len(self.loads) < 2:
            return ()
        return tuple(_capacity_of(n, s, self.limits) for n, s in self.settings.items())

    @cached_property
    def bearings(self) -> tuple[Bearing, ...]:
        """Whether the limits hold at each point; empty without limits."""
        return () if self.limits is None else tuple(self._bearings(self.limits))

    def _bearings(self, limits: Limits) -> Iterator[Bearing]:
        for setting, sides in self.settings.items():
            for load in sorted(sides.real):
                real, simulated = (
                    tuple(limits.used(run.metrics) for run in side[load])
                    for side in (sides.real, sides.simulated)
                )
                doubts = self._doubts([setting], [load])
                least = max(limits.resolution(run.metrics) for run in sides.real[load])
                yield Bearing(setting, load, limits.most_used, real, simulated, doubts, least)

    def _between_settings(self) -> Iterator[Decision]:
        if self.capacities:
            notes = tuple(
                f"{name} was not measured at load {load:g}"
                for name, sides in self.settings.items()
                for load in self.loads
                if load not in sides.real
            ) + tuple(note for each in self.capacities for note in each.notes)
            objective = f"load within {self.limits}"
            doubts = self._doubts(self.settings, self.loads)
            yield Decision(objective, self.capacities, True, notes, doubts)
        for name in self.objectives:
            for load in self.loads:
                there = [key for key, sides in self.settings.items() if load in sides.real]
                absent = [key for key in self.settings if key not in there]
                if len(there) > 1:
                    yield Decision(
                        f"{name} at load {load:g}",
                        tuple(self._setting(key, key, load, name) for key in there),
                        name in _HIGHER,
                        tuple(f"{key} was not measured at this load" for key in absent),
                        self._doubts(there, [load]),
                    )

    def _between_loads(self) -> Iterator[Decision]:
        (only,) = self.settings
        loads = self.loads
        for name in self.objectives if len(loads) > 1 else ():
            yield Decision(
                f"{name} of {only}, by load",
                tuple(self._setting(f"load {load:g}", only, load, name) for load in loads),
                name in _HIGHER,
                doubts=self._doubts([only], loads),
            )

    def _setting(self, called: str, key: str, load: float, objective: str) -> Setting:
        sides = self.settings[key]
        real, simulated = (
            self._values(side[load], objective) for side in (sides.real, sides.simulated)
        )
        least = max(_of_one_request(run, objective) for run in sides.real[load])
        return Setting(called, real, simulated, resolution=least)

    def _values(self, runs: Sequence[Measured], name: str) -> tuple[float, ...]:
        if name in (GOODPUT, GOOD_REQUESTS):
            assert self.limits is not None
            shares = [self.limits.goodput(run.metrics) for run in runs]
            if name == GOODPUT:
                return tuple(shares)
            rates = [float(run.figures["requests_per_s"] or 0.0) for run in runs]
            return tuple(share * rate for share, rate in zip(shares, rates, strict=True))
        key = name if name in FIGURES else f"{name}_ns"
        values = [run.figures[key] for run in runs]
        if any(value is None for value in values):
            raise InputError(self.path, "objective", f"{name} is not known of every run")
        scale = 1e-6 if key.endswith("_ns") else 1.0
        return tuple(float(value) * scale for value in values if value is not None)

    def _doubts(self, settings: Collection[str], loads: Sequence[float]) -> tuple[str, ...]:
        return tuple(
            doubt
            for each in self.evidence
            if each.setting in settings and each.load in loads
            for doubt in each.doubts
        )


def _of_one_request(run: Measured, objective: str) -> float:
    """What a single request makes of an objective that counts the good ones."""
    if objective not in (GOODPUT, GOOD_REQUESTS):
        return 0.0
    scale = float(run.figures["requests_per_s"] or 0.0) if objective == GOOD_REQUESTS else 1.0
    return scale / max(len(run.metrics.requests), 1)


def is_objective(name: str) -> bool:
    """Whether settings can be chosen by this name."""
    return name in objective_names() or name in FIGURES


def objective_names() -> list[str]:
    """What settings can be chosen by; latencies are in ms."""
    return [*(figure.removesuffix("_ns") for figure in FIGURES), GOODPUT, GOOD_REQUESTS]


def _capacity_of(name: str, sides: Sides, limits: Limits) -> Setting:
    values: list[tuple[float, ...]] = []
    bounds: list[Bound] = []
    notes: list[str] = []
    least = 0.0
    for side, runs in (("real", sides.real), ("simulated", sides.simulated)):
        repeats = min(len(each) for each in runs.values())
        curves = [
            {load: limits.margin(each[k].metrics) for load, each in runs.items()}
            for k in range(repeats)
        ]
        found = [_capacity(curve) for curve in curves]
        values.append(tuple(value for value, _ in found))
        bounds.append(next((bound for _, bound in found if bound), ""))
        notes += [
            f"{name}, {side}: {note}" for note in sorted(set(map(_not_monotone, curves)) - {""})
        ]
        if side == "real":
            one = max(limits.resolution(run.metrics) for each in runs.values() for run in each)
            least = (
                max(_capacity(curve, one)[0] - _capacity(curve, -one)[0] for curve in curves) / 2
            )
    return Setting(name, values[0], values[1], bounds[0], bounds[1], least, tuple(notes))


def _not_monotone(margins: Mapping[float, float]) -> str:
    """Where limits hold above a load that breaks them; empty where they do not."""
    broken = min((load for load, margin in margins.items() if margin < 0), default=math.inf)
    again = [load for load, margin in margins.items() if load > broken and margin >= 0]
    if not again:
        return ""
    return f"the limits break at load {broken:g} and hold at {min(again):g}; taken is the lower one"


def _capacity(margins: Mapping[float, float], more: float = 0.0) -> tuple[float, Bound]:
    """The lowest load at which a margin, and so much more, becomes less than nothing, and whether
    that is but a bound.

    Between two measured loads the margin is taken as linear in the logarithm of the load.
    """
    loads = sorted(margins)
    margins = {load: margin + more for load, margin in margins.items()}
    for below, above in zip([None, *loads], loads, strict=False):
        if margins[above] >= 0:
            continue
        if below is None:
            return above, "at most"
        part = margins[below] / (margins[below] - margins[above])
        return math.exp(math.log(below) + part * math.log(above / below)), ""
    return loads[-1], "at least"
