"""Tolerances: their one syntax, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import get_type_hints

import pytest

from pytest_gpusim.compare import Tolerance, parse_tolerances
from pytest_gpusim.compare.judging.tolerances import default_limits, duration_ns, read_limits
from pytest_gpusim.compare.metrics import AGREEMENTS, HEADLINES, MS, Tolerances, all_figures
from pytest_gpusim.errors import InputError, UsageError
from pytest_gpusim.report.tolerance_file import read_tolerance_file


def test_a_command_line() -> None:
    given = parse_tolerances("ttft_p50=0.10, makespan=5%,tpot_p50=5%:0.1ms")
    limits = {limit.name: (limit.relative, limit.floor) for limit in read_limits(given)}
    assert limits == {
        "ttft_p50": (0.10, 0.5 * MS),
        "makespan": (0.05, 0.5 * MS),
        "tpot_p50": (0.05, 0.1 * MS),
    }


@pytest.mark.parametrize(
    "given", [0.1, "0.1", "10%", Tolerance(0.1), {"rel": 0.1}, {"rel": "10%"}], ids=str
)
def test_one_tolerance_in_every_way(given: object) -> None:
    (limit,) = read_limits({"e2e_p90": given})  # type: ignore[dict-item]
    assert (limit.relative, limit.floor) == (0.1, 0.5 * MS)


def test_floors_have_a_unit() -> None:
    for given in ("0.1:2ms", Tolerance(0.1, "2ms"), {"rel": 0.1, "abs": "2000us"}):
        (limit,) = read_limits({"ttft_p50": given})
        assert limit.floor == 2 * MS
    (limit,) = read_limits({"goodput": Tolerance(0.1, 0.02)})
    assert limit.floor == 0.02
    assert [duration_ns(text, "it") for text in ("1s", "20 ms", "3us", "4ns")] == [
        1e9,
        20e6,
        3e3,
        4.0,
    ]


def test_the_default_floors_are_those_of_the_documents() -> None:
    floors = {name: metric.floor / MS for name, metric, _ in all_figures() if metric.unit == "ns"}
    assert floors["ttft_p50"] == floors["e2e_p99"] == floors["makespan"] == 0.5
    assert floors["tpot_p50"] == floors["itl_mean"] == floors["normalized_e2e_p90"] == 0.05
    assert floors["queue_delay_p50"] == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ttft_p50", "expected <name>=<tolerance>"),
        ("ttft=0.1", "unknown tolerance 'ttft'"),
        ("ttft_p42=0.1", "unknown tolerance 'ttft_p42'"),
        ("makespan_p50=0.1", "unknown tolerance 'makespan_p50'"),
        ("ttft_p50=ten", "expected a number"),
        ("ttft_p50=-0.1", "at least 0"),
        ("ttft_p50=nan", "at least 0"),
        ("ttft_p50=inf", "at least 0"),
        ("ttft_p50=0.1,ttft_p50=0.2", "given twice"),
        ("ttft_p50=0.1:2", "with its unit"),
        ("ttft_mape=0.1:2ms", "has no floor"),
        ("ttft_p50=0.1,noise_factor=1.5", "noise never widens a tolerance"),
        ("ttft_floor_ms=2", "give each figure its floor"),
        ("", "expected <name>=<tolerance>"),
    ],
)
def test_what_is_no_tolerance(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_tolerances(text)


def test_a_name_may_hold_an_underscore() -> None:
    (limit,) = read_limits({"normalized_e2e_p95": 0.2})
    assert (limit.metric.name, limit.statistic.name) == ("normalized_e2e", "p95")
    assert read_limits({"throughput": 0.1})[0].name == "request_throughput"


def test_what_is_judged_when_nobody_says() -> None:
    assert {limit.name: limit.relative for limit in default_limits()} == dict.fromkeys(
        ("ttft_p50", "ttft_p90", "tpot_p50", "tpot_p90", "e2e_p50", "e2e_p90"), 0.10
    )


def test_the_names_for_type_checkers_are_all_names() -> None:
    respects = {f"{metric}_{each.name}" for metric in HEADLINES for each in AGREEMENTS}
    figures = {name for name, _, _ in all_figures()}
    names = set(get_type_hints(Tolerances, localns={"Given": object}))
    assert names == figures | respects | {"throughput"}


def test_a_toml_file(tmp_path: Path) -> None:
    path = tmp_path / "tolerances.toml"
    path.write_text(
        '[tolerances]\nttft_p50 = 0.10\ntpot_p50 = { rel = 0.05, abs = "0.1ms" }\ne2e_p50 = "5%"\n'
    )
    limits = read_limits(read_tolerance_file(path))
    assert [(limit.name, limit.relative) for limit in limits] == [
        ("ttft_p50", 0.10),
        ("tpot_p50", 0.05),
        ("e2e_p50", 0.05),
    ]
    assert limits[1].floor == 0.1 * MS


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[tolerance]\nttft_p50 = 0.1\n", "no such table"),
        ("[tolerances]\n", "an empty one"),
        ("[tolerances]\nttft_p42 = 0.1\n", "unknown tolerance 'ttft_p42'"),
        ('[tolerances]\nttft_p50 = { abs = "2ms" }\n', "expected rel"),
        ("[tolerances\n", "not TOML"),
    ],
)
def test_a_toml_file_that_cannot_be_used(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "t.toml").write_text(text)
    with pytest.raises(InputError, match=message) as error:
        read_tolerance_file(tmp_path / "t.toml")
    assert "t.toml" in str(error.value)
    with pytest.raises(InputError, match="no such file"):
        read_tolerance_file(tmp_path / "absent.toml")


@pytest.mark.parametrize("number", ["1" + "0" * 400, "1e400", "nan"])
def test_a_number_that_no_float_can_be_is_no_tolerance(tmp_path: Path, number: str) -> None:
    (tmp_path / "t.toml").write_text(f"[tolerances]\nttft_p50 = {number}\n")
    with pytest.raises(InputError, match=r"t\.toml: tolerances: tolerance ttft_p50=.*at least 0"):
        read_tolerance_file(tmp_path / "t.toml")
