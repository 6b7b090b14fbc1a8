"""The page of measured points: what it shows of each, of all, and of what was refused."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

import pytest

from pytest_gpusim.points.page import write_points_page
from pytest_gpusim.points.report import _summary
from tests.report.reader import Page

EVIL = "<img src=x onerror=alert(1)>/m\\1"


def row(
    model: str, hardware: str, measured: float, simulated: float, **more: Any
) -> dict[str, Any]:
    place = {
        "model": model, "hardware": hardware, "precision": "fp8", "vllm_version": "0.12.0",
        "tensor_parallel": "2", "isl": "1000", "osl": "100", "concurrency": "8",
        "tpot_ms": str(measured), "ttft_ms": str(10 * measured),
    }  # fmt: skip
    error = simulated / measured - 1
    found = {
        "client": "some", "sim_tpot_ms": simulated, "sim_ttft_ms": 10 * simulated,
        "tpot_error": error, "ttft_error": error, "kernels_tpot_error": error - 0.1,
        "engine_time": None, "estimate_ttft_error": None, "estimate_tpot_error": -0.2,
    }  # fmt: skip
    return {**place, **(more or found)}


def document(*rows: dict[str, Any]) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "simulator": "reference",
        "clients": [{"name": "some", "statistic": "mean", "source": "known by its digits"}],
        "points": list(rows),
        "summary": _summary(rows),
    }


ROWS = (
    row("a/dense", "h100", 10.0, 10.5),
    row("a/dense", "h200", 8.0, 7.6),
    row("a/dense", "h200", 800.0, 720.0),
    row(EVIL, "h100", 20.0, 20.4),
    row("a/dense", "l40s", 9.0, 0.0, refused="the tables have no l40s"),
)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "points.csv"
    path.write_text("model\n")
    return path


def test_errors_come_first_and_every_chart_says_its_result(table: Path, tmp_path: Path) -> None:
    write_points_page(document(*ROWS), table, tmp_path / "pages" / "points.html")
    text = (tmp_path / "pages" / "points.html").read_text()
    page = Page(text)
    assert page.open == []
    assert [link for link in page.links if link != "#content"] == []
    assert "4 of 5 measured points simulated" in page.text
    # By hand: 5%, 5%, 10% and 2%.
    assert "TPOT is off by 5.5% in the mean, at most -10.0%" in page.text
    assert any(
        said == "TPOT of a/dense, simulated against measured: 1 points on h100, off by 5.0% in the "
        "mean; 2 points on h200, off by 7.5% in the mean"
        for said in page.said
    )
    assert page.images == 2 * 2 + 4  # two metrics of two models, and a bar for each point
    assert "error +5.0%, AIConfigurator&#x27;s estimate -20.0%" in text
    assert "the tables have no l40s" in page.text
    assert "a/dense fp8 on 2 × l40s, 1000 in, 100 out, 8 clients" in page.text
    assert "known by its digits" in page.text
    assert [path.name for path in (tmp_path / "pages").iterdir()] == ["points.html"]


def test_names_are_only_words(table: Path, tmp_path: Path) -> None:
    write_points_page(document(*ROWS), table, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert "<img" not in text
    assert any(EVIL in html.unescape(said) for said in Page(text).said)


def test_where_nothing_was_simulated_that_is_said(table: Path, tmp_path: Path) -> None:
    write_points_page(document(ROWS[-1]), table, tmp_path / "page.html")
    page = Page((tmp_path / "page.html").read_text())
    assert "No point could be simulated." in page.text
    assert "the tables have no l40s" in page.text
    assert page.images == 0
