"""Pages that need no other file: one comparison, or all of a session."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from pytest_gpusim.compare.document import ComparisonDocument
from pytest_gpusim.compare.format import allowed, judged_error, runs_needed
from pytest_gpusim.compare.judging.verdict import Verdict
from pytest_gpusim.report.attribution import attribution_tables
from pytest_gpusim.report.page import render, write_page
from pytest_gpusim.report.session import deciding_text, told_apart
from pytest_gpusim.report.terminal import beside_lines
from pytest_gpusim.report.versions import read_document


def comparison_html(document: ComparisonDocument, charts: Path) -> str:
    """The report of one comparison; its charts are read from the directory ``charts``."""
    title = f"{document.case}: {document.verdict}"
    return render("comparison.html.j2", item=_item(document, charts), title=title)


def write_session_report(paths: Sequence[Path], out: Path, tests: Sequence[str] = ()) -> None:
    """One page over all comparisons of a session.

    Args:
        paths: The comparisons' directories.
        out: The file to write; its directory is made.
        tests: Node ids of the tests that made them, where those are known.

    Raises:
        InputError: A comparison is incomplete.
    """
    from pytest_gpusim.report.load import load_charts

    documents = [read_document(path) for path in paths]
    if tests:
        documents = told_apart(documents, tests)
    items = [
        {**_item(document, Path(path) / "figures", f"c{number}-"), "anchor": f"c{number}"}
        for number, (path, document) in enumerate(zip(paths, documents, strict=True), start=1)
    ]
    titles = {document.title for document in documents}
    counted = Counter(document.comparison["verdict"] for document in documents)
    counts = {verdict: counted[verdict] for verdict in get_args(Verdict)}
    write_page(
        out,
        "session.html.j2",
        items=items,
        counts=counts,
        loads=load_charts(documents),
        shared=titles.pop() if len(titles) == 1 else "",
        title="Simulated against real",
    )


def _item(document: ComparisonDocument, charts: Path, prefix: str = "") -> dict[str, Any]:
    from pytest_gpusim.report.inline import charts_of, error_bar, settings_rows

    judged = [
        {
            **item,
            "bar": error_bar(item),
            "allows": allowed(item),
            "runs": runs_needed(item),
            "shown_error": judged_error(item),
        }
        for item in document.judgements
    ]
    return {
        "case": document.case,
        "title": document.title,
        "name": document.name,
        "prefix": prefix,
        "verdict": document.verdict,
        "sentence": _sentence(document),
        "deciding": deciding_text(document),
        "comparison": document.comparison,
        "meta": document.meta,
        "judged": judged,
        "beside": beside_lines(document),
        "groups": charts_of(document, charts, prefix),
        "settings": settings_rows(document.meta),
        "attribution": attribution_tables(document.meta["attribution"]),
    }


def _sentence(document: ComparisonDocument) -> str:
    """The verdict in a sentence: which figures hold, and which checks speak against it."""
    by_outcome: dict[str, list[str]] = {}
    for item in document.judgements:
        by_outcome.setdefault(item["outcome"], []).append(item["name"])
    within, total = len(by_outcome.pop("pass", ())), len(document.judgements)
    parts = [f"{within} of {total} judged figures are within their tolerance"]
    if not total:
        parts = ["No tolerance was given, so no figure was judged"]
    parts += [f"{outcome}: {', '.join(names)}" for outcome, names in sorted(by_outcome.items())]
    against = [
        f"{check['name']} {'failed' if check['status'] == 'fail' else 'is unknown'}"
        for check in document.against
    ]
    return "; ".join([*parts, *against]) + "."
