"""The page of ``gpusim published --report``: our errors beside the published simulator's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_gpusim.artifacts import provenance, utc_now
from pytest_gpusim.compare.format import milliseconds, signed_percent
from pytest_gpusim.compare.metrics import METRICS
from pytest_gpusim.errors import GpusimError
from pytest_gpusim.report.bars import common_reach, error_marks
from pytest_gpusim.report.page import write_page

_PUBLISHED = "the published simulator"


def write_published_page(
    document: Mapping[str, Any], out: Path, failures: Sequence[GpusimError] = ()
) -> None:
    """Write the document of `compare_published` as one file without references.

    Published runs come without tolerances, so no figure passes here; the checks have their say.
    ``failures`` are those of folders that could not be compared.
    """
    runs = [_run(run) for run in document["runs"]]
    write_page(
        out,
        "published.html.j2",
        title="Published runs, simulated",
        runs=runs,
        failures=[str(failure) for failure in failures],
        made={**provenance(), "at": utc_now()},
    )


def _run(run: Mapping[str, Any]) -> dict[str, Any]:
    figures = [
        (f"{METRICS[metric].label} {statistic}", figure)
        for metric, statistics in run["metrics"].items()
        for statistic, figure in statistics.items()
    ]
    reach = common_reach(
        figure[name] for _, figure in figures for name in ("error", "published_error")
    )
    settings = run["settings"]
    return {
        **run,
        "rows": [
            {
                "name": name,
                "real": milliseconds(figure["real_ns"]),
                "sim": milliseconds(figure["sim_ns"]),
                "error": signed_percent(figure["error"]),
                "published": signed_percent(figure["published_error"]),
                "bar": ""
                if figure["error"] is None
                else error_marks(
                    name, figure["error"], figure["published_error"], _PUBLISHED, reach
                ),
            }
            for name, figure in figures
        ],
        "sentence": _sentence(figures, settings["simulator"]),
    }


def _sentence(figures: Sequence[tuple[str, Mapping[str, Any]]], simulator: str) -> str:
    """How large our errors are, and the published ones of the same figures."""
    known = [(name, figure) for name, figure in figures if figure["error"] is not None]
    if not known:
        return "No figure is available on both sides."
    worst, of_worst = max(known, key=lambda item: abs(item[1]["error"]))
    mean = sum(abs(figure["error"]) for _, figure in known) / len(known)
    text = (
        f"{len(known)} figures of {simulator} are off by {mean:.2%} in the mean, at most "
        f"{of_worst['error']:+.2%} ({worst})"
    )
    published = [f["published_error"] for _, f in known if f["published_error"] is not None]
    if not published:
        return f"{text}. No error of another simulator is published beside this run."
    mean, most = sum(map(abs, published)) / len(published), max(published, key=abs)
    return (
        f"{text}; {_PUBLISHED}'s {len(published)} by {mean:.2%} in the mean, at most {most:+.2%}."
    )
