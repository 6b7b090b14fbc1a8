"""``summary.md``: the figures, how well they are known, and why they can or cannot be trusted."""

from __future__ import annotations

from pytest_gpusim.compare.document import ComparisonDocument
from pytest_gpusim.compare.format import (
    LABELS,
    UNKNOWN,
    allowed,
    figures,
    interval,
    judged_error,
    milliseconds,
    percent,
    runs_needed,
    signed_percent,
)
from pytest_gpusim.errors import plain_lines
from pytest_gpusim.report.attribution import TextTable, attribution_tables
from pytest_gpusim.report.terminal import beside_lines

# GitHub makes links of bare addresses too.
_PLAIN = {
    "&": "&amp;",
    "<": "&lt;",
    ">": "&gt;",
    "`": "'",
    "\\": "&#92;",
    "[": "\\[",
    "://": "&#58;//",
    "www.": "www&#46;",
}


def summary_markdown(document: ComparisonDocument) -> str:
    """The whole file."""
    comparison, meta = document.comparison, document.meta
    runs = len(comparison["real_runs"])
    lines = [
        f"# {markdown(document.title)}",
        "",
        f"**Verdict: {document.verdict}**",
        "",
        f"{meta['num_requests']} requests, {runs} real run{'s' if runs > 1 else ''} against "
        f"`{markdown(comparison['sim_run'])}`; {meta['num_left_out']} requests left out because "
        "they failed.",
        "",
    ]
    if meta["causes"]:
        lines += ["## Likely causes", "", *(f"- {markdown(cause)}" for cause in meta["causes"]), ""]
    if document.judgements:
        lines += ["## Tolerances", "", *_judgements(document), ""]
    findings = meta["attribution"]["findings"]
    lines += [
        "## Where the error comes from",
        "",
        *([f"- {markdown(finding)}" for finding in findings] or ["Nothing stands out."]),
        "",
        *(line for table in attribution_tables(meta["attribution"]) for line in _table(table)),
        "## Figures",
        "",
        "Real is the geometric mean of the real runs; each end of an interval holds with 95%.",
        "",
        *(f"- {markdown(line)}" for line in beside_lines(document)),
        "",
        *_figures(document),
        "",
        "## Checks",
        "",
        "| check | status | why |",
        "| --- | --- | --- |",
        *(
            f"| {check['name']} | {_status(check['status'])} | {cell(check['detail'])} |"
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
        *(f"| {' | '.join(map(cell, row))} |" for row in table.rows),
        "",
    ]


def _judgements(document: ComparisonDocument) -> list[str]:
    rows = [
        "| figure | error | interval | allowed | by | runs | outcome |",
        "| --- | ---: | ---: | ---: | --- | ---: | --- |",
    ]
    for item in document.judgements:
        outcome = _status(item["outcome"]) + (f": {item['reason']}" if item["reason"] else "")
        cells = (item["name"], judged_error(item), interval(item["interval"]), allowed(item))
        rest = (item["decided_by"], runs_needed(item), outcome)
        rows.append(f"| {' | '.join(map(cell, (*cells, *rest)))} |")
    left_out = document.meta.get("left_out", {})
    return rows + [f"\nNot judged: {name}: {markdown(why)}" for name, why in left_out.items()]


def _figures(document: ComparisonDocument) -> list[str]:
    rows = [
        "| metric | real | simulated | error | interval | runs vary by |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for metric, statistic, figure in figures(document.comparison["metrics"]):
        name = f"{LABELS[metric]} {statistic}".strip()
        if figure is None:
            why = document.meta["unavailable"].get(metric, "unknown")
            rows.append(f"| {name} | {UNKNOWN}: {cell(why)} | | | | |")
            continue
        rows.append(
            f"| {name} | {milliseconds(figure['real_ns'])} | {milliseconds(figure['sim_ns'])} | "
            f"{signed_percent(figure['error'])} | {interval(figure['interval'])} | "
            f"{percent(figure['run_sd'])} |"
        )
    return rows


def _status(status: str) -> str:
    return status if status == "pass" else f"**{status}**"


def cell(text: str) -> str:
    """`markdown` in a table's cell."""
    return markdown(text).replace("|", "&#124;")


def markdown(text: str) -> str:
    """``text``, names from files in it, as words: no link, code or HTML, nothing that acts."""
    said = plain_lines(str(text).replace("\n", " "))
    for sign, plain in _PLAIN.items():
        said = said.replace(sign, plain)
    return said
