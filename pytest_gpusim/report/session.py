"""The comparisons of a session in short: a line each on a terminal, a table in Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from pytest_gpusim.compare.document import ComparisonDocument
from pytest_gpusim.compare.format import allowed, interval, judged_error, quantity
from pytest_gpusim.report.summary import cell, markdown


class SessionLine(NamedTuple):
    """A case of a session: its verdict, which a terminal may colour, and the rest of its line."""

    verdict: str
    text: str


def told_apart(
    documents: Sequence[ComparisonDocument], tests: Sequence[str]
) -> list[ComparisonDocument]:
    """The documents; those that share a name have it together with their test's."""
    shared = Counter(document.case for document in documents)
    return [
        replace(document, told_by=test.rpartition("::")[2])
        if shared[document.case] > 1
        else document
        for document, test in zip(documents, tests, strict=True)
    ]


def session_lines(documents: Sequence[ComparisonDocument], width: int) -> list[SessionLine]:
    """A line for each comparison: what was judged, and the figure that decides, with its interval
    and what it may be off; where none does, the checks that do.
    """
    words = [document.comparison["verdict"].replace("_", " ") for document in documents]
    counts = [_judged(document) for document in documents]
    deciding = [deciding_text(document) for document in documents]
    first, second = max(map(len, words), default=0), max(map(len, counts), default=0)
    longest = max(map(len, deciding), default=0)
    room = max(16, width - first - second - min(longest, width // 2 + 8) - 6)
    names = [_shortened(document.case, room) for document in documents]
    column = max(map(len, names), default=0)
    lines = []
    for word, name, count, decides in zip(words, names, counts, deciding, strict=True):
        text = f"  {name:<{column}}  {count:>{second}}  "
        text += _shortened(decides, width - first - len(text))
        lines.append(SessionLine(f"{word:<{first}}", text.rstrip()))
    return lines


def _judged(document: ComparisonDocument) -> str:
    outcomes = [item["outcome"] for item in document.judgements]
    return f"{outcomes.count('pass')}/{len(outcomes)}"


def deciding_text(document: ComparisonDocument) -> str:
    """What the verdict hangs on: checks against it, and the figure that is nearest its limit."""
    accepted = [
        f"{check['name']} accepted"
        for check in document.comparison["checks"]
        if check["status"] == "accepted"
    ]
    item = max(document.judgements, key=_share_used, default=None)
    figure = [] if item is None else [_figure(item)]
    return ", ".join([*_against(document), *figure, *accepted])


def reasons_line(document: ComparisonDocument) -> str:
    """The verdict and, in short, all that speaks against a pass."""
    figures = [_figure(item) for item in document.judgements if item["outcome"] != "pass"]
    return f"{document.verdict}: {', '.join([*_against(document), *figures])}"


def _against(document: ComparisonDocument) -> list[str]:
    return [f"{check['name']} {check['status']}" for check in document.against]


def _figure(item: Mapping[str, Any]) -> str:
    """A figure's error, where it lies, and what it may be."""
    words = (item["name"], judged_error(item), _brief(item["interval"]), "of", allowed(item))
    return " ".join(filter(None, words))


def _share_used(item: Mapping[str, Any]) -> tuple[bool, float]:
    """How much of what is allowed the far end of the interval takes; what is not known is most."""
    ends = item["interval"] or (item["error"], item["error"])
    known = [abs(end) for end in ends if end is not None]
    limit = item["tolerance"]
    if item["decided_by"] == "floor" and item["real"]:
        limit = item["floor"] / item["real"]
    share = max(known) / limit if known and limit else float("inf")
    return item["outcome"] != "pass", share


def _brief(ends: Sequence[float] | None) -> str:
    return "" if ends is None else f"[{100 * ends[0]:+.1f}, {100 * ends[1]:+.1f}]"


def _shortened(text: str, width: int) -> str:
    """A text that fits, its middle left out: both ends tell cases apart."""
    if len(text) <= width:
        return text
    tail = (width - 1) // 2
    return f"{text[: width - 1 - tail]}…{text[len(text) - tail :]}"


def session_markdown(documents: Sequence[ComparisonDocument]) -> str:
    """A table of verdicts and judged figures, for a summary page such as GitHub's."""
    lines = ["## Simulated against real", "", "| case | verdict | judged | decided by |"]
    lines.append("| --- | --- | ---: | --- |")
    for document in documents:
        row = (document.case, document.verdict, _judged(document), deciding_text(document))
        lines.append(f"| {' | '.join(map(cell, row))} |")
    for document in documents:
        title = markdown(f"{document.case}: {document.title}")
        lines += ["", f"<details><summary>{title}</summary>", ""]
        lines += ["| figure | real | simulated | error | interval | allowed | outcome |"]
        lines += ["| --- | ---: | ---: | ---: | ---: | ---: | --- |"]
        for item in document.judgements:
            real, sim = (quantity(item[side], item["unit"]) for side in ("real", "sim"))
            error = judged_error(item)
            cells = (item["name"], real, sim, error, interval(item["interval"]), allowed(item))
            lines.append(f"| {' | '.join(map(cell, (*cells, item['outcome'])))} |")
        against = [
            f"- `{check['name']}` {check['status']}: {markdown(check['detail'])}"
            for check in document.comparison["checks"]
            if check["status"] not in ("pass", "skip")
        ]
        lines += ["", *against, "", "</details>"]
    return "\n".join(lines) + "\n"
