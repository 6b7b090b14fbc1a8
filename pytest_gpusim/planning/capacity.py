"""The highest load at which stated limits hold, searched by simulation.

A load is a request rate or a number of clients (see `search`). Common random numbers: a seed's
workload has the same lengths and, scaled by the rate, the same gaps at every load, so that
differences between loads are not those of chance. Each seed has a capacity of its own, found by
bisection; the interval is Student's over the logarithms of those, and says what the arrivals'
chance makes of it, nothing of the simulator's error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

from pytest_gpusim.errors import EngineError
from pytest_gpusim.json_documents import SCHEMA_VERSION
from pytest_gpusim.planning.binding import WORDS, Binding, what_binds
from pytest_gpusim.planning.decision import CONFIDENCE, Bound, student
from pytest_gpusim.planning.figures import figures_of
from pytest_gpusim.planning.point import Point
from pytest_gpusim.planning.search import Axis
from pytest_gpusim.planning.slo import Limits
from pytest_gpusim.planning.sweep import Execute
from pytest_gpusim.printing import table_lines
from pytest_gpusim.progress import ticked

MakePoint = Callable[[float, int], Point]
"""The point of a load and a seed."""

DOCUMENT, CHART, PAGE = "capacity.json", "capacity.svg", "capacity.html"
_SHOWN = ("ttft_p50_ns", "ttft_p90_ns", "tpot_p50_ns", "tpot_p90_ns", "e2e_p50_ns", "e2e_p90_ns")


@dataclass(frozen=True)
class Probe:
    """One simulation at a load.

    Attributes:
        load: Requests per second that arrive, or clients.
        seed: Of the workload.
        broken: Names of the limits that do not hold.
        goodput: The share of requests within all limits.
        figures: See `figures.FIGURES`.
        binding: What the engine ran into.
    """

    load: float
    seed: int
    broken: tuple[str, ...]
    goodput: float
    figures: Mapping[str, float | int | None]
    binding: Binding


@dataclass(frozen=True)
class Load:
    """A point of the curve: medians over the seeds."""

    at: float
    goodput: float
    figures: Mapping[str, float | None]

    @property
    def power(self) -> float:
        """Throughput over mean E2E latency, which is largest at the knee (Kleinrock 1979)."""
        served, latency = self.figures["requests_per_s"], self.figures["e2e_mean_ns"]
        return served / latency if served and latency else 0.0

    def cells(self) -> Iterator[str]:
        """Throughput, goodput and latencies in ms, as a table has them."""
        yield f"{self.figures['requests_per_s'] or 0.0:.4g}"
        yield f"{self.goodput:.1%}"
        for name in _SHOWN:
            time = self.figures.get(name)
            yield "-" if time is None else f"{time / 1e6:.1f}"

    def to_json(self, name: str) -> dict[str, Any]:
        """As JSON values; the load by its name."""
        return {name: self.at, "goodput": self.goodput, **self.figures}


@dataclass(frozen=True)
class Capacity:
    """What a search found.

    Attributes:
        limits: What had to hold.
        axis: What a load is.
        by_seed: The capacity of each seed; 0 where the limits hold at no load, infinite where they
            hold with all requests at once.
        value: Their geometric mean, or 0, or infinite.
        interval: Of the mean, at 90%; None for one seed, or where a seed's is 0 or infinite.
        curve: Latency and goodput against load.
        knee: The load of the curve's greatest power; at an end of the curve but a bound.
        first_broken: The limits that break just above the capacity, the most frequent first.
        binding: What the engine runs into there.
    """

    limits: Limits
    axis: Axis
    by_seed: Mapping[int, float]
    value: float
    interval: tuple[float, float] | None
    curve: tuple[Load, ...]
    knee: float | None
    first_broken: tuple[str, ...]
    binding: Binding | None

    def to_json(self) -> dict[str, Any]:
        """The document of ``capacity.json``; infinite is null, with ``unbounded``."""
        return {
            "schema_version": SCHEMA_VERSION,
            "limits": str(self.limits),
            "unit": self.axis.unit,
            "capacity": _finite(self.value),
            "unbounded": math.isinf(self.value),
            "interval": None if self.interval is None else list(self.interval),
            "confidence": CONFIDENCE,
            "by_seed": {str(seed): _finite(load) for seed, load in self.by_seed.items()},
            "knee": self.knee,
            "knee_bound": self.knee_bound or None,
            "first_broken": list(self.first_broken),
            "binding": None if self.binding is None else self.binding.to_json(),
            "curve": [load.to_json(self.axis.name) for load in self.curve],
        }

    @property
    def knee_bound(self) -> Bound:
        """Whether the knee lies at an end of the curve, beyond which there may be a better one."""
        loads = [load.at for load in self.curve]
        if self.knee is None or self.knee not in (loads[0], loads[-1]):
            return ""
        if self.knee == loads[-1]:
            return "at least"
        return "at most" if self.knee > self.axis.least else ""

    def lines(self, width: int | None = None) -> list[str]:
        """The same for people, the curve within so many columns."""
        found = [f"limits: {self.limits}"]
        alike = sum(load == self.value for load in self.by_seed.values())
        some = f" with {alike} of {len(self.by_seed)} seeds" if alike < len(self.by_seed) else ""
        if math.isinf(self.value):
            return [*found, f"capacity: unbounded{some}, {self.axis.beyond()}"]
        if not self.value:
            broken = ", ".join(self.first_broken)
            return [*found, f"capacity: none{some}, {broken} does not hold at any load"]
        interval, unit = "", self.axis.unit
        if self.interval is not None:
            low, high = self.interval
            interval = f" ({low:.4g} to {high:.4g} at {CONFIDENCE:.0%}, {len(self.by_seed)} seeds)"
        found.append(f"capacity: {self.value:.4g} {unit}{interval}")
        if self.first_broken:
            found.append(f"above it breaks: {', '.join(self.first_broken)}")
        if self.binding is not None and self.binding.binds:
            found.append(f"what binds there: {WORDS[self.binding.binds]}")
        if self.knee is not None:
            knee = f"{self.knee_bound} {self.knee:.4g}".strip()
            found.append(f"knee: {knee} {unit} (greatest throughput over latency)")
        names = (name.removesuffix("_ns") for name in _SHOWN)
        rows = [[f"{load.at:.4g}", *load.cells()] for load in self.curve]
        header = (self.axis.name, "served/s", "goodput", *names)
        found += table_lines(header, rows, width, texts=(), indent=0)
        return [*found, "latencies in ms, medians over the seeds"]


class Simulations:
    """Probes by load and seed, each simulated once; what lies on disk is not simulated again."""

    def __init__(
        self,
        make: MakePoint,
        limits: Limits,
        axis: Axis,
        seeds: Sequence[int],
        execute: Execute,
        runs: Path,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.axis, self.limits, self.seeds = axis, limits, tuple(seeds)
        self._make, self._say = make, say
        self._execute, self._runs = execute, runs
        self._known: dict[tuple[float, int], Probe] = {}

    def probe(self, wanted: Mapping[int, float]) -> dict[int, Probe]:
        """A probe for each seed at its load.

        Raises:
            EngineError: A simulation failed; there is no capacity without it.
            InputError: What lies at the place of one is of another.
            UsageError: A limit is of a metric that these requests do not have.
        """
        missing = [(r, s) for s, r in wanted.items() if (r, s) not in self._known]
        self._runs.mkdir(parents=True, exist_ok=True)  # first: another search may begin here, too
        points = {place: self._make(*place) for place in missing}
        todo = [point for point in points.values() if not (self._runs / point.key).is_dir()]
        if todo:
            loads = sorted({load for load, _ in missing if load < self.axis.everything})
            unit = self.axis.unit
            where = f"{loads[0]:.4g} to {loads[-1]:.4g} {unit}" if loads else "all at once"
            self._say(f"{len(todo)} simulations: {where}")
        distinct = list({point.key: point for point in todo}.values())
        outcomes = self._execute(distinct, self._runs)
        for outcome in ticked(outcomes, "simulate", len(distinct), "simulations"):
            if outcome.reason:
                raise EngineError(f"a simulation of the search failed: {outcome.reason}")
        for place, point in points.items():
            point.require_own(self._runs / point.key)
            self._known[place] = self._read(place, self._runs / point.key)
        return {seed: self._known[load, seed] for seed, load in wanted.items()}

    def at(self, load: float) -> dict[int, Probe]:
        """A probe for each seed at one load."""
        return self.probe(dict.fromkeys(self.seeds, load))

    def _read(self, place: tuple[float, int], directory: Path) -> Probe:
        from pytest_gpusim.compare.measure import measure_run
        from pytest_gpusim.runs import read_run

        run = read_run(directory)
        measured = measure_run(run)
        self.limits.require_known(measured)
        return Probe(
            *place,
            tuple(self.limits.broken(measured)),
            self.limits.goodput(measured),
            figures_of(run, measured),
            what_binds(run),
        )


def find_capacity(simulations: Simulations) -> Capacity:
    """Search the capacity along the axis of the simulations, at their limits.

    Raises:
        EngineError: A simulation failed.
    """
    axis = simulations.axis
    saturated = simulations.at(axis.everything)
    bounds = {
        seed: axis.first_bounds(_served(probe), holds=not probe.broken)
        for seed, probe in saturated.items()
    }
    # Of each seed the lowest load that broke a limit.
    breaking = {seed: probe for seed, probe in saturated.items() if probe.broken}
    while wanted := {s: at for s, each in bounds.items() if (at := axis.next(each)) is not None}:
        for seed, probe in simulations.probe(wanted).items():
            bounds[seed].learn(probe.load, holds=not probe.broken)
            if probe.broken:
                breaking[seed] = probe
    by_seed = {seed: axis.capacity(bound) for seed, bound in bounds.items()}
    value, interval = _mean(list(by_seed.values()))
    broken = list(breaking.values())
    names = [name for probe in broken for name in probe.broken]
    first = tuple(sorted(dict.fromkeys(names), key=names.count, reverse=True))
    binding = broken[0].binding if broken else None
    curve: tuple[Load, ...] = ()
    knee = None
    if 0 < value < math.inf:
        curve = tuple(_load(simulations.at(load)) for load in axis.curve(value))
        knee = max(curve, key=lambda load: load.power).at
    limits = simulations.limits
    return Capacity(limits, axis, by_seed, value, interval, curve, knee, first, binding)


def _served(probe: Probe) -> float:
    served = probe.figures["requests_per_s"]
    return float(served) if served else 1.0


def _mean(loads: Sequence[float]) -> tuple[float, tuple[float, float] | None]:
    if not all(0 < load < math.inf for load in loads):
        return (0.0 if min(loads) == 0 else math.inf), None
    logs = [math.log(load) for load in loads]
    interval = student(logs)
    if interval is None:
        return loads[0], None
    low, high = interval
    return math.exp(fmean(logs)), (math.exp(low), math.exp(high))


def _load(probes: Mapping[int, Probe]) -> Load:
    several = list(probes.values())
    figures: dict[str, float | None] = {}
    for name in ("requests_per_s", "output_tokens_per_s", "e2e_mean_ns", *_SHOWN):
        known = [float(v) for probe in several if (v := probe.figures[name]) is not None]
        figures[name] = median(known) if known else None
    return Load(several[0].load, median(probe.goodput for probe in several), figures)


def _finite(load: float) -> float | None:
    return load if math.isfinite(load) else None
