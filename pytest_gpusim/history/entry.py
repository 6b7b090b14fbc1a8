"""One line of a history: one figure of one comparison."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

from pytest_gpusim.compare.document import ComparisonDocument
from pytest_gpusim.compare.metrics import HEADLINES
from pytest_gpusim.errors import InputError, shortly
from pytest_gpusim.json_documents import SCHEMA_VERSION

WATCHED = tuple(f"{metric}_p50" for metric in HEADLINES)
"""Figures that are looked at where nothing was judged."""
_OPTIONAL = (
    *("commit", "device", "simulator", "workload_digest", "profiling_digest", "outcome", "model"),
)
_TEXTS = ("case", "test", "session", "time", "engine", "figure", "verdict", *_OPTIONAL)
_LARGEST = 100.0
"""Of a logarithm of times, of which there is no greater one."""

_OF_REPEATS = {"roles", "real_runs_agree"}
"""Checks without which the spread between real runs says nothing."""


@dataclass(frozen=True)
class Entry:
    """One figure of one comparison.

    Attributes:
        case: What was compared, by name.
        test: The test's id; empty where none made it.
        session: The session that appended it.
        time: When, ISO 8601, UTC.
        commit: The commit of the working directory; None outside a repository.
        device: ``device_name`` of the real runs.
        engine: Version and mode of the real engine, such as ``0.32.0 eager``.
        simulator: What simulated.
        workload_digest: Of the workload; None where nobody recorded it.
        profiling_digest: Of the profile; likewise.
        figure: ``ttft_p50``.
        outcome: What a judgement said; None where the figure was not judged.
        verdict: Of the comparison, with what was accepted.
        num_runs: Real runs, n.
        mean: Mean of ln(figure) over them, m.
        run_sd: Its standard deviation, s, without a history; None for one run, and for runs that
            are no repeats of one measurement.
        offset: ln(simulated) - m, d.
        low: Lower end of the interval of d; None where it is not known.
        high: Upper end.
        run_digests: Of the real runs: a recording that is replayed has the same.
        model: What was served; None where nobody recorded it, as in lines of old.
    """

    case: str
    test: str
    session: str
    time: str
    commit: str | None
    device: str | None
    engine: str
    simulator: str | None
    workload_digest: str | None
    profiling_digest: str | None
    figure: str
    outcome: str | None
    verdict: str
    num_runs: int
    mean: float
    run_sd: float | None
    offset: float
    low: float | None
    high: float | None
    run_digests: tuple[str, ...]
    model: str | None = None

    @property
    def error(self) -> float:
        """(sim - real) / real."""
        return math.expm1(self.offset)

    @property
    def interval(self) -> tuple[float, float] | None:
        """Of the error."""
        if self.low is None or self.high is None:
            return None
        return math.expm1(self.low), math.expm1(self.high)

    @property
    def series(self) -> tuple[str, str, str | None, str | None]:
        """What is one line of a chart: case, figure, device and simulator."""
        return self.case, self.figure, self.device, self.simulator

    @property
    def is_watched(self) -> bool:
        """Whether it can be an alert: it was judged, or is a headline's median."""
        return self.outcome is not None or self.figure in WATCHED

    @property
    def basis(self) -> tuple[str | None, str | None]:
        """What a comparison over time starts anew with: workload and profile."""
        return self.workload_digest, self.profiling_digest

    def to_json(self) -> dict[str, Any]:
        """The line."""
        return {
            "schema_version": SCHEMA_VERSION,
            **asdict(self),
            "run_digests": list(self.run_digests),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any], path: Path, where: str) -> Entry:
        """Read a line.

        Raises:
            InputError: A field is missing or of another kind.
        """
        values = {each.name: document.get(each.name, each.default) for each in fields(cls)}
        missing = [name for name, value in values.items() if value is MISSING]
        if missing:
            raise InputError(path, f"{where}, {missing[0]}", "is missing in this history")
        for name in _TEXTS:
            may_lack = name in _OPTIONAL and values[name] is None
            if not may_lack and not isinstance(values[name], str):
                said = f"expected a text: {shortly(values[name])}"
                raise InputError(path, f"{where}, {name}", said)
        for name in ("mean", "offset"):
            _number(values[name], path, f"{where}, {name}")
        for name in ("run_sd", "low", "high"):
            if values[name] is not None:
                _number(values[name], path, f"{where}, {name}")
        digests = values["run_digests"]
        if not isinstance(digests, list) or not all(isinstance(one, str) for one in digests):
            raise InputError(path, f"{where}, run_digests", "expected a list of digests")
        if type(values["num_runs"]) is not int or values["num_runs"] < 1:
            said = f"expected a whole number from 1 on: {shortly(values['num_runs'])}"
            raise InputError(path, f"{where}, num_runs", said)
        return cls(**{**values, "run_digests": tuple(digests)})


def _number(value: Any, path: Path, where: str) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not -_LARGEST <= value <= _LARGEST:
        raise InputError(path, where, f"expected a number: {shortly(value)}")


def entries_of(document: ComparisonDocument, *, session: str, test: str = "") -> list[Entry]:
    """The lines of a comparison, one for each figure that has a ratio."""
    meta, comparison = document.meta, document.comparison
    judged = {item["name"]: item["outcome"] for item in comparison["judgements"]}
    accepted = [one["name"] for one in comparison["checks"] if one["status"] == "accepted"]
    mode = meta.get("engine_mode") or "unknown mode"
    failed = {one["name"] for one in comparison["checks"] if one["status"] == "fail"}
    repeats = not failed & _OF_REPEATS
    return [
        Entry(
            case=meta.get("case") or document.title,
            test=test,
            session=session,
            time=meta["written_at"],
            commit=meta.get("git_commit"),
            device=meta.get("device_name"),
            engine=f"{meta.get('engine_version') or 'unknown version'} {mode}",
            simulator=meta.get("simulator"),
            workload_digest=meta.get("workload_digest"),
            profiling_digest=meta.get("profiling_digest"),
            figure=name,
            outcome=judged.get(name),
            verdict=comparison["verdict"]
            + (f" ({', '.join(accepted)} accepted)" if accepted else ""),
            num_runs=found["num_runs"],
            mean=found["mean_log"],
            run_sd=found["run_sd"] if repeats else None,
            offset=found["offset"],
            low=found["low"],
            high=found["high"],
            run_digests=tuple(meta["run_digests"]),
            model=meta.get("model"),
        )
        for name, found in meta["estimates"].items()
    ]
