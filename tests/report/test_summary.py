"""Markup in names stays words in ``summary.md`` and in the summary of a session."""

from __future__ import annotations

import html
import re
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_gpusim.compare import document_of
from pytest_gpusim.report.session import session_markdown
from pytest_gpusim.report.summary import cell, markdown, summary_markdown
from tests.report.test_report import judged

EVIL = (
    "a|b <img src=x onerror=alert(1)> [go](https://evil.example/x) `rm` ![i](data:x) "
    "</summary></details> www.evil.example \\| \x1b[2J\nnew # line"
)


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    place = tmp_path_factory.mktemp("evil")
    document = document_of(judged(place / "a", model=EVIL), place / "comparison")
    document.meta["causes"] = [f"because of {EVIL}"]
    document.meta["attribution"]["findings"] = [f"found in {EVIL}"]
    for check in document.comparison["checks"]:
        check["detail"], check["status"] = f"seen in {EVIL}", "unknown"
    document = replace(document, path=Path(f"case {EVIL}".replace("/", "-")))
    return {"summary": summary_markdown(document), "session": session_markdown([document])}


@pytest.mark.parametrize("which", ["summary", "session"])
def test_nothing_in_a_name_acts(texts: dict[str, str], which: str) -> None:
    text = texts[which]
    assert "seen in a" in text  # names did come here
    ours = {"<details>", "<summary>", "</summary>", "</details>"}
    assert set(re.findall(r"<[^>]*>", text)) <= ours
    assert text.count("<details>") == text.count("</details>")
    assert not re.search(r"(?<!\\)\[[^\]]*\]\(", text)  # no link, no picture
    assert "://" not in text
    assert "www." not in text
    assert "`rm`" not in text
    assert "\x1b" not in text
    assert not any(line.lstrip().startswith("new #") for line in text.splitlines())


@pytest.mark.parametrize("which", ["summary", "session"])
def test_no_name_makes_a_column(texts: dict[str, str], which: str) -> None:
    columns = None
    for line in texts[which].splitlines():
        found = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else None
        assert None in (found, columns) or found == columns, line
        columns = found


@pytest.mark.parametrize("text", ["a <b> & [c](d) `e`", "x | y \\| z", "https://a www.b.c"])
def test_the_words_stay_what_they_were(text: str) -> None:
    shown = html.unescape(cell(text)).replace("\\[", "[")
    assert shown == text.replace("`", "'")
    assert html.unescape(markdown(text)).replace("\\[", "[") == shown
