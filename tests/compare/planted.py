"""The two sides of a comparison that is right until something is planted in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from benchmarks.verdicts.synthetic import (
    ENGINE,
    REAL,
    SIMULATED,
    Load,
    Times,
    load,
    make_run,
    noisy,
    serve,
)
from pytest_gpusim.compare import Comparison, compare_runs
from pytest_gpusim.runs import Run

Runs = tuple[list[Run], Any]
Plant = Callable[[list[Run], Run], Runs]
WORK = load(60, seed=3, utilisation=0.4)
RIGHT = serve(WORK)


@dataclass
class Planted:
    """The two sides, right until something is planted."""

    work: Load = WORK
    real: list[Times] = field(default_factory=list)
    sim: Times | None = None
    real_meta: Mapping[str, Any] = field(default_factory=lambda: dict(REAL))
    sim_meta: Mapping[str, Any] = field(default_factory=lambda: dict(SIMULATED))
    real_rows: Mapping[str, Any] = field(default_factory=dict)
    tolerances: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        rng = np.random.default_rng(11)
        if not self.real:
            self.real = [
                noisy(self.work, rng, sigma_run=0.004, sigma_request=0.02) for _ in range(3)
            ]
        if self.sim is None:
            self.sim = serve(self.work)

    def runs(self) -> tuple[list[Run], Run]:
        assert self.sim is not None
        real = [
            make_run(self.work, times, self.real_meta, name=f"real-{place}", **self.real_rows)
            for place, times in enumerate(self.real)
        ]
        return real, make_run(self.work, self.sim, self.sim_meta, name="sim")

    def comparison(self) -> Comparison:
        return compare_runs(*self.runs()).judged(self.tolerances)


def without(meta: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in meta.items() if key not in keys}


def changed(meta: Mapping[str, Any], **values: Any) -> dict[str, Any]:
    return {**meta, **values}


def engine_without(*keys: str) -> dict[str, Any]:
    return changed(REAL, engine=without(ENGINE, *keys))


def status(comparison: Comparison, name: str) -> str:
    return next(check.status for check in comparison.checks if check.name == name)


def slowed(times: Times, factor: Any, work: Load = WORK) -> Times:
    """Latencies times a factor, of all or of each request."""
    return Times(
        work.arrival + (times.scheduled - work.arrival) * factor,
        work.arrival + (times.first - work.arrival) * factor,
        times.per_token * factor,
    )


def of_rows(run: Run, name: str = "", **columns: Any) -> Run:
    """The run with other columns of its requests, under another name where one is given."""
    return of_meta(replace(run, requests=run.requests.assign(**columns)), run_id=name or run.run_id)


def of_meta(run: Run, **values: Any) -> Run:
    return replace(run, meta={**run.meta, **values})


def profile_of(**values: Any) -> Plant:
    """The simulated side states another profile."""
    profile = {**SIMULATED["profile"], **values}
    return lambda real, sim: (real, of_meta(sim, profile=profile))
