"""A comparison's directory: what lies in it, that it is whole, and the same for the same runs."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest
from jsonschema import ValidationError, validate

from pytest_gpusim.compare import Comparison, compare_runs
from pytest_gpusim.compare.checks import CHECKS
from pytest_gpusim.compare.schema import comparison_schema
from pytest_gpusim.errors import InputError, UsageError
from pytest_gpusim.report.charts.requests import REQUEST_CHARTS
from pytest_gpusim.report.directory import update_comparison, write_comparison
from pytest_gpusim.report.terminal import comparison_lines
from pytest_gpusim.report.versions import read_document
from tests.compare.runs import MS, real_run, request, sim_run, steady


def comparison_of(path: Path, **sim: Any) -> Comparison:
    real = [real_run(path / f"real{k}", steady(24, ttft=100 + k)) for k in range(2)]
    return compare_runs(real, sim_run(path / "sim", steady(24, **{"ttft": 110, **sim})))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Comparison, Path]:
    """A comparison that is not judged, and where it is written; read-only."""
    path = tmp_path_factory.mktemp("made")
    comparison = comparison_of(path)
    write_comparison(comparison, path / "out")
    return comparison, path / "out"


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as stream:
        return list(csv.DictReader(stream))


def test_the_files_of_the_contract(made: tuple[Comparison, Path]) -> None:
    _, out = made
    names = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert names == {
        "summary.md",
        "report.html",
        "comparison.json",
        "run_meta.json",
        "tables/percentiles.csv",
        "tables/requests.csv",
        *(f"figures/{chart.name}.svg" for chart in REQUEST_CHARTS),
    }
    document = read(out / "comparison.json")
    assert list(document) == [
        "schema_version",
        "real_runs",
        "sim_run",
        "metrics",
        "throughput",
        "goodput",
        "distribution",
        "checks",
        "judgements",
        "verdict",
    ]
    assert document["schema_version"] == 2
    assert document["real_runs"] == ["real0", "real1"]
    # Geometric means of 100 and 101 ms, and of 23,200 and 23,201 ms.
    assert document["metrics"]["ttft"]["p50"]["real_ns"] == round(10_100**0.5 * MS)
    spread = math.log(23_201 / 23_200) / 2**0.5
    assert document["metrics"]["makespan"]["run_sd"] == pytest.approx(spread, abs=1e-5)
    assert len(document["checks"]) == len(CHECKS)


def test_the_same_runs_give_the_same_bytes(tmp_path: Path, made: tuple[Comparison, Path]) -> None:
    (comparison, a), b = made, tmp_path / "again"
    write_comparison(compare_runs(comparison.sides.real, comparison.sides.sim), b)
    compared = [p.relative_to(a) for p in a.rglob("*") if p.is_file()]
    same = {str(p) for p in compared if (a / p).read_bytes() == (b / p).read_bytes()}
    # Only these two say when they were written, and where.
    assert {str(p) for p in compared} - same == {"run_meta.json", "report.html"}


def test_tables(tmp_path: Path) -> None:
    real = real_run(tmp_path / "real", [request(0, 0, [100, 120]), request(1, 500, [700])])
    sim = sim_run(tmp_path / "sim", [request(0, 0, [110, 135]), request(1, 500, [650])])
    write_comparison(compare_runs([real], sim), tmp_path / "out")
    percentiles = rows(tmp_path / "out" / "tables" / "percentiles.csv")
    found = {(row["metric"], row["statistic"]): row for row in percentiles}
    assert found["ttft", "mean"] == {
        "metric": "ttft",
        "statistic": "mean",
        "real_ns": str(150 * MS),
        "sim_ns": str(130 * MS),
        "error": "-0.133333333",
        "run_sd": "",
        "low": "",
        "high": "",
    }
    assert found["makespan", ""]["sim_ns"] == str(650 * MS)
    first, second = rows(tmp_path / "out" / "tables" / "requests.csv")
    assert first["real_ttft_ns"] == str(100 * MS)
    assert first["sim_tpot_ns"] == str(25 * MS)
    assert first["ttft_error"] == "0.1"
    assert second["real_tpot_ns"] == ""
    assert second["num_decode_tokens_actual"] == "1"


def test_judging_brings_the_directory_up_to_date(tmp_path: Path) -> None:
    comparison = comparison_of(tmp_path, ttft=150)
    out = tmp_path / "out"
    write_comparison(comparison, out)
    assert read(out / "comparison.json")["verdict"] == "not_judged"
    update_comparison(comparison.judged({"ttft_p50": 0.10}), out)
    document = read(out / "comparison.json")
    assert document["verdict"] == "fail"
    (judged,) = document["judgements"]
    assert (judged["name"], judged["outcome"]) == ("ttft_p50", "fail")
    assert judged["interval"][0] < judged["error"] < judged["interval"][1]
    assert "**fail**: off by more than the tolerance" in (out / "summary.md").read_text()
    assert not [path for path in out.rglob("*") if "partial" in path.name]


def test_a_document_of_the_first_schema_is_still_read(
    tmp_path: Path, made: tuple[Comparison, Path]
) -> None:
    document, meta = read(made[1] / "comparison.json"), read(made[1] / "run_meta.json")
    out = tmp_path
    figure = {"real_ns": 100, "sim_ns": 110, "error": 0.1, "noise": 0.02}
    statistics = dict.fromkeys(("p50", "p90", "p95", "p99", "mean"), figure)
    metrics = dict.fromkeys(document["metrics"], statistics) | {"makespan": figure}
    checks = [
        {"name": "same_workload", "status": "pass", "detail": ""},
        {"name": "overhead_counted", "status": "overridden", "detail": "said"},
    ]
    first = {"schema_version": 1, "real_runs": ["a"], "sim_run": "b", "metrics": metrics,
             "checks": checks, "verdict": "pass"}  # fmt: skip
    judgement = {"name": "ttft_p50", "outcome": "pass", "real_ns": 100, "sim_ns": 110,
                 "error": 0.1, "tolerance": 0.2, "floor_ns": 5e5, "noise": 0.02,
                 "reason": ""}  # fmt: skip
    (out / "comparison.json").write_text(json.dumps(first))
    for judgements, verdict in (([judgement], "pass"), ([], "not_judged")):
        (out / "run_meta.json").write_text(json.dumps({**meta, "judgements": judgements}))
        found = read_document(out)
        assert found.comparison["verdict"] == verdict
        assert found.comparison["metrics"]["ttft"]["p50"]["interval"] is None
        assert [check["status"] for check in found.comparison["checks"]] == ["pass", "accepted"]
        assert comparison_lines(found)
    (out / "comparison.json").write_text(json.dumps({**first, "schema_version": 3}))
    with pytest.raises(InputError, match="newer than the 2"):
        read_document(out)


def test_what_is_not_available_is_null_with_the_reason(tmp_path: Path) -> None:
    real = real_run(tmp_path / "real", steady(24), token_times=False)
    write_comparison(compare_runs([real], sim_run(tmp_path / "sim", steady(24))), tmp_path / "out")
    document = read(tmp_path / "out" / "comparison.json")
    assert document["metrics"]["itl"] is None
    assert document["metrics"]["ttft"]["p50"]["interval"] is None
    assert "itl: real: the run has no token times" in json.dumps(document["checks"])
    assert "no token times" in (tmp_path / "out" / "summary.md").read_text()
    assert "no token times" in (tmp_path / "out" / "report.html").read_text()


def test_a_comparison_without_a_finished_request_can_be_written(tmp_path: Path) -> None:
    real = real_run(tmp_path / "real", [request(0, 0, [], asked=2, error="Crash")])
    sim = sim_run(tmp_path / "sim", [request(0, 0, [1, 2])])
    write_comparison(compare_runs([real], sim).judged(), tmp_path / "out")
    document = read(tmp_path / "out" / "comparison.json")
    assert document["verdict"] == "inconclusive"
    assert set(document["metrics"].values()) == {None}
    assert "NaN" not in (tmp_path / "out" / "comparison.json").read_text()


def test_a_directory_that_is_not_empty_is_refused(
    tmp_path: Path, made: tuple[Comparison, Path]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="not empty"):
        write_comparison(made[0], tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_nothing_is_left_when_writing_breaks_off(tmp_path: Path) -> None:
    comparison = comparison_of(tmp_path)
    before = set(tmp_path.iterdir())
    # A label that no encoding can write: the summary breaks off after tables and charts.
    comparison.sides.real[0].meta["model"] = "half of a pair: \ud800"
    with pytest.raises(UnicodeEncodeError):
        write_comparison(comparison, tmp_path / "out")
    assert set(tmp_path.iterdir()) == before


def test_the_schema_refuses_what_is_not_in_the_contract(made: tuple[Comparison, Path]) -> None:
    document = made[0].to_json()
    schema = comparison_schema()
    validate(document, schema)
    for broken in (
        {**document, "verdict": "maybe"},
        {**document, "extra": 1},
        {**document, "checks": document["checks"][1:]},
        {**document, "metrics": {**document["metrics"], "ttft": {"p50": 1}}},
    ):
        with pytest.raises(ValidationError):
            validate(broken, schema)
