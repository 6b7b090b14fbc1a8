"""What commands print fits a terminal of 80 columns and more, whatever things are called."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.cells import cell_len

from pytest_gpusim.checks import Check
from pytest_gpusim.cli.profiles import check_lines
from pytest_gpusim.doctor import report_lines
from pytest_gpusim.history.show import case_lines, overview_lines
from pytest_gpusim.planning.bearing import Bearing
from pytest_gpusim.planning.capacity import Capacity, Load
from pytest_gpusim.planning.decided import lines_of
from pytest_gpusim.planning.decision import Decision, Setting
from pytest_gpusim.planning.figures import FIGURES
from pytest_gpusim.planning.search import Rates
from pytest_gpusim.planning.slo import parse_limits
from pytest_gpusim.planning.sweep import Row, Sweep
from pytest_gpusim.planning.sweep_page import sweep_lines
from pytest_gpusim.points.shown import points_lines
from pytest_gpusim.prediction import prediction_lines
from pytest_gpusim.printing import printed_width, table_lines, wrapped
from pytest_gpusim.published import published_lines
from tests.history.test_history import entry
from tests.points.test_page import document, row

NAME = "an-organisation-of-many-words/a-model-70B-Instruct [with] 名前-in-fp8"
WORDS = f"a sentence about {NAME} " * 5


def check(width: int | None) -> list[str]:
    checks = [Check("files", "pass", "short"), Check(f"{'x' * 40}: digest", "fail", WORDS)]
    return check_lines(checks, width)


def history(width: int | None) -> list[str]:
    again = entry(2, -0.34567, case=NAME, workload_digest="w2", outcome="inconclusive", run_sd=1.23)
    entries = [entry(1, 9.87, case=NAME), again]
    return [*case_lines(entries, (), width), *overview_lines(entries)]


def decide(width: int | None) -> list[str]:
    settings = (
        Setting(f"{NAME}, one", (12345.7, 23456.8), (9999.9,)),
        Setting(f"{NAME}, two", (12345.7, 23456.8), (19999.9,), simulated_bound="at least"),
    )
    decision = Decision(f"e2e_p99 of {NAME} at load 123.456", settings, False, notes=(WORDS,))
    found: Any = SimpleNamespace(
        settings={"one": None, "two": None},
        capacities=[],
        limits=parse_limits("ttft_p90=500ms,tpot_p90=40ms,e2e_p90=20s"),
        bearings=[Bearing(NAME, 12345.6, 1.0, (1.23, 1.25), (0.97,))],
        evidence=[SimpleNamespace(against=[Check("roles", "fail", WORDS)], place=WORDS)],
    )
    return lines_of(found, [decision], width)


def capacity(width: int | None) -> list[str]:
    times = {name: 123_456_789_012 for name in FIGURES if name.endswith("_ns")}
    curve = tuple(Load(1234.5 * at, 0.5, {**times, "requests_per_s": 1234.5}) for at in (1, 2))
    limits = parse_limits("ttft_p90=500ms,tpot_p90=40ms,e2e_p90=20s")
    seeds, broken = {0: 1234.5, 1: 2345.6}, ("ttft_p90", "tpot_p90", "e2e_p90")
    found = Capacity(limits, Rates(0.02), seeds, 1700, (1, 2000), curve, 1234.5, broken, None)
    return found.lines(width)


def sweep(width: int | None) -> list[str]:
    place = {"model": f"models/{NAME}", "load.rate": 12.25, "engine.max_num_batched_tokens": 65536}
    figures = dict.fromkeys(FIGURES, 9_123_456_789)
    rows = (Row(place, "k", "done", figures=figures), Row(place, status="failed", reason=WORDS))
    return sweep_lines(Sweep(Path("out"), tuple(place), rows), width or 120)


def points(width: int | None) -> list[str]:
    rows = (row(NAME, "h200", 1234.5, 4321.0), row(NAME, "l40s", 9.0, 0.0, refused=WORDS))
    found = document(*rows)
    found["distrusted"] = [{"table": WORDS, "points": 1}]
    return list(points_lines(found, width))


def published(width: int | None) -> list[str]:
    figure = {"real_ns": 123_456_789_012, "sim_ns": 123_456_789_012, "error": -1.2345}
    known, unknown = {**figure, "published_error": 12.345}, dict.fromkeys(figure)
    settings = {
        "model": NAME, "device_name": NAME, "engine": {"max_num_seqs": 256, "dtype": WORDS},
        "kv_blocks_derived_from": {"formula": WORDS}, "engine_time": WORDS, "notes": [WORDS],
        "extrapolated": {"share": 0.1, "rule": WORDS}, "failed_requests": 3, "simulator": "vidur",
    }  # fmt: skip
    checks = [{"name": "roles", "status": "fail", "detail": WORDS}]
    metrics = {"ttft": {"mean": known, "p99": {**unknown, "published_error": None}}}
    run = {"name": NAME, "settings": settings, "checks": checks, "metrics": metrics}
    return list(published_lines({"runs": [run]}, width))


def doctor(width: int | None) -> list[str]:
    found = {
        "tool_version": "0.1.0", "python": "3.11", "packages": {"numpy": "2.0"},
        "vidur": {"supported": False, "version": None, "location": None,
                  "upstream": {"state": WORDS, "checkout": None, "environment": None,
                               "commit": None}},
        "vllm": {"version": "0.32.0", "location": "/a/place"}, "hardware": {"cpu": NAME},
        "profiling_root": "tmp", "bundles": [], "can": {"do it": {"ok": False, "why": WORDS}},
    }  # fmt: skip
    return report_lines(found)


def prediction(width: int | None) -> list[str]:
    figure = {"ns": 123_456_789_012, "low_ns": 123_456_789_012, "high_ns": 923_456_789_012}
    return list(prediction_lines({"level": 0.9, "metrics": {"ttft": {"mean": figure}}}))


PRINTED: list[Callable[[int | None], list[str]]] = [
    check, history, decide, capacity, sweep, points, published, doctor, prediction,
]  # fmt: skip
WHOLE_NUMBERS = {
    "history": ["+987.0%"], "decide": ["17901", "at least 20000"], "capacity": ["1234", "123456.8"],
    "sweep": ["9,123"], "points": ["1234.50", "12345.0", "4321.00", "+250.0%"],
    "published": ["123456.79", "-123.45%", "+1234.50%"], "prediction": ["123,456.79"],
}  # fmt: skip


def too_wide(lines: Iterable[str], width: int) -> list[str]:
    """Those that are wider than the terminal, but for a single word: a path stays whole."""
    return [line for line in lines if cell_len(line) > width and " " in line.strip()]


@pytest.mark.parametrize("width", [80, 100, 160, 200])
@pytest.mark.parametrize("make", PRINTED, ids=lambda make: make.__name__)
def test_what_a_command_prints_fits(make: Callable[[int | None], list[str]], width: int) -> None:
    lines = [piece for line in make(width) for piece in wrapped(line, width)]
    assert too_wide(lines, width) == []
    text = "\n".join(lines)
    assert "…" not in text
    assert "名前" in text.replace("\n", "") or make in (capacity, prediction)
    for number in WHOLE_NUMBERS.get(make.__name__, ()):
        assert number in text, number


@pytest.mark.parametrize("make", PRINTED, ids=lambda make: make.__name__)
def test_without_a_terminal_prose_is_a_line_a_fact(make: Callable[..., list[str]]) -> None:
    whole = [line for line in make(None) if WORDS.strip() in line]
    assert whole or make in (history, capacity, sweep, prediction)


def test_a_table_folds_names_first_and_cuts_nothing() -> None:
    rows = [("a name of words that is long", "1234567890"), ("b", "1")]
    assert table_lines(("name", "number"), rows, 80) == [
        "  name                              number",
        "  a name of words that is long  1234567890",
        "  b                                      1",
    ]
    assert table_lines(("name", "number"), rows, 26, indent=0) == [
        "name                number",
        "a name of       1234567890",
        "words that is",
        "long",
        "b                        1",
    ]
    squeezed = "".join(table_lines(("n", "number"), [("x", "1234567890")], 8, indent=0)).split()
    assert "".join(squeezed).replace("number", "").strip("nx") == "1234567890"


def test_markup_of_a_terminal_in_a_name_is_only_text() -> None:
    (_, line) = table_lines(("name",), [("[bold]x[/] :smile: [/nothing]",)], 80, indent=0)
    assert line == "[bold]x[/] :smile: [/nothing]"


def test_words_stay_whole_and_go_on_below() -> None:
    path = "/a/" + "path" * 30
    assert wrapped(f"  see {path} and more", 40) == ["  see", f"    {path}", "    and more"]
    assert wrapped("  名前 名前 名前", 8) == ["  名前", "    名前", "    名前"]


def test_a_pipe_is_not_wrapped_unless_columns_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert printed_width() is None
    for columns, width in (("20", 80), ("100", 100), ("1000", 200), ("many", None)):
        monkeypatch.setenv("COLUMNS", columns)
        assert printed_width() == width
