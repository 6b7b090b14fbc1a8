"""HTML reports that need no other file: one comparison, or all of a session."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, get_args

from pytest_gpusim.compare.document import ComparisonDocument
from pytest_gpusim.compare.format import (
    LABELS,
    allowed,
    entries,
    interval,
    milliseconds,
    percent,
    quantity,
    runs_needed,
    signed_percent,
)
from pytest_gpusim.compare.judging.verdict import Verdict
from pytest_gpusim.compare.metrics import HEADLINES, STATISTICS
from pytest_gpusim.report.directory import read_document
from pytest_gpusim.report.terminal import beside_lines

_HEADLINES = (("ttft", "p50"), ("tpot", "p50"), ("e2e", "p50"), ("ttft", "p95"), ("e2e", "p95"))


def comparison_html(document: ComparisonDocument, charts: Path) -> str:
    """The report of one comparison; its charts are read from the directory ``charts``."""
    template = _environment().get_template("comparison.html.j2")
    return str(template.render(item=_item(document, charts), title=document.title))


def write_session_report(paths: Sequence[Path], out: Path) -> None:
    """One page over all comparisons of a session.

    Args:
        paths: The comparisons' directories.
        out: The file to write; its directory is made.

    Raises:
        InputError: A comparison is incomplete.
    """
    items = []
    for number, path in enumerate(paths, start=1):
        document = read_document(path)
        items.append({**_item(document, Path(path) / "figures"), "anchor": f"comparison-{number}"})
    template = _environment().get_template("session.html.j2")
    counts = {
        verdict: sum(item["comparison"]["verdict"] == verdict for item in items)
        for verdict in get_args(Verdict)
    }
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.partial")
    partial.write_text(
        template.render(items=items, counts=counts, title="Simulated against real"),
        encoding="utf-8",
    )
    partial.replace(out)


def _item(document: ComparisonDocument, charts: Path) -> dict[str, Any]:
    from pytest_gpusim.report.charts import CAPTIONS

    comparison = document.comparison
    headlines = []
    for metric, statistic in _HEADLINES:
        table = comparison["metrics"][metric]
        if table is not None:
            label = f"{LABELS[metric]} {statistic}"
            headlines.append({"label": label, **table[statistic]})
    images = [
        {"name": name, "caption": caption, "uri": _data_uri(charts / f"{name}.svg")}
        for name, caption in CAPTIONS.items()
        if (charts / f"{name}.svg").exists()
    ]
    return {
        "title": document.title,
        "name": document.name,
        "verdict": document.verdict,
        "comparison": comparison,
        "meta": document.meta,
        "headlines": headlines,
        "images": images,
        "beside": beside_lines(document),
        "bars": [_bar(judgement) for judgement in document.judgements],
    }


def _bar(judgement: dict[str, Any]) -> dict[str, Any]:
    """Where the error, its interval and what is allowed lie on a scale from -100 to 100, zero in
    the middle.
    """
    error, tolerance = judgement["error"], judgement["tolerance"]
    low, high = judgement["interval"] or (error, error)
    if judgement["real"]:
        tolerance = max(tolerance, judgement["floor"] / judgement["real"])
    reach = max(*(abs(value or 0.0) for value in (error, low, high)), tolerance, 1e-9) * 1.15

    def place(ratio: float) -> float:
        scaled: float = 100 * ratio / reach
        return round(max(-100.0, min(100.0, scaled)), 2)

    return {
        **judgement,
        "at": None if error is None else place(error),
        "allowed": place(tolerance),
        "low": None if low is None else place(low),
        "high": None if high is None else place(high),
        "allows": allowed(judgement),
        "runs": runs_needed(judgement),
    }


def _data_uri(path: Path) -> str:
    return "data:image/svg+xml;base64," + b64encode(path.read_bytes()).decode("ascii")


@cache
def _environment() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("pytest_gpusim.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        ms=milliseconds,
        signed=signed_percent,
        percent=percent,
        interval=interval,
        quantity=quantity,
        label=LABELS.__getitem__,
    )
    environment.globals.update(
        entries=entries, headlines=HEADLINES, statistics=[each.name for each in STATISTICS]
    )
    return environment
