"""Reports: what a reader of terminal, HTML and summary gets to see."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from pytest_gpusim.compare import Comparison, ComparisonDocument, compare_runs, document_of
from pytest_gpusim.compare.format import milliseconds, signed_percent
from pytest_gpusim.compare.series import series_of
from pytest_gpusim.errors import InputError
from pytest_gpusim.report.charts import CHARTS
from pytest_gpusim.report.charts.canvas import write_charts
from pytest_gpusim.report.charts.requests import REQUEST_CHARTS
from pytest_gpusim.report.directory import update_comparison, write_comparison
from pytest_gpusim.report.html import write_session_report
from pytest_gpusim.report.page import render
from pytest_gpusim.report.session import session_lines, session_markdown, told_apart
from pytest_gpusim.report.terminal import comparison_lines, detail_lines, failure_lines
from pytest_gpusim.report.versions import read_document
from tests.compare.runs import MS, PROFILE, real_run, sim_run, steady
from tests.report.reader import Page


def judged(
    path: Path, *, ttft: float = 105, model: str = "tiny/model", profile: Any = PROFILE
) -> Comparison:
    """A comparison of runs below ``path``, itself not written."""
    path.mkdir()
    real = [
        real_run(path / f"real{k}", steady(24, ttft=100 + k), meta={"model": model})
        for k in range(3)
    ]
    steps = [
        {
            "step": i,
            "start_ns": i * 20 * MS,
            "duration_ns": 20 * MS,
            "num_sequences": 1,
            "extrapolated": 0,
        }
        for i in range(5)
    ]
    sim = sim_run(
        path / "sim",
        steady(24, ttft=ttft),
        steps=steps,
        meta={"profile": {**profile, "model": model} if profile else None, "calibrated_on": []},
    )
    return compare_runs(real, sim).judged({"ttft_p50": 0.10, "tpot_p50": 0.05})


def written(path: Path, **how: Any) -> Written:
    comparison = judged(path, **how)
    write_comparison(comparison, path / "comparison")
    return Written(comparison, path / "comparison")


@dataclass
class Written:
    """A comparison and its directory."""

    comparison: Comparison
    path: Path

    def document(self) -> ComparisonDocument:
        return document_of(self.comparison, self.path)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Written:
    return written(tmp_path_factory.mktemp("good") / "a")


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Written:
    return written(tmp_path_factory.mktemp("bad") / "b", ttft=200)


def test_the_report_needs_no_other_file(good: Written) -> None:
    text = (good.path / "report.html").read_text()
    page = Page(text)
    assert page.open == []
    bars = len(good.comparison.judgements)
    assert page.images == len(list((good.path / "figures").iterdir())) + bars
    assert all(link.startswith(("data:image/png;base64,", "#")) for link in page.links)
    assert not re.search(r"url\((?!#)", text)
    assert 'aria-label="TTFT: p50 real 101.0 ms, simulated 105.0 ms, error +4.0%' in text
    assert 'aria-label="ttft_p50: error +4.0%, interval [' in text
    for part in ("ttft_p50", "prefix_cache_cold", "105.0 ms", "Where the error comes from"):
        assert part in text


def test_names_from_files_are_escaped(tmp_path: Path) -> None:
    comparison = written(tmp_path / "a", model="<script>alert(1)</script>")
    text = (comparison.path / "report.html").read_text()
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)" in text


def test_nothing_in_a_page_turns_its_writing() -> None:
    items = {
        "items": [],
        "counts": {},
        "loads": [],
        "shared": "",
        "title": "x\x1b[2J\u202ey\x00\u2066",
    }
    text = render("session.html.j2", **items)
    assert "x\\x1b[2J\\u202ey\\x00\\u2066" in text
    assert not {"\x1b", "\u202e", "\x00", "\u2066"} & set(text)


def test_one_page_over_a_session(tmp_path: Path, good: Written, bad: Written) -> None:
    paths = [good.path, bad.path]
    out = tmp_path / "reports" / "session.html"
    write_session_report(paths, out)
    text = out.read_text()
    page = Page(text)
    assert page.open == []
    bars = sum(len(made.comparison.judgements) for made in (good, bad))
    assert page.images == 2 * len(list((good.path / "figures").iterdir())) + bars
    inner = [link.removeprefix("#") for link in page.links if link.startswith("#")]
    assert {"c1", "c2", "content"} <= set(inner)
    assert set(inner) <= page.anchors
    assert not [link for link in page.links if not link.startswith(("#", "data:"))]
    assert re.findall(r'<span class="pill (\w+)">1 (\w+)</span>', text) == [
        ("pass", "pass"),
        ("fail", "fail"),
    ]
    assert [path.name for path in out.parent.iterdir()] == ["session.html"]


def test_an_incomplete_comparison_is_named(tmp_path: Path) -> None:
    (tmp_path / "half").mkdir()
    with pytest.raises(InputError, match=r"half/comparison\.json: no such file"):
        write_session_report([tmp_path / "half"], tmp_path / "session.html")
    with pytest.raises(InputError, match="no such file"):
        read_document(tmp_path / "half")


def test_terminal(bad: Written) -> None:
    text = "\n".join(comparison_lines(bad.document(), 120))
    assert re.search(r"TTFT p50 .*101\.0 ms .*200\.0 ms .*\+98\.0% .*\[\+94\.\d%, .*1\.0%", text)
    assert re.search(r"ttft_p50 .*\+98\.0% .*10\.0% .*fail +off by", text)
    assert re.search(r"tpot_p50 .*pass", text)
    assert re.search(r"overhead_counted .*pass", text)
    assert "request throughput: real" in text
    assert "TTFT of single requests: error per request 0.9" in text
    assert text.endswith("verdict: fail")
    details = "\n".join(detail_lines(bad.document(), 120))
    assert re.search(r"TTFT +101\.0 ms +200\.0 ms +\+98\.0% ±\d\.\d%", details)
    assert re.search(r"makespan +23\.20 s ", details)
    assert " - most of the error lies in prefill: 101.0 ms real, 200.0 ms simulated" in details


def test_a_session_is_a_line_a_case(good: Written, bad: Written) -> None:
    lines = session_lines([good.document(), bad.document()], 120)
    assert [line.verdict.strip() for line in lines] == ["pass", "fail"]
    assert re.search(
        r"comparison +2/2 +ttft_p50 \+4\.0% \[\+\d.\d, \+\d.\d\] of 10\.0%$", lines[0].text
    )
    assert re.search(r"comparison +1/2 +ttft_p50 \+98\.0% \[", lines[1].text)
    page = session_markdown([good.document(), bad.document()])
    assert "| comparison | fail | 1/2 | ttft_p50 +98.0% \\[" in page
    assert re.search(r"\| ttft_p50 \| 101\.0 ms \| 200\.0 ms \| \+98\.0% \|", page)


def test_cases_of_one_name_are_told_apart_by_their_tests(good: Written, bad: Written) -> None:
    other = replace(bad.document(), path=Path("other"))
    found = told_apart([good.document(), bad.document(), other], [f"t.py::test_{n}" for n in "abc"])
    assert [each.case for each in found] == [
        "comparison (test_a)",
        "comparison (test_b)",
        "other",
    ]


@pytest.mark.parametrize("width", [80, 100, 160, 200])
def test_the_terminal_is_never_wider_than_it_is(width: int, good: Written, bad: Written) -> None:
    documents = [replace(made.document(), path=Path("x" * 90)) for made in (good, bad)]
    lines = [line.verdict + line.text for line in session_lines(documents, width)]
    for document in documents:
        lines += [*comparison_lines(document, width), *detail_lines(document, width)]
    assert max(map(len, lines)) <= width


def test_terminal_and_summary_say_where_the_error_comes_from(bad: Written) -> None:
    terminal = "\n".join(comparison_lines(bad.document(), 120))
    summary = (bad.path / "summary.md").read_text()
    assert re.search(r"prefill +101\.0 ms +200\.0 ms +\+49\.2%", terminal)
    assert "| prefill | 101.0 ms | 200.0 ms | +49.2% |" in summary
    assert "### By prompt length" not in summary  # all prompts are of one length
    assert "| mlp_up_proj | 80.0% |" in summary


def test_what_is_not_judged_is_grey_and_never_a_pass(tmp_path: Path, good: Written) -> None:
    unjudged = compare_runs(good.comparison.sides.real, good.comparison.sides.sim)
    path = tmp_path / "comparison"
    shutil.copytree(good.path, path)
    update_comparison(unjudged, path)
    assert comparison_lines(document_of(unjudged))[-1] == "verdict: not judged"
    assert "**Verdict: not judged**" in (path / "summary.md").read_text()
    page = (path / "report.html").read_text()
    assert '<span class="pill verdict not_judged">not judged</span>' in page


def test_what_nobody_may_accept_is_not_offered(tmp_path: Path) -> None:
    document = document_of(judged(tmp_path / "a", profile=None).judged())
    (check,) = [c for c in document.comparison["checks"] if c["name"] == "not_calibrated_on"]
    check["status"] = "unknown"
    (line,) = [line for line in failure_lines(document) if "check not_calibrated_on" in line]
    assert line.endswith("; state calibrated_on")


@pytest.mark.parametrize(
    ("name", "offered"), [("profile_covers", True), ("settings_mirrored", False)]
)
def test_a_failure_that_may_be_accepted_is_offered(
    tmp_path: Path, name: str, offered: bool
) -> None:
    document = document_of(judged(tmp_path / "a", profile=None).judged())
    (check,) = [c for c in document.comparison["checks"] if c["name"] == name]
    check["status"] = "fail"
    line = f"  may be accepted although failed: {name}"
    assert (line in failure_lines(document)) is offered


def test_what_was_accepted_stands_beside_the_verdict(tmp_path: Path) -> None:
    silent = judged(tmp_path / "a", profile=None)
    assert silent.judged().verdict == "inconclusive"
    text = "\n".join(failure_lines(document_of(silent.judged())))
    assert "check profile_matches is unknown" in text
    assert "state device_name, or accept profile_matches" in text
    assert 'to state: sim_vs_real(…, stated={"device_name": …}), --state device_name=…' in text
    assert 'to accept: check(…, accept=["profile_matches"]), --accept profile_matches' in text
    accept = ["profile_matches"]
    accepted = silent.judged(accept=accept)
    assert accepted.verdict == "pass"
    assert comparison_lines(document_of(accepted))[-1] == (
        "verdict: pass (profile_matches accepted)"
    )


def test_figures_are_the_same_bytes_each_time(tmp_path: Path, good: Written) -> None:
    """And the same, whichever charts were drawn on their axes before."""
    sides = good.comparison.sides
    again = series_of(compare_runs(sides.real, sides.sim).sides)
    for chart in CHARTS:
        write_charts([chart], again, {"ttft": 0.10, "tpot": 0.05}, tmp_path)
    names = sorted(path.name for path in (good.path / "figures").iterdir())
    assert {f"{chart.name}.svg" for chart in REQUEST_CHARTS} <= set(names)
    assert "kv_cache.svg" not in names  # these runs do not say it
    for name in names:
        made = (good.path / "figures" / name).read_bytes()
        assert (tmp_path / name).read_bytes() == made


def test_numbers() -> None:
    assert milliseconds(2_000_000) == "2.000 ms"
    assert milliseconds(17_312_345) == "17.31 ms"
    assert milliseconds(1_234_567_890) == "1,235 ms"
    assert milliseconds(65_191_000_000) == "65.19 s"
    assert milliseconds(None) == "n/a"
    assert signed_percent(-0.884) == "-88.4%"
    assert signed_percent(None) == "n/a"


def test_start_up_imports_nothing_heavy() -> None:
    modules = (
        "pytest_gpusim.compare, pytest_gpusim.compare.judging.tolerances, "
        "pytest_gpusim.report.terminal, pytest_gpusim.report.html, pytest_gpusim.report.summary, "
        "pytest_gpusim.report.charts"
    )
    heavy = "{'pandas', 'numpy', 'matplotlib', 'scipy', 'jinja2', 'jsonschema', 'rich', 'torch'}"
    code = f"import sys, {modules}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
