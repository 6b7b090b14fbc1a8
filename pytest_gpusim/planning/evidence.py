"""Are the runs of a decision what they are given for? The checks of a comparison, point by point.

Runs in the wrong role, of other requests or in other units make no decision: they are refused. What
else speaks against a point is kept, and makes its decisions inconclusive.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_gpusim.compare import compare_runs
from pytest_gpusim.compare.checks import CHECKS
from pytest_gpusim.compare.comparison import sides_of
from pytest_gpusim.errors import InputError
from pytest_gpusim.runs.identity import run_digest

if TYPE_CHECKING:
    from pytest_gpusim.compare.checks import ComparisonCheck
    from pytest_gpusim.runs import Run

_SAME = "same_workload"
_REFUSED = ("roles", _SAME, "units")
_ORDER = ("skip", "pass", "accepted", "warn", "unknown", "fail")
# Of how large errors are; a choice may be right all the same.
_OF_ERRORS = "no_cancelling_errors"


class Runs(NamedTuple):
    """The runs of one setting at one load: repeats, and simulations."""

    real: Sequence[Run]
    simulated: Sequence[Run]


@dataclass(frozen=True)
class Evidence:
    """What the checks found of the runs of one setting at one load.

    Attributes:
        setting: Its name.
        load: Its load.
        checks: All checks.
    """

    setting: str
    load: float
    checks: tuple[ComparisonCheck, ...]

    @property
    def place(self) -> str:
        """Where that is, in words."""
        return place_of(self.setting, self.load)

    @property
    def against(self) -> tuple[ComparisonCheck, ...]:
        """Checks that failed, and needed ones that could not be judged."""
        return tuple(
            check
            for check in self.checks
            if check.name != _OF_ERRORS
            and (check.status == "fail" or (check.needed and check.status == "unknown"))
        )

    @property
    def doubts(self) -> tuple[str, ...]:
        """The same in words."""
        return tuple(
            f"{self.place}: {check.name} {'failed' if check.status == 'fail' else 'is unknown'}: "
            f"{check.detail}"
            for check in self.against
        )

    def to_json(self) -> dict[str, Any]:
        """As JSON values; checks that passed or do not apply are left out."""
        shown = [each.to_json() for each in self.checks if each.status not in ("pass", "skip")]
        return {"setting": self.setting, "load": self.load, "checks": shown}


def place_of(setting: str, load: float) -> str:
    """A point in words."""
    return f"{setting} at load {load:g}"


def examine(
    path: Path,
    where: str,
    place: tuple[str, float],
    runs: Runs,
    *,
    accept: Collection[str] = (),
    stated: Mapping[str, Any] | None = None,
) -> Evidence:
    """The checks of one point's runs.

    Args:
        path: The decision file.
        where: The point in it.
        place: Its setting and load.
        runs: Repeats of one measurement; the simulation, or the seeds of a stochastic one. Where
            repeats are of other requests, a simulation of each, in their order.
        accept: Checks that the user accepts.
        stated: What runs do not say themselves (see `compare.stating`).

    Raises:
        InputError: A run is not what it is given for, or they are of different requests.
    """
    checks = compare_runs(runs.real, runs.simulated, accept=accept, stated=stated).checks
    if _other_requests(checks) and len(runs.real) == len(runs.simulated) > 1:
        pairs = zip(runs.real, runs.simulated, strict=True)
        checks = _worst(
            [compare_runs([real], sim, accept=accept, stated=stated).checks for real, sim in pairs]
        )
    _refuse(path, where, checks, _REFUSED)
    return Evidence(*place, checks)


def _other_requests(checks: Sequence[ComparisonCheck]) -> bool:
    return any(check.name == _SAME and check.status == "fail" for check in checks)


def _worst(several: Sequence[Sequence[ComparisonCheck]]) -> tuple[ComparisonCheck, ...]:
    """Of each check what it found where it found most."""
    return tuple(
        max(found, key=lambda check: _ORDER.index(check.status))
        for found in zip(*several, strict=True)
    )


def require_one_load(path: Path, points: Mapping[tuple[str, float], Runs]) -> None:
    """Raise `InputError` unless all settings served the same requests at each load, no real run
    stands twice, and a higher load was one.

    Args:
        path: The decision file.
        points: Real and simulated runs by setting and load.
    """
    seen: dict[str, str] = {}
    by_load: dict[float, list[Runs]] = {}
    for (setting, load), runs in points.items():
        place = place_of(setting, load)
        for run in runs.real:
            digest = run_digest(run)
            if digest in seen:
                raise InputError(path, place, f"{run.run_id} is a run of {seen[digest]}, too")
            seen[digest] = place
        by_load.setdefault(load, []).append(runs)
    for load, several in by_load.items():
        if len(several) > 1:
            for repeat in range(min(len(runs.real) for runs in several)):
                sims = several[0].simulated
                sim = sims[repeat] if len(sims) == len(several[0].real) else sims[0]
                sides = sides_of([runs.real[repeat] for runs in several], sim)
                same = CHECKS[_SAME].run(sides, accepted=False)
                _refuse(path, f"load {load:g}", [same], (_SAME,))
    _require_order(path, {load: several[0].real[0] for load, several in by_load.items()})


def _require_order(path: Path, by_load: Mapping[float, Run]) -> None:
    before: dict[bool, tuple[float, float]] = {}
    for load in sorted(by_load):
        run = by_load[load]
        limit = run.load.max_concurrency
        found = float(limit) if limit is not None else _rate(run)
        kind = limit is not None
        if found is None:
            continue
        if kind in before and found <= before[kind][1]:
            unit = "clients" if kind else "requests/s"
            low, its = before[kind]
            raise InputError(
                path,
                f"load {load:g}",
                f"{run.run_id} had {found:.4g} {unit}, and at load {low:g} there were {its:.4g}: "
                "a higher load must be one",
            )
        before[kind] = (load, found)


def _rate(run: Run) -> float | None:
    arrivals = run.requests["arrival_time_ns"]
    span = float(arrivals.max() - arrivals.min())
    return (len(arrivals) - 1) / span * 1e9 if span and run.is_open_loop else None


def _refuse(
    path: Path, where: str, checks: Sequence[ComparisonCheck], names: Collection[str]
) -> None:
    for check in checks:
        if check.name in names and check.status == "fail":
            raise InputError(path, where, f"{check.name}: {check.detail}")
