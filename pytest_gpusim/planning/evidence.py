"""Are the runs of a decision what they are given for? The checks of a comparison, point by point.

Runs in the wrong role, of other requests or in other units make no decision: they are refused. What
else speaks against a point is kept, and makes its decisions inconclusive.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_gpusim.compare import compare_runs
from pytest_gpusim.compare.checks import CHECKS
from pytest_gpusim.compare.comparison import sides_of
from pytest_gpusim.errors import InputError
from pytest_gpusim.runs.identity import run_digest

if TYPE_CHECKING:
    from pytest_gpusim.compare import Comparison
    from pytest_gpusim.compare.checks import ComparisonCheck
    from pytest_gpusim.compare.measure import RunMetrics
    from pytest_gpusim.runs import Run

_SAME = "same_workload"
_REFUSED = ("roles", _SAME, "units")
_ORDER = ("skip", "pass", "accepted", "warn", "unknown", "fail")
# Of how large errors are; a choice may be right all the same.
_OF_ERRORS = "no_cancelling_errors"
_FAR_OFF = 2.0  # a load over the rate, from which on it is in another unit


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
        real: The metrics of each repeat, as a comparison takes them: what failed in one run is left
            out of all.
        simulated: Of each simulation, cut to the tokens that were really produced.
    """

    setting: str
    load: float
    checks: tuple[ComparisonCheck, ...]
    real: tuple[RunMetrics, ...] = field(repr=False)
    simulated: tuple[RunMetrics, ...] = field(repr=False)

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
    """The checks of one point's runs, and their metrics.

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
    compared: list[Comparison] = [
        compare_runs(runs.real, runs.simulated, accept=accept, stated=stated)
    ]
    if _other_requests(compared[0].checks) and len(runs.real) == len(runs.simulated) > 1:
        pairs = zip(runs.real, runs.simulated, strict=True)
        compared = [compare_runs([real], s, accept=accept, stated=stated) for real, s in pairs]
    checks = _worst([each.checks for each in compared])
    _refuse(path, where, checks, _REFUSED)
    sides = [each.sides for each in compared]
    return Evidence(
        *place,
        checks,
        tuple(metrics for side in sides for metrics in side.real_metrics),
        tuple(metrics for side in sides for metrics in side.sims_metrics),
    )


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
    _require_loads(path, {load: several[0].real[0] for load, several in by_load.items()})


class _Sent(NamedTuple):
    """How much load a run had, as far as it tells: its limit of requests at once, and the rate."""

    clients: int | None
    rate: float | None
    requests: int

    @classmethod
    def by(cls, run: Run) -> _Sent:
        rows = run.requests
        due = rows["due_time_ns"] if "due_time_ns" in rows.columns else None
        if due is None and run.is_open_loop:
            due = rows["arrival_time_ns"]
        times = [] if due is None else due.dropna().astype("float64").tolist()
        span = max(times) - min(times) if times else 0.0
        rate = (len(times) - 1) / span * 1e9 if span else None
        return cls(run.load.max_concurrency, rate, len(times))

    def __str__(self) -> str:
        clients = None if self.clients is None else f"{self.clients} clients"
        rate = None if self.rate is None else f"{self.rate:.4g} requests/s"
        return " at ".join(filter(None, (clients, rate)))

    def exceeds(self, other: _Sent) -> bool | None:
        """Whether there was more of it; None where that is not known."""
        pairs = [(self.clients, other.clients), (self.rate, other.rate)]
        more = [a > b for a, b in pairs if a is not None and b is not None]
        return any(more) if more else None

    def is_called(self, load: float) -> bool:
        """Whether it may be what a file calls this load: the clients, or about the rate."""
        if load == self.clients or (self.clients is None and self.rate is None):
            return True
        # The rate of few requests is one of chance.
        most = max(_FAR_OFF, math.exp(4 / math.sqrt(max(self.requests, 1))))
        return self.rate is not None and 1 / most < load / self.rate < most


def _require_loads(path: Path, by_load: Mapping[float, Run]) -> None:
    """Raise `InputError` where a higher load was none, or a load is in another unit."""
    before: tuple[float, _Sent] | None = None
    for load, run in sorted(by_load.items()) if len(by_load) > 1 else ():
        sent, where = _Sent.by(run), f"load {load:g}"
        if before is not None and sent.exceeds(before[1]) is False:
            problem = f"at load {before[0]:g} there were {before[1]}: a higher load must be one"
            raise InputError(path, where, f"{run.run_id} had {sent}, and {problem}")
        if not sent.is_called(load):
            problem = "a load is the number of clients, or requests per second"
            raise InputError(path, where, f"{run.run_id} had {sent}; {problem}")
        before = load, sent


def _refuse(
    path: Path, where: str, checks: Sequence[ComparisonCheck], names: Collection[str]
) -> None:
    for check in checks:
        if check.name in names and check.status == "fail":
            raise InputError(path, where, f"{check.name}: {check.detail}")
