"""The page of published runs: our errors beside the published ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_gpusim.cli import main
from tests.llmservingsim import folder as made
from tests.llmservingsim.folder import lone_requests
from tests.published.test_published import ERRORS
from tests.report.reader import Page


def test_the_command_writes_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = made.write_folder(tmp_path / "run<b>", lone_requests(), errors=ERRORS)
    (tmp_path / "empty").mkdir()
    words = ["published", str(folder), "empty", "--simulator", "reference"]
    assert main([*words, "--report", "pages/published.html"]) == 2
    text = (tmp_path / "pages" / "published.html").read_text()
    page = Page(text)
    assert page.open == []
    assert [link for link in page.links if link != "#content"] == []
    assert "15 figures of reference are off by 0.00% in the mean" in page.text
    # By hand from the file's columns: +5.0% and -1.0%.
    assert "the published simulator's 2 by 3.00% in the mean, at most +5.00%." in page.text
    assert page.images == 15
    # An error of some 1e-9 has either sign.
    said = [words.replace("error -0.0%", "error +0.0%") for words in page.said]
    assert "TTFT mean: error +0.0%, the published simulator +5.0%" in said
    assert "TPOT mean: error +0.0%" in said
    assert "enough_samples" in page.text  # a check that did not pass
    assert "a needed check failed" in page.text
    assert "Not compared" in page.text
    assert "vllm_run" in page.text  # why the other folder was not
    assert "run<b>" in page.text
    assert "<b>" not in text
