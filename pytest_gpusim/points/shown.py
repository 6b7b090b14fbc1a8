"""Judged points for people: every point by configuration, then their means."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from pytest_gpusim.compare.format import UNKNOWN
from pytest_gpusim.points.report import GROUP
from pytest_gpusim.printing import table_lines

_NAMES = {
    "tpot_error": "TPOT",
    "ttft_error": "TTFT",
    "kernels_tpot_error": "TPOT of the kernels alone",
    "estimate_tpot_error": "AIConfigurator's TPOT",
}
_POINT = ("in", "out", "clients", "TPOT ms", "simulated", "error", "TTFT ms", "simulated", "error")


def points_lines(document: Mapping[str, Any], width: int | None = None) -> Iterator[str]:
    """The document within so many columns; None: its means as a table in Markdown."""
    for name, points in groupby(document["points"], _configuration):
        several = list(points)
        yield name
        rows = [_cells(row) for row in several if "refused" not in row]
        if rows:
            yield from table_lines(_POINT, rows, width, texts=())
        for row in several:
            if "refused" in row:
                place = f"{row['isl']} in, {row['osl']} out, {row['concurrency']} clients"
                yield f"  {place}: refused: {row['refused']}"
    yield ""
    yield from summary_lines(document["summary"], width)
    alone = sum("refused" not in row and row["engine_time"] is None for row in document["points"])
    if alone:
        yield (
            f"{alone} of them by kernels alone, without engine time: asked for, or the table has "
            "fewer than two other dense configurations of the release to fit it on"
        )
    for each in document["distrusted"]:
        yield f"{each['points']} of them from a table not to be trusted: {each['table']}"
    yield ""
    for client in document["clients"]:
        yield f"client {client['name']} ({client['statistic']}s): {client['source']}"


def _configuration(row: Mapping[str, Any]) -> str:
    precision = f" {row['precision']}" if row["precision"] else ""
    release = f", vLLM {row['vllm_version']}" if row["vllm_version"] else ""
    return f"{row['model']}{precision} on {row['tensor_parallel']} × {row['hardware']}{release}"


def _cells(row: Mapping[str, Any]) -> Sequence[str]:
    return (
        *(str(row[name]) for name in ("isl", "osl", "concurrency")),
        *(f"{float(row['tpot_ms']):.2f}", f"{row['sim_tpot_ms']:.2f}", f"{row['tpot_error']:+.1%}"),
        *(f"{float(row['ttft_ms']):.1f}", f"{row['sim_ttft_ms']:.1f}", f"{row['ttft_error']:+.1%}"),
    )


def summary_lines(summary: Mapping[str, Any], width: int | None = None) -> Iterator[str]:
    """Mean errors by configuration, client and release; what was refused."""
    yield from _markdown(summary) if width is None else _table(summary, width)
    yield ""
    refused = "; refused:" if summary["refused"] else ""
    yield f"{summary['simulated']} of {summary['points']} points simulated{refused}"
    for refusal in summary["refused"]:
        yield f"- {refusal['points']}: {refusal['reason']}"


def _groups(summary: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Clients and releases, in words."""
    for group in summary["by_client"]:
        yield f"client: {group['client']}", group
    for group in summary["by_release"]:
        yield f"all of {group['vllm_version']}", group


def _table(summary: Mapping[str, Any], width: int) -> Iterator[str]:
    """The mean size of each error, and below it the mean with its sign."""
    named = [(_configuration(group), group) for group in summary["by_configuration"]]
    rows = [
        [name, str(group["points"]), *(_mean(group, error, "\n") for error in _NAMES)]
        for name, group in (*named, *_groups(summary))
    ]
    header = (
        "mean error, its sign",
        "points",
        "TPOT",
        "TTFT",
        "TPOT,\nkernels",
        "TPOT, AI-\nConfigurator",
    )
    yield from table_lines(header, rows, width, indent=0)


def _markdown(summary: Mapping[str, Any]) -> Iterator[str]:
    header = ("release", "model", "hardware", "precision", "degree", "points", *_NAMES.values())
    yield f"| {' | '.join(header)} |"
    yield "| --- | --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    for group in summary["by_configuration"]:
        names = [group["vllm_version"] or "not stated", *(group[key] for key in GROUP[1:])]
        yield f"| {' | '.join(names)} | {_means(group)} |"
    for name, group in _groups(summary):
        yield f"| {name} | | | | | {_means(group)} |"


def _means(group: Mapping[str, Any]) -> str:
    return " | ".join([str(group["points"]), *(_mean(group, error, " ") for error in _NAMES)])


def _mean(group: Mapping[str, Any], error: str, between: str) -> str:
    """The mean of an error's size, and in brackets the mean with its sign."""
    if group[error] is None:
        return UNKNOWN if between == "\n" else "none"
    return f"{group[error]:.1%}{between}({group[f'{error}_signed']:+.1%})"
