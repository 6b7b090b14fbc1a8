"""All points of a table: simulated or refused, with errors and their summary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_gpusim.compare.checks.units import UNIT_FACTOR
from pytest_gpusim.errors import InputError, UsageError
from pytest_gpusim.points.clients import CLIENTS, client_of
from pytest_gpusim.points.engine_time import Kernels, fit_without
from pytest_gpusim.points.rows import Point, read_points
from pytest_gpusim.points.second_opinion import estimate
from pytest_gpusim.points.simulation import REFERENCE, PointSimulator
from pytest_gpusim.progress import counted

if TYPE_CHECKING:
    from pytest_gpusim.registry import Registry

SCHEMA_VERSION = 1
_SAME = 2e-6
"""Share by which a measured time differs from a simulated one, which this report has to 0.1 ns."""
GROUP = ("vllm_version", "model", "hardware", "precision", "tensor_parallel")
_ERRORS = ("ttft_error", "tpot_error", "kernels_tpot_error", "estimate_tpot_error")


def judge_points(
    path: Path,
    registry: Registry,
    *,
    simulator: str = REFERENCE,
    engine_time: bool = True,
) -> dict[str, Any]:
    """Simulate every point of a table and hold it against what was measured.

    Args:
        path: The table.
        registry: Models, hardware and simulators.
        simulator: A registered name.
        engine_time: Whether engine time is added, fitted with a point's configuration left out.

    Raises:
        InputError: The table is not one.
    """
    points = read_points(path)
    known: dict[int, Kernels] = {}
    refused: dict[int, str] = {}
    distrusted: list[str] = []
    rows = []
    with PointSimulator(registry) as reference, PointSimulator(registry, simulator) as chosen:
        for index, point in enumerate(counted(points, "simulate kernels", len(points), "points")):
            try:
                served = reference.served(point)
                found = reference.simulate(point)
            except (UsageError, InputError) as error:
                refused[index] = str(error)
                continue
            known[index] = Kernels(point, served.shape, found)
            distrusted += reference.distrusted(point)
        again = counted(points, "simulate with engine time", len(points), "points")
        for index, point in enumerate(again):
            if index in refused:
                rows.append({**point.row, "refused": refused[index]})
                continue
            fit = fit_without(point, list(known.values())) if engine_time else None
            row = _row(point, known[index], fit, chosen, simulator)
            wrong = no_measurement(point, row)
            rows.append({**point.row, "refused": wrong} if wrong else row)
    return {
        "schema_version": SCHEMA_VERSION,
        "simulator": simulator,
        "clients": [
            {"name": client.name, "statistic": client.statistic, "source": client.source}
            for client in CLIENTS
            if any(row.get("client") == client.name for row in rows)
        ],
        "distrusted": _distrusted(distrusted),
        "points": rows,
        "summary": _summary(rows),
    }


def no_measurement(point: Point, row: Mapping[str, Any]) -> str | None:
    """Why a row's times are none that were measured; None where they may be."""
    pairs = [(row["sim_ttft_ms"], point.ttft_ms), (row["sim_tpot_ms"], point.tpot_ms)]
    if any(max(sim / measured, measured / sim) >= UNIT_FACTOR for sim, measured in pairs if sim):
        return f"its times are more than {UNIT_FACTOR:.0f} times off: are they in another unit?"
    if all(abs(sim / measured - 1) < _SAME for sim, measured in pairs):
        return "its times are those that are simulated: nothing is measured"
    return None


def _distrusted(texts: Sequence[str]) -> list[dict[str, Any]]:
    """Tables that contradict themselves, and how many points are simulated from each."""
    return [{"table": text, "points": count} for text, count in Counter(texts).items()]


def _row(
    point: Point, kernels: Kernels, fit: Any, chosen: PointSimulator, simulator: str
) -> dict[str, Any]:
    found = kernels.simulated
    if fit is not None:
        found = chosen.simulate(point, fit.of(kernels))
    elif simulator != REFERENCE:
        found = chosen.simulate(point)
    row: dict[str, Any] = {
        **point.row,
        "client": client_of(point).name,
        "sim_ttft_ms": round(found.ttft_ms, 4),
        "sim_tpot_ms": round(found.tpot_ms, 4),
        "ttft_error": _error(found.ttft_ms, point.ttft_ms),
        "tpot_error": _error(found.tpot_ms, point.tpot_ms),
        "kernels_tpot_error": _error(kernels.simulated.tpot_ms, point.tpot_ms),
        "engine_time": None,
        "estimate_ttft_error": None,
        "estimate_tpot_error": None,
    }
    if fit is not None:
        row["engine_time"] = {
            "per_layer_ns": round(fit.per_layer_ns),
            "per_sequence_ns": round(fit.per_sequence_ns),
            "configurations": fit.configurations,
            "per_expert_gb_ns": round(fit.per_expert_gb_ns),
            "expert_configurations": fit.expert_configurations,
        }
    other = estimate(point, chosen.served(point))
    if other is not None:
        row["estimate_ttft_error"] = _error(other[0], point.ttft_ms)
        row["estimate_tpot_error"] = _error(other[1], point.tpot_ms)
    return row


def _error(simulated: float, measured: float) -> float:
    return round(simulated / measured - 1, 4)


def _summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    simulated = [row for row in rows if "refused" not in row]
    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    by_client: dict[str, list[Mapping[str, Any]]] = {}
    by_release: dict[str, list[Mapping[str, Any]]] = {}
    for row in simulated:
        groups.setdefault(tuple(row[key] for key in GROUP), []).append(row)
        by_client.setdefault(row["client"], []).append(row)
        by_release.setdefault(row["vllm_version"] or "not stated", []).append(row)
    reasons: dict[str, int] = {}
    for row in rows:
        if "refused" in row:
            reasons[row["refused"]] = reasons.get(row["refused"], 0) + 1
    return {
        "points": len(rows),
        "simulated": len(simulated),
        "refused": [{"reason": reason, "points": count} for reason, count in reasons.items()],
        "by_configuration": [
            {**dict(zip(GROUP, key, strict=True)), **_means(group)} for key, group in groups.items()
        ],
        "by_client": [{"client": key, **_means(group)} for key, group in by_client.items()],
        "by_release": [{"vllm_version": key, **_means(group)} for key, group in by_release.items()],
    }


def _means(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Number of rows; of each error the mean of its size, and the mean with its sign."""
    found: dict[str, Any] = {"points": len(rows)}
    for name in _ERRORS:
        values = [row[name] for row in rows if row[name] is not None]
        sizes = [abs(value) for value in values]
        found[name] = round(sum(sizes) / len(sizes), 4) if sizes else None
        found[f"{name}_signed"] = round(sum(values) / len(values), 4) if values else None
    return found
