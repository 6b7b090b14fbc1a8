"""Latency against load, real and simulated, over the comparisons of one deployment."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any, NamedTuple

from pytest_gpusim.compare.document import ComparisonDocument
from pytest_gpusim.compare.format import LABELS, milliseconds
from pytest_gpusim.report.charts.canvas import BAND, REAL, SIM, legend_above, unit

_PANELS = (("ttft", "p50"), ("ttft", "p90"), ("tpot", "p50"), ("e2e", "p50"))
_SAME = 1.05  # loads that differ by less are one


def load_charts(documents: Sequence[ComparisonDocument]) -> list[dict[str, Any]]:
    """Per deployment and kind of load that was compared at two loads or more: a title, a caption
    and its inline charts.
    """
    groups: dict[_Kind, list[ComparisonDocument]] = {}
    for document in documents:
        groups.setdefault(_Kind.of(document), []).append(document)
    found = []
    for number, (kind, members) in enumerate(groups.items(), start=1):
        charts = [
            chart
            for metric, statistic in _PANELS
            if (chart := _chart(members, metric, statistic, kind.axis, f"load{number}-"))
        ]
        if charts:
            caption = "Each mark is a comparison, lines join their means"
            if any("knee" in chart["svg"] for chart in charts):
                caption += "; dotted: the knee, where latency leaves its base"
            found.append({"title": kind.title, "caption": f"{caption}.", "charts": charts})
    return found


class _Kind(NamedTuple):
    """What comparisons have in common that differ by the load alone."""

    model: str
    device: str
    simulator: str
    axis: str
    arrivals: str
    conversations: bool

    @classmethod
    def of(cls, document: ComparisonDocument) -> _Kind:
        meta = document.meta
        load = meta.get("load") or {}
        device = meta.get("device_name") or meta.get("hardware")
        return cls(
            str(meta.get("model") or "unknown"),
            str(device or "unknown"),
            str(meta.get("simulator") or "unknown"),
            "clients at once" if load.get("max_concurrency") else "requests a second",
            load.get("arrivals") or "",
            bool(load.get("conversations")),
        )

    @property
    def title(self) -> str:
        """The same in words."""
        text = f"{self.model} on {self.device}, simulated by {self.simulator}"
        text += f", arrivals {self.arrivals}" if self.arrivals else ""
        return f"{text}, conversations" if self.conversations else text


class _Point(NamedTuple):
    """Comparisons at one load."""

    load: float
    real: list[float]
    sim: list[float]


def _chart(
    documents: Sequence[ComparisonDocument], metric: str, statistic: str, axis: str, prefix: str
) -> dict[str, str] | None:
    points = _points(documents, metric, statistic)
    if len(points) < 2:
        return None
    import numpy as np

    label = f"{LABELS[metric]} {statistic}"
    loads = [point.load for point in points]
    means = {
        "real": [fmean(point.real) for point in points],
        "simulated": [fmean(point.sim) for point in points],
    }
    knees = {side: knee(loads, values) for side, values in means.items()}
    said = f"{label} against load: " + "; ".join(
        f"at {load:.3g} {axis} real {milliseconds(real)}, simulated {milliseconds(sim)}"
        for load, real, sim in zip(loads, means["real"], means["simulated"], strict=True)
    )
    known = [f"{side} {at:.3g}" for side, at in knees.items() if at is not None]
    said += f"; knee: {', '.join(known)}" if known else ""
    from pytest_gpusim.report.inline import drawn

    def draw(axes: Any) -> None:
        name, scale = unit(*(np.array([*point.real, *point.sim]) for point in points))
        for side, colour, mark, line in (("real", REAL, "o", "-"), ("simulated", SIM, "s", "--")):
            values = [point.real if side == "real" else point.sim for point in points]
            each = [(load, v) for load, some in zip(loads, values, strict=True) for v in some]
            axes.plot(loads, np.array(means[side]) / scale, line, color=colour, lw=1.4)
            axes.plot([load for load, _ in each], [v / scale for _, v in each], mark, color=colour,
                      ms=4)  # fmt: skip
            axes.plot([], [], f"{mark}{line}", color=colour, lw=1.4, ms=4, label=side)
            if (at := knees[side]) is not None:
                axes.axvline(at, color=BAND if side == "real" else SIM, lw=1, ls=":")
        axes.set_xlabel(axis)
        axes.set_ylabel(name)
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        legend_above(axes)

    svg = drawn(f"{prefix}{metric}-{statistic}", said, draw)
    return {"title": label, "caption": "", "svg": svg}


def _points(documents: Sequence[ComparisonDocument], metric: str, statistic: str) -> list[_Point]:
    """Ascending by load, those of nearly the same one together."""
    found: list[tuple[float, float, float]] = []
    for document in documents:
        load = document.meta.get("load") or {}
        at = load.get("max_concurrency") or load.get("requests_per_second")
        table = document.comparison["metrics"][metric]
        if at and table is not None:
            figure = table[statistic]
            found.append((float(at), figure["real_ns"], figure["sim_ns"]))
    together: list[list[tuple[float, float, float]]] = []
    for each in sorted(found):
        if together and each[0] < together[-1][0][0] * _SAME:
            together[-1].append(each)
        else:
            together.append([each])
    return [
        _Point(fmean(loads), list(real), list(sim))
        for loads, real, sim in (zip(*several, strict=True) for several in together)
    ]


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
