"""Latency against load, real and simulated, over the comparisons of one deployment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pytest_gpusim.compare.document import ComparisonDocument
from pytest_gpusim.compare.format import LABELS, milliseconds
from pytest_gpusim.report.charts.canvas import BAND, REAL, SIM, unit

_PANELS = (("ttft", "p50"), ("ttft", "p90"), ("tpot", "p50"), ("e2e", "p50"))


@dataclass(frozen=True)
class _Point:
    load: float
    real_ns: float
    sim_ns: float


def load_charts(documents: Sequence[ComparisonDocument]) -> list[dict[str, Any]]:
    """Per deployment that was compared at two loads or more: a title and its inline charts."""
    groups: dict[tuple[str, ...], list[ComparisonDocument]] = {}
    for document in documents:
        groups.setdefault(_deployment(document), []).append(document)
    found = []
    for number, (key, members) in enumerate(groups.items(), start=1):
        axis = key[-1]
        charts = [
            chart
            for metric, statistic in _PANELS
            if (chart := _chart(members, metric, statistic, axis, f"load{number}-")) is not None
        ]
        if charts:
            found.append(
                {"title": f"{key[0]} on {key[1]}, simulated by {key[2]}", "charts": charts}
            )
    return found


def _deployment(document: ComparisonDocument) -> tuple[str, ...]:
    meta = document.meta
    device = meta.get("device_name") or meta.get("hardware")
    load = meta.get("load") or {}
    axis = "clients at once" if load.get("max_concurrency") else "requests a second"
    names = (meta.get("model"), device, meta.get("simulator"))
    return (*(str(name or "unknown") for name in names), axis)


def _chart(
    documents: Sequence[ComparisonDocument], metric: str, statistic: str, axis: str, prefix: str
) -> dict[str, str] | None:
    points = sorted(_points(documents, metric, statistic), key=lambda point: point.load)
    if len({point.load for point in points}) < 2:
        return None
    import numpy as np

    label = f"{LABELS[metric]} {statistic}"
    real = np.array([point.real_ns for point in points])
    sim = np.array([point.sim_ns for point in points])
    loads = [point.load for point in points]
    knees = {"real": knee(loads, list(real)), "simulated": knee(loads, list(sim))}
    said = f"{label} against load: " + "; ".join(
        f"at {point.load:.3g} {axis} real {milliseconds(point.real_ns)}, simulated "
        f"{milliseconds(point.sim_ns)}"
        for point in points
    )
    known = [f"{side} {at:.3g}" for side, at in knees.items() if at is not None]
    said += f"; knee: {', '.join(known)}" if known else ""
    from pytest_gpusim.report.inline import drawn

    def draw(axes: Any) -> None:
        name, scale = unit(real, sim)
        axes.plot(loads, real / scale, "o-", color=REAL, lw=1.4, ms=4, label="real")
        axes.plot(loads, sim / scale, "s--", color=SIM, lw=1.4, ms=4, label="simulated")
        for side, colour in (("real", REAL), ("simulated", SIM)):
            at = knees[side]
            if at is not None:
                axes.axvline(at, color=colour if side == "simulated" else BAND, lw=1, ls=":")
        axes.set_xlabel(axis)
        axes.set_ylabel(name)
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.legend(loc="upper left", fontsize=8)

    svg = drawn(f"{prefix}{metric}-{statistic}", said, draw)
    caption = "Each point is a comparison; dotted: the knee, where latency leaves its base."
    return {"title": label, "caption": caption, "svg": svg}


def _points(documents: Sequence[ComparisonDocument], metric: str, statistic: str) -> list[_Point]:
    found = []
    for document in documents:
        load = document.meta.get("load") or {}
        at = load.get("max_concurrency") or load.get("requests_per_second")
        table = document.comparison["metrics"][metric]
        if at and table is not None:
            figure = table[statistic]
            found.append(_Point(float(at), figure["real_ns"], figure["sim_ns"]))
    return found


def knee(loads: Sequence[float], latencies: Sequence[float]) -> float | None:
    """The load at which a rising latency bends most; None for fewer than four loads, or no bend.

    The point farthest below the line from the first to the last one, both axes scaled to 1
    (Satopaa et al., "Finding a Kneedle in a Haystack", 2011).
    """
    if len(loads) < 4 or latencies[-1] <= latencies[0] or loads[-1] <= loads[0]:
        return None
    width, height = loads[-1] - loads[0], latencies[-1] - latencies[0]
    below = [
        (load - loads[0]) / width - (latency - latencies[0]) / height
        for load, latency in zip(loads, latencies, strict=True)
    ]
    deepest = max(range(len(below)), key=below.__getitem__)
    return float(loads[deepest]) if below[deepest] > 0.1 else None
