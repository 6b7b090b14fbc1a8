"""``summary.md``: the figures, the noise beside them, and why they can or cannot be trusted."""

from __future__ import annotations

from pytest_gpusim.compare.document import ComparisonDocument
from pytest_gpusim.compare.format import (
    LABELS,
    UNKNOWN,
    figures,
    milliseconds,
    percent,
    signed_percent,
)
from pytest_gpusim.report.attribution import TextTable, attribution_tables


def summary_markdown(document: ComparisonDocument) -> str:
    """The whole file."""
    comparison, meta = document.comparison, document.meta
    runs = len(comparison["real_runs"])
    lines = [
        f"# {document.title}",
        "",
        f"**Verdict: {document.verdict}**",
        "",
        f"{meta['num_requests']} requests, {runs} real run{'s' if runs > 1 else ''} against "
        f"`{comparison['sim_run']}`; {meta['num_left_out']} requests left out because they failed.",
        "",
    ]
    if meta["causes"]:
        lines += ["## Likely causes", "", *(f"- {cause}" for cause in meta["causes"]), ""]
    if meta["judgements"]:
        lines += ["## Tolerances", "", *_judgements(document), ""]
    findings = meta["attribution"]["findings"]
    lines += [
        "## Where the error comes from",
        "",
        *([f"- {finding}" for finding in findings] or ["Nothing stands out."]),
        "",
        *(line for table in attribution_tables(meta["attribution"]) for line in _table(table)),
        "## Figures",
        "",
        "Real is the median over the real runs, noise the largest distance of a run from it.",
        "",
        *_figures(document),
        "",
        "## Checks",
        "",
        "| check | status | why |",
        "| --- | --- | --- |",
        *(
            f"| {check['name']} | {_status(check['status'])} | {_cell(check['detail'])} |"
            for check in comparison["checks"]
        ),
        "",
    ]
    return "\n".join(lines)


def _table(table: TextTable) -> list[str]:
    return [
        f"### {table.title}",
        "",
        f"| {' | '.join(table.header)} |",
        f"| --- |{' ---: |' * (len(table.header) - 1)}",
        *(f"| {' | '.join(map(_cell, row))} |" for row in table.rows),
        "",
    ]


def _judgements(document: ComparisonDocument) -> list[str]:
    rows = [
        "| figure | error | tolerance | noise | outcome |",
        "| --- | ---: | ---: | ---: | --- |",
    ]
    for item in document.meta["judgements"]:
        outcome = _status(item["outcome"]) + (f": {item['reason']}" if item["reason"] else "")
        rows.append(
            f"| {item['name']} | {signed_percent(item['error'])} | {percent(item['tolerance'])} | "
            f"{percent(item['noise'])} | {_cell(outcome)} |"
        )
    return rows


def _figures(document: ComparisonDocument) -> list[str]:
    rows = ["| metric | real | simulated | error | noise |", "| --- | ---: | ---: | ---: | ---: |"]
    for metric, statistic, figure in figures(document.comparison["metrics"]):
        name = f"{LABELS[metric]} {statistic}".strip()
        if figure is None:
            why = document.meta["unavailable"].get(metric, "unknown")
            rows.append(f"| {name} | {UNKNOWN}: {_cell(why)} | | | |")
            continue
        rows.append(
            f"| {name} | {milliseconds(figure['real_ns'])} | {milliseconds(figure['sim_ns'])} | "
            f"{signed_percent(figure['error'])} | {percent(figure['noise'])} |"
        )
    return rows


def _status(status: str) -> str:
    return status if status == "pass" else f"**{status}**"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
