"""Runs by both clocks: the client's own, and what the server told of its engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_gpusim.errors import InputError
from pytest_gpusim.runs import read_run, write_run
from pytest_gpusim.runs.clocks import both_clocks
from pytest_gpusim.runs.schema import ENGINE_COLUMNS
from pytest_gpusim.runs.writer import rewrite_run
from tests.runs.factory import META, REQUESTS, TOKENS, request_row, token_rows

# (sent, token times, queue, prefill, decode): the second is alone, the others overlap.
SERVED = {
    0: (0, [100, 200], 5, 60, 95),
    1: (300, [400, 500], 0, 70, 100),
    2: (600, [700, 900], 0, 80, 190),
    3: (850, [950], 40, 50, 0),
}


def rows_of(sent: int, times: list[int], *engine: int, number: int) -> dict[str, Any]:
    row = request_row(number, times, sent_time_ns=sent, arrival_time_ns=sent)
    row["ttft_ns"] = times[0] - sent
    return {**row, **dict(zip(ENGINE_COLUMNS, engine, strict=True))}


def write(place: Path) -> Path:
    requests = [rows_of(*served, number=n) for n, served in SERVED.items()]
    requests[0]["sent_time_ns"] = None  # not sent by its own account: not compared
    tokens = [row for n, (_, times, *_) in SERVED.items() for row in token_rows(n, times)]
    write_run(place, requests=requests, tokens=tokens, meta={**META, "clock": "client"})
    return place


def test_client_minus_engine_by_request(tmp_path: Path) -> None:
    found = both_clocks(read_run(write(tmp_path / "r")))
    assert found is not None
    assert found.differences("ttft").tolist() == [30, 20, 10]
    assert found.differences("tpot").tolist() == [0, 10]
    assert found.differences("e2e").tolist() == [30, 30, 10]
    # The last one came while the one before was under way, which it did not hold up.
    assert found.alone.tolist() == [True, True, False]
    first, second = found.lines()
    assert "3 requests, all: TTFT +0.00" in first
    assert "2 requests, alone" in second


def test_the_engines_times_are_kept_when_a_run_is_rewritten(tmp_path: Path) -> None:
    run = read_run(write(tmp_path / "r"))
    rewrite_run(run, tmp_path / "s", run.meta)
    name = "request_metrics.csv"
    assert (tmp_path / "s" / name).read_bytes() == (tmp_path / "r" / name).read_bytes()


def test_a_run_without_them_has_one_clock(tmp_path: Path) -> None:
    write_run(tmp_path / "r", requests=REQUESTS, tokens=TOKENS, meta=META)
    assert both_clocks(read_run(tmp_path / "r")) is None


def test_a_part_of_them_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "r") / "request_metrics.csv"
    path.write_text(path.read_text().replace(ENGINE_COLUMNS[1], "other"))
    with pytest.raises(InputError, match="engine_prefill_ns: is missing"):
        read_run(tmp_path / "r")
