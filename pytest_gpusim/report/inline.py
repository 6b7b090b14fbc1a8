"""Charts and bars as parts of a page: in its colours, with words that say what they show."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path
from typing import Any

from pytest_gpusim.compare.document import ComparisonDocument
from pytest_gpusim.compare.format import (
    allowed,
    entries,
    interval,
    milliseconds,
    signed_percent,
)
from pytest_gpusim.errors import plain_lines
from pytest_gpusim.report.charts.canvas import BAND, GRID, INK, REAL, SIM, Chart, save_svg, style

_ROLES = {REAL: "real", SIM: "sim", BAND: "band", GRID: "grid", INK: "soft"}


def inline_svg(text: str, prefix: str, said: str) -> str:
    """An SVG file as an element of a page: the page's colours, ids of its own, and its words."""
    body = text[text.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r"<!--.*?-->", "", body, flags=re.DOTALL)
    for colour, role in _ROLES.items():
        body = body.replace(colour, f"var(--{role})")
    body = re.sub(r'\bid="', f'id="{prefix}', body)
    body = re.sub(r'(href="#|url\(#)', rf"\g<1>{prefix}", body)
    box = re.search(r'viewBox="[^"]*"', body)
    # Fixed sizes would not let it follow the page's width.
    opening = f'<svg {box[0] if box else ""} role="img" aria-label="{escape(plain_lines(said))}"'
    names = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    # A function: names may hold what a template of re takes for its own.
    return re.sub(r"<svg[^>]*>", lambda _: f"{opening} {names}>", body, count=1)


def drawn(name: str, said: str, draw: Callable[[Any], None]) -> str:
    """A chart that ``draw`` makes on axes, as an element of a page, with the words it stands for.

    ``name`` is its own on the page.
    """
    with style() as figure:
        draw(figure.subplots())
        stream = io.StringIO()
        save_svg(figure, stream, name)
    return inline_svg(stream.getvalue(), f"{name}-", said)


def said_of(chart: Chart, document: ComparisonDocument) -> str:
    """What a chart shows, in the words of its result."""
    if chart.metric is None:
        return f"{chart.title}, real and simulated. {_steps(document.meta['attribution'])}".strip()
    table = document.comparison["metrics"][chart.metric]
    if table is None:
        return chart.title
    shown = [
        f"{name} real {milliseconds(figure['real_ns'])}, simulated "
        f"{milliseconds(figure['sim_ns'])}, error {signed_percent(figure['error'])}"
        for name, figure in entries(chart.metric, table).items()
        if name in ("p50", "p90", "p99")
    ]
    return f"{chart.title}: {'; '.join(shown)}"


def _steps(attribution: Mapping[str, Any]) -> str:
    schedule = (attribution.get("steps") or {}).get("schedule")
    if not schedule:
        return ""
    return (
        f"{schedule['real_steps']} real and {schedule['sim_steps']} simulated steps, "
        f"{schedule['same_share']:.0%} of them with the same batch."
    )


_WIDTH, _HEIGHT = 260.0, 26.0


def error_bar(item: Mapping[str, Any]) -> str:
    """A judged figure's error and interval against what is allowed, as SVG; empty where unknown.

    The band is what is allowed, the bar the interval, the dot the error.
    """
    error, limit = item["error"], item["tolerance"]
    if error is None or item["decided_by"] == "limit":
        return ""
    if item["decided_by"] == "floor" and item["real"]:
        limit = item["floor"] / item["real"]
    low, high = item["interval"] or (error, error)
    reach = 1.15 * max(abs(error), abs(low), abs(high), limit, 1e-9)

    def at(ratio: float) -> float:
        return float(round(_WIDTH / 2 * (1 + ratio / reach), 1))

    said = (
        f"{item['name']}: error {signed_percent(error)}, interval {interval(item['interval'])}, "
        f"allowed {allowed(item)}: {item['outcome']}"
    )
    middle = _HEIGHT / 2
    return (
        f'<svg class="bar" viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" role="img" '
        f'aria-label="{escape(plain_lines(said))}">'
        f'<rect x="{at(-limit)}" y="3" width="{round(at(limit) - at(-limit), 1)}" '
        f'height="{_HEIGHT - 6:g}" rx="3" class="may"/>'
        f'<line x1="{_WIDTH / 2:g}" x2="{_WIDTH / 2:g}" y1="1" y2="{_HEIGHT - 1:g}" class="nil"/>'
        f'<line x1="{at(low)}" x2="{at(high)}" y1="{middle:g}" y2="{middle:g}" class="span"/>'
        f'<line x1="{at(low)}" x2="{at(low)}" y1="8" y2="18" class="span"/>'
        f'<line x1="{at(high)}" x2="{at(high)}" y1="8" y2="18" class="span"/>'
        f'<circle cx="{at(error)}" cy="{middle:g}" r="4.5" class="dot {item["outcome"]}"/></svg>'
    )


def settings_rows(meta: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Engine settings of both sides, those that differ first; a side that is silent has None."""
    real, sim = meta.get("engine") or {}, meta.get("sim_engine") or {}
    rows = [
        {
            "name": name,
            "real": real.get(name),
            "sim": sim.get(name),
            "state": _state(real.get(name), sim.get(name)),
        }
        for name in sorted({*real, *sim})
        if not isinstance(real.get(name, sim.get(name)), dict | list)
    ]
    order = {"differs": 0, "same": 1, "one side": 2}
    return sorted(rows, key=lambda row: order[row["state"]])


def _state(real: Any, sim: Any) -> str:
    if real is None or sim is None:
        return "one side"
    return "same" if str(real) == str(sim) else "differs"


def charts_of(document: ComparisonDocument, directory: Path, prefix: str) -> list[dict[str, Any]]:
    """The groups of charts that a comparison has, each with its inline charts."""
    from pytest_gpusim.report.charts import CHARTS

    groups: dict[str, list[dict[str, str]]] = {}
    for chart in CHARTS:
        path = directory / f"{chart.name}.svg"
        if path.exists():
            said = said_of(chart, document)
            svg = inline_svg(path.read_text(encoding="utf-8"), f"{prefix}{chart.name}-", said)
            shown = {"title": chart.title, "caption": chart.caption, "svg": svg}
            groups.setdefault(chart.group, []).append(shown)
    return [_group(title, charts) for title, charts in groups.items()]


def _group(title: str, charts: list[dict[str, str]]) -> dict[str, Any]:
    """A group's charts; a caption that all of them have is said once."""
    captions = {chart["caption"] for chart in charts}
    if len(captions) > 1:
        return {"title": title, "caption": "", "charts": charts}
    shown = [{**chart, "caption": ""} for chart in charts]
    return {"title": title, "caption": captions.pop(), "charts": shown}
