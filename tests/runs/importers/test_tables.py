"""Tables of one's own as people have them: spreadsheets', pandas', databases', other spellings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_gpusim.columns import split_unit, wall_clock
from pytest_gpusim.errors import GpusimError
from pytest_gpusim.registry import builtin_registry
from pytest_gpusim.runs import Run
from pytest_gpusim.runs.importers import load_real_run
from pytest_gpusim.runs.importers.failures import has_failed

MS = 1_000_000
HEAD = "arrival_s,ttft_ms,e2e_ms,input_tokens,output_tokens"
ROWS = "0,20,35,100,4\n1,30,60,200,5\n"


def load(tmp_path: Path, text: str, **options: Any) -> Run:
    path = tmp_path / "t.csv"
    path.write_text(text)
    return load_real_run(path, builtin_registry(), store=tmp_path / "runs", options=options)


def figures(run: Run) -> list[tuple[float, ...]]:
    rows = run.requests
    times = (rows[name] / MS for name in ("arrival_time_ns", "ttft_ns", "completion_time_ns"))
    return list(
        zip(*times, rows["num_prefill_tokens"], rows["num_decode_tokens_actual"], strict=True)
    )


EXPECTED = [(0, 20, 35, 100, 4), (1000, 30, 1060, 200, 5)]


@pytest.mark.parametrize(
    "text",
    [
        f"{HEAD}\n{ROWS}",
        f"# by a script\n# of mine\n{HEAD}\n{ROWS}# end\n",
        f"# {HEAD}\n{ROWS}",
        f"sep=;\n{HEAD}\n{ROWS}".replace(",", ";"),
        f"{HEAD}\n{ROWS}".replace(",", "|"),
        f"{HEAD}\n{ROWS},,,,\n   \n",
        f"Arrival (s),TTFT (ms),E2E latency [ms],Input Tokens,Output Tokens\n{ROWS}",
        f"arrivalS,ttftMs,e2eMs,inputTokens,outputTokens\n{ROWS}".replace("Tokens", "_tokens"),
        f"arrival_sec,TTFTms,e2e_msec,ISL,OSL\n{ROWS}",
        "timestamp,first_token_latency_ms,end_to_end_latency_ms,num_input_tokens,num_output_tokens\n"
        "2026-05-01T12:00:00Z,20,35,100,4\n2026-05-01T12:00:01Z,30,60,200,5\n",
        "arrival_s,ttft_ms,ttft_s,e2e_ms,isl,osl\n0,20,0.02,35,100,4\n1,30,0.03,60,200,5\n",
    ],
)
def test_one_table_however_it_was_written(tmp_path: Path, text: str) -> None:
    assert figures(load(tmp_path, text)) == EXPECTED


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ttft_ms", ("ttft", "ms")),
        ("Time To First Token (ms)", ("time_to_first_token", "ms")),
        ("latency [µs]", ("latency", "us")),
        ("e2e.msecs", ("e2e", "ms")),
        ("ttft_milliseconds", ("ttft", "ms")),
        ("ms_ttft", ("ttft", "ms")),
        ("TTFTms", ("ttft", "ms")),
        ("durationNs", ("duration", "ns")),
        ("E2E", ("e2e", None)),
        ("items", ("items", None)),
        ("us_east", ("us_east", None)),
        ("start_ts", ("start_ts", None)),
    ],
)
def test_the_unit_that_a_name_says(name: str, expected: tuple[str, str | None]) -> None:
    assert split_unit(name) == expected


def test_a_unit_in_the_name_goes_before_the_common_one(tmp_path: Path) -> None:
    text = f"at,first_msec,total_millis,in,out\n{ROWS}"
    columns = "arrival = at, ttft = first_msec, e2e=total_millis,prefill=in,decode=out,unit=s"
    assert figures(load(tmp_path, text, columns=columns)) == EXPECTED


@pytest.mark.parametrize(
    "text",
    [
        "2026-05-01 12:00:00,250",
        "2026-05-01T12:00:00.25 UTC",
        "2026-05-01 14:00:00.25+02",
        "2026/05/01 12:00:00.250",
        "20260501T120000.25Z",
        "2026-05-01t12:00:00.25z",
    ],
)
def test_moments_as_logs_write_them(text: str) -> None:
    assert wall_clock(text) == wall_clock("2026-05-01T12:00:00.250000Z")


@pytest.mark.parametrize("text", ["2026-05/01 12:00:00", "01/05/2026 12:00:00", "12:00:00", "2026"])
def test_what_is_no_moment(text: str) -> None:
    assert wall_clock(text) is None


NOTHING = ["", "nan", "None", "null", "NA", "n/a", "<NA>", "NaT", "-", "\\N"]


@pytest.mark.parametrize("nothing", NOTHING)
def test_nothing_is_no_error_and_no_figure(tmp_path: Path, nothing: str) -> None:
    rows = f"0,20,35,100,4,{nothing}\n1,{nothing},{nothing},200,{nothing},boom\n"
    run = load(tmp_path, f"{HEAD},error\n{rows}")
    assert run.requests["status"].tolist() == ["ok", "error"]


@pytest.mark.parametrize("said", ["0", "0.0", "False", "[]", "{}", "no"])
def test_no_error_in_other_words(tmp_path: Path, said: str) -> None:
    text = f"{HEAD},error\n0,20,35,100,4,{said}\n1,30,60,200,5,{said}\n"
    assert figures(load(tmp_path, text)) == EXPECTED


@pytest.mark.parametrize(
    ("status", "failed"),
    [
        *((word, False) for word in ("ok", "1.0", "yes", "200.0", "200 ok", "http 200", "eos")),
        *((word, False) for word in ("finished_stopped", "passed", "204", "length")),
        *((word, True) for word in ("0.0", "false", "500", "http 429", "503 service unavailable")),
        *((word, True) for word in ("timeout", "timed out", "cancelled", "valueerror", "rejected")),
        ("green", None),
        ("", None),
    ],
)
def test_what_a_status_says(status: str, failed: bool | None) -> None:
    assert has_failed(status) is failed


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f"{HEAD},status\n0,20,35,100,4,green\n", "column status: expected a known word for succ"),
        (f"{HEAD}\n0,20,35,,4\n", "line 2: was served, and how many tokens its prompt has is not"),
        (f"{HEAD}\n0,20,35,100,\n", "line 2, column output_tokens: expected a whole number, foun"),
        (f"{HEAD}\n0;20,5;35;100;4\n".replace(HEAD, HEAD.replace(",", ";")),
         "found '20,5'; write numbers with a decimal point and without separators"),
        (f'{HEAD}\n0,20,"1,035",100,4\n', "found '1,035'; write numbers with a decimal point"),
        (f"{HEAD}\n0,20,35,100,4,\n", "line 2: has 6 cells, the header has 5"),
        (f"{HEAD}\n", "t.csv: has no rows below its header"),
        ("", "t.csv: is empty"),
        (f"{HEAD}\n12:30:00,20,35,100,4\n", r"\(or a date such as 2026-05-01T12:00:00Z\)"),
    ],
)  # fmt: skip
def test_what_a_table_leaves_open_is_refused(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(GpusimError, match=says):
        load(tmp_path, text)


def test_a_row_without_its_prompt_can_be_left_out(tmp_path: Path) -> None:
    run = load(tmp_path, f"{HEAD}\n{ROWS}2,20,35,,4\n", skip_bad=True)
    assert figures(run) == EXPECTED
    assert any("1 of 3 records" in note for note in run.meta["params"]["import"]["notes"])


def test_the_first_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GpusimError, match="--first 0: expected at least 1"):
        load(tmp_path, f"{HEAD}\n{ROWS}", first=0)
