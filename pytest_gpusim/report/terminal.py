"""Comparisons on a terminal: one in full, or those of a session, a line each."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_gpusim.compare.document import ComparisonDocument
from pytest_gpusim.compare.format import (
    LABELS,
    UNKNOWN,
    allowed,
    entries,
    figures,
    interval,
    milliseconds,
    percent,
    quantity,
    runs_needed,
    signed_percent,
)
from pytest_gpusim.compare.metrics import AGREEMENTS, HEADLINES, STATISTICS
from pytest_gpusim.report.attribution import TextTable, attribution_tables
from pytest_gpusim.report.directory import read_document

if TYPE_CHECKING:
    from rich.table import Table

_WIDTH = 120
_SHOWN_IN_FULL = 8  # comparisons of a session


def comparison_lines(document: ComparisonDocument) -> list[str]:
    """One comparison: figures, judgements, where the error comes from, checks, verdict."""
    from rich.table import Table

    table = Table(title=document.title, title_justify="left")
    for name in ("metric", "real", "simulated", "error", "interval", "runs vary by"):
        table.add_column(name, justify="left" if name == "metric" else "right")
    for metric, statistic, figure in figures(document.comparison["metrics"]):
        name = f"{LABELS[metric]} {statistic}".strip()
        if figure is None:
            table.add_row(name, *[UNKNOWN] * 5)
            continue
        table.add_row(
            name,
            milliseconds(figure["real_ns"]),
            milliseconds(figure["sim_ns"]),
            signed_percent(figure["error"]),
            interval(figure["interval"]),
            percent(figure["run_sd"]),
            end_section=statistic in ("mean", ""),
        )
    checks = Table(title="Checks", title_justify="left")
    for name in ("check", "status", "detail"):
        checks.add_column(name, overflow="fold")
    for check in document.comparison["checks"]:
        checks.add_row(check["name"], check["status"], check["detail"])
    attribution = document.meta["attribution"]
    return [
        *_rendered(table),
        *beside_lines(document),
        *(line for found in attribution_tables(attribution) for line in _rendered(_rich(found))),
        *attribution["findings"],
        *_rendered(checks),
        *(_rendered(_judgements(document)) if document.judgements else ()),
        *(f"not judged: {name}: {why}" for name, why in document.meta.get("left_out", {}).items()),
        f"verdict: {document.verdict}",
    ]


def _judgements(document: ComparisonDocument) -> Table:
    """What was judged: interval, what was allowed, and how many runs decide."""
    from rich.table import Table

    table = Table(title="Judged", title_justify="left")
    for name in ("figure", "error", "interval", "allowed", "by", "runs", "outcome", "why"):
        numbers = name in ("error", "interval", "allowed", "runs")
        table.add_column(name, justify="right" if numbers else "left", overflow="fold")
    for item in document.judgements:
        ratio = item["decided_by"] == "limit"
        table.add_row(
            item["name"],
            quantity(item["error"], "ratio") if ratio else signed_percent(item["error"]),
            interval(item["interval"]),
            allowed(item),
            item["decided_by"],
            runs_needed(item),
            item["outcome"],
            item["reason"],
        )
    return table


def beside_lines(document: ComparisonDocument) -> list[str]:
    """Throughput, goodput, and how single requests agree, a line each."""
    comparison = document.comparison
    rates = [(LABELS[name], row) for name, row in comparison["throughput"].items() if row]
    if comparison["goodput"]:
        rates.append((LABELS["goodput"], comparison["goodput"]))
    lines = [
        f"{label}: real {quantity(row['real'], row['unit'])}, simulated "
        f"{quantity(row['sim'], row['unit'])}, error {signed_percent(row['error'])} "
        f"{interval(row['interval'])}"
        for label, row in rates
    ]
    for metric in HEADLINES:
        parts = [
            f"{each.label} {quantity(row['sim'], 'ratio')} "
            f"({quantity(row['real'], 'ratio')} between real runs)"
            for each in AGREEMENTS
            if (row := comparison["distribution"].get(f"{metric}_{each.name}"))
        ]
        if parts:
            lines.append(f"{LABELS[metric]} of single requests: {', '.join(parts)}")
    return lines


def session_lines(paths: Sequence[Path]) -> list[str]:
    """The comparisons of a session: of the first few every figure and what speaks against it, and
    of each a line.
    """
    documents = [read_document(path) for path in paths]
    lines: list[str] = []
    for document in documents[:_SHOWN_IN_FULL]:
        lines += [*_rendered(_figures(document)), *_reservations(document), ""]
    return [*lines, *_rendered(_overview(documents))]


def _reservations(document: ComparisonDocument) -> list[str]:
    """Where the error comes from, and the checks that did not pass, in lines."""
    checks = [
        f"{check['name']} ({check['status']}): {check['detail']}"
        for check in document.comparison["checks"]
        if check["status"] not in ("pass", "skip")
    ]
    return [
        line
        for text in (*document.meta["attribution"]["findings"], *checks)
        for line in textwrap.wrap(text, _WIDTH, initial_indent=" - ", subsequent_indent="   ")
    ]


def _figures(document: ComparisonDocument) -> Table:
    """Real and simulated median, and the error of every figure with half its interval."""
    from rich import box
    from rich.table import Table

    title = f"{document.name}: {document.verdict}"
    table = Table(title=title, title_justify="left", box=box.SIMPLE, pad_edge=False, padding=(0, 0))
    for name in ("", "real p50", "simulated", *(each.name for each in STATISTICS)):
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    for metric, found in document.comparison["metrics"].items():
        if found is None:
            table.add_row(LABELS[metric], UNKNOWN)
            continue
        shown = list(entries(metric, found).values())
        table.add_row(
            LABELS[metric],
            milliseconds(shown[0]["real_ns"]),
            milliseconds(shown[0]["sim_ns"]),
            *(f"{signed_percent(e['error'])} ±{_half(e)}" for e in shown),
        )
    return table


def _half(figure: Mapping[str, Any]) -> str:
    """Half the interval of an error."""
    ends = figure["interval"]
    return percent(None if ends is None else (ends[1] - ends[0]) / 2)


def _overview(documents: Sequence[ComparisonDocument]) -> Table:
    from rich.table import Table

    table = Table()
    table.add_column("comparison", overflow="fold")
    for metric in HEADLINES:
        table.add_column(f"{LABELS[metric]} p50", justify="right")
    table.add_column("checks")
    table.add_column("verdict")
    for document in documents:
        metrics = document.comparison["metrics"]
        cells = []
        for metric in HEADLINES:
            figure = (metrics[metric] or {}).get("p50")
            if figure is None:
                cells.append(UNKNOWN)
            else:
                cells.append(f"{signed_percent(figure['error'])} ±{_half(figure)}")
        table.add_row(
            document.name,
            *cells,
            checks_in_short(document.comparison["checks"]),
            document.verdict,
        )
    return table


def checks_in_short(checks: Sequence[Mapping[str, Any]]) -> str:
    """How many checks passed, and the names of the others that count."""
    counts = dict.fromkeys(("pass", "warn", "skip"), 0)
    named = []
    for check in checks:
        if check["status"] in counts:
            counts[check["status"]] += 1
        else:
            named.append(f"{check['name']} {check['status']}")
    said = [f"{count} {status}" for status, count in counts.items() if count]
    return ", ".join([*named, *said])


def failure_lines(document: ComparisonDocument) -> list[str]:
    """Why a comparison did not pass, for the reader of a failed test; empty where it did, or where
    nothing was judged.
    """
    comparison, meta = document.comparison, document.meta
    if comparison["verdict"] in ("pass", "not_judged"):
        return []
    lines = [f"simulated against real: {document.verdict}"]
    for item in document.judgements:
        if item["outcome"] != "pass":
            ratio = item["decided_by"] == "limit"
            error = quantity(item["error"], "ratio") if ratio else signed_percent(item["error"])
            lines.append(
                f"  {item['name']}: real {quantity(item['real'], item['unit'])}, simulated "
                f"{quantity(item['sim'], item['unit'])}, error {error} "
                f"{interval(item['interval'])}, tolerance {allowed(item)}, runs "
                f"{runs_needed(item)}: {item['outcome']}, {item['reason']}"
            )
    for check in comparison["checks"]:
        if check["status"] == "fail":
            lines.append(f"  check {check['name']} failed: {check['detail']}")
        elif check["status"] == "unknown" and check["needed"]:
            lines.append(
                f"  check {check['name']} is unknown: {check['detail']}; state it, or accept "
                f"{check['name']}"
            )
    # A check that failed, or is not known, says so itself, above.
    said = tuple(f"({check['name']}): " for check in comparison["checks"])
    further = [cause for cause in meta["causes"] if not any(name in cause for name in said)]
    lines += [f"  likely cause: {cause}" for cause in further[:3]]
    if document.path is not None:
        lines.append(f"  report: {document.path / 'report.html'}")
    return lines


def _rich(found: TextTable) -> Table:
    from rich.table import Table

    table = Table(title=found.title, title_justify="left")
    for number, name in enumerate(found.header):
        table.add_column(name, justify="right" if number else "left")
    for row in found.rows:
        table.add_row(*row)
    return table


def _rendered(table: Any) -> list[str]:
    from io import StringIO

    from rich.console import Console

    stream = StringIO()
    Console(file=stream, width=_WIDTH, force_terminal=False).print(table)
    return [line.rstrip() for line in stream.getvalue().splitlines()]
