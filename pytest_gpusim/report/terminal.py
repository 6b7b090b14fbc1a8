"""Comparisons on a terminal of 80 columns and more: one in full, or a session's, a line each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pytest_gpusim.checks import Check
from pytest_gpusim.compare.checks import keys_of, may_accept, remedy
from pytest_gpusim.compare.document import ComparisonDocument
from pytest_gpusim.compare.format import (
    LABELS,
    UNKNOWN,
    allowed,
    entries,
    figures,
    interval,
    judged_error,
    milliseconds,
    percent,
    quantity,
    runs_needed,
    signed_percent,
)
from pytest_gpusim.compare.metrics import AGREEMENTS, HEADLINES, STATISTICS
from pytest_gpusim.printing import WIDE, rendered, terminal_width, wrapped
from pytest_gpusim.report.attribution import TextTable, attribution_tables

if TYPE_CHECKING:
    from rich.table import Table

_NARROW_STATISTICS = ("p50", "p90", "p99")


def comparison_lines(document: ComparisonDocument, width: int | None = None) -> list[str]:
    """One comparison: figures, judgements, where the error comes from, checks, verdict."""
    width = width or terminal_width()
    table = _table(document.title, "metric", "real", "simulated", "error", "interval")
    if width >= WIDE:
        table.add_column("runs vary by", justify="right")
    for metric, statistic, figure in figures(document.comparison["metrics"]):
        name = f"{LABELS[metric]} {statistic}".strip()
        if figure is None:
            table.add_row(name, *[UNKNOWN] * (len(table.columns) - 1))
            continue
        cells = [
            name,
            milliseconds(figure["real_ns"]),
            milliseconds(figure["sim_ns"]),
            signed_percent(figure["error"]),
            interval(figure["interval"]),
            percent(figure["run_sd"]),
        ]
        last = statistic in ("mean", "")
        table.add_row(*cells[: len(table.columns)], end_section=last)
    checks = _table("Checks", "check", "status", "detail", numbers=False)
    for check in document.comparison["checks"]:
        checks.add_row(check["name"], check["status"], check["detail"])
    attribution = document.meta["attribution"]
    found = attribution_tables(attribution)
    return [
        *rendered(table, width),
        *_wrapped(beside_lines(document), width),
        *(line for one in found for line in rendered(_rich(one), width)),
        *_wrapped(attribution["findings"], width),
        *rendered(checks, width),
        *(_judged_lines(document, width) if document.judgements else ()),
        *(
            line
            for name, why in document.meta.get("left_out", {}).items()
            for line in wrapped(f"not judged: {name}: {why}", width)
        ),
        *wrapped(f"verdict: {document.verdict}", width),
    ]


def _table(title: str, *names: str, numbers: bool = True) -> Table:
    """A table whose first column is text and whose others are numbers, or texts as well."""
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for number, name in enumerate(names):
        right = bool(number) and numbers
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    return table


def _wrapped(lines: Sequence[str], width: int) -> list[str]:
    return [line for text in lines for line in wrapped(f" - {text}", width)]


def _judged_lines(document: ComparisonDocument, width: int) -> list[str]:
    """What was judged: interval, tolerance and how many runs decide; reasons below where a column
    of them would squeeze the others.
    """
    wide = width >= WIDE
    names = ("figure", "error", "interval", "allowed", "runs", "outcome")
    table = _table("Judged", *names)
    for column in table.columns:
        column.no_wrap = True
    table.columns[-1].justify = "left"
    if wide:
        table.add_column("why", overflow="fold")
    for item in document.judgements:
        table.add_row(
            item["name"],
            judged_error(item),
            interval(item["interval"]),
            allowed(item),
            runs_needed(item),
            item["outcome"],
            *([item["reason"]] if wide else ()),
        )
    reasons = [
        f"{item['name']}: {item['reason']}" for item in document.judgements if item["reason"]
    ]
    return [*rendered(table, width), *_wrapped([] if wide else reasons, width)]


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


def detail_lines(document: ComparisonDocument, width: int) -> list[str]:
    """Every figure of a comparison, where its error comes from, and what speaks against it."""
    checks = [
        f"{check['name']} ({check['status']}): {check['detail']}"
        for check in document.comparison["checks"]
        if check["status"] not in ("pass", "skip")
    ]
    reservations = [*document.meta["attribution"]["findings"], *checks]
    return [*rendered(_figures(document, width), width), *_wrapped(reservations, width)]


def _figures(document: ComparisonDocument, width: int) -> Table:
    """Real and simulated median, and the error of every figure with half its interval."""
    statistics = [
        each.name for each in STATISTICS if width >= WIDE or each.name in _NARROW_STATISTICS
    ]
    title = f"{document.case}: {document.verdict}"
    table = _table(title, "", "real p50", "simulated", *statistics)
    for metric, found in document.comparison["metrics"].items():
        if found is None:
            table.add_row(LABELS[metric], UNKNOWN)
            continue
        shown = entries(metric, found)
        first = next(iter(shown.values()))
        table.add_row(
            LABELS[metric],
            milliseconds(first["real_ns"]),
            milliseconds(first["sim_ns"]),
            *(
                f"{signed_percent(figure['error'])} ±{_half(figure)}"
                for name, figure in shown.items()
                if name in statistics or not name
            ),
        )
    return table


def _half(figure: Mapping[str, Any]) -> str:
    """Half the interval of an error."""
    ends = figure["interval"]
    return percent(None if ends is None else (ends[1] - ends[0]) / 2)


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
            lines.append(
                f"  {item['name']}: real {quantity(item['real'], item['unit'])}, simulated "
                f"{quantity(item['sim'], item['unit'])}, error {judged_error(item)} "
                f"{interval(item['interval'])}, tolerance {allowed(item)}, runs "
                f"{runs_needed(item)}: {item['outcome']}, {item['reason']}"
            )
    open_checks: list[Check] = []
    acceptable: list[str] = []
    for check in comparison["checks"]:
        if check["status"] == "fail":
            lines.append(f"  check {check['name']} failed: {check['detail']}")
            if may_accept(Check(check["name"], check["status"], check["detail"])):
                acceptable.append(check["name"])
        elif check["status"] == "unknown" and check["needed"]:
            unknown = Check(check["name"], check["status"], check["detail"])
            open_checks.append(unknown)
            lines.append(f"  check {check['name']} is unknown: {check['detail']}{remedy(unknown)}")
    lines += _how_to_close(open_checks)
    if acceptable:
        lines.append(f"  may be accepted although failed: {', '.join(acceptable)}")
    # A check that failed, or is not known, says so itself, above.
    said = tuple(f"({check['name']}): " for check in comparison["checks"])
    further = [cause for cause in meta["causes"] if not any(name in cause for name in said)]
    lines += [f"  likely cause: {cause}" for cause in further[:3]]
    if document.path is not None:
        lines.append(f"  report: {document.path / 'report.html'}")
    return lines


def _how_to_close(unknown: Sequence[Check]) -> list[str]:
    """How to state what these checks do not know, and how to accept them: to be copied."""
    keys = list(dict.fromkeys(key for check in unknown for key in keys_of(check)))
    names = [check.name for check in unknown if may_accept(check)]
    lines = []
    if keys:
        stated = ", ".join(f'"{key}": …' for key in keys)
        lines.append(f"  to state: sim_vs_real(…, stated={{{stated}}}), --state {keys[0]}=…")
    if names:
        quoted = ", ".join(f'"{name}"' for name in names)
        lines.append(f"  to accept: check(…, accept=[{quoted}]), --accept {','.join(names)}")
    return lines


def _rich(found: TextTable) -> Table:
    table = _table(found.title, *found.header)
    for row in found.rows:
        table.add_row(*row)
    return table
