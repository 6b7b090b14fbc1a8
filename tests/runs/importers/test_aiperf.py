"""``gpusim import-run aiperf``: AIPerf's records, one JSON object a line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_gpusim.errors import InputError
from pytest_gpusim.runs import read_run
from pytest_gpusim.runs.importers.aiperf import import_run, recognises
from tests.runs.importers.samples import AIPERF, import_changed, medians_ms

Record = dict[str, Any]


def records() -> list[Record]:
    return [json.loads(line) for line in AIPERF.read_text().splitlines()]


def lines(entries: list[Record]) -> str:
    return "".join(json.dumps(entry) + "\n" for entry in entries)


def test_what_the_real_tool_wrote_agrees_with_the_figures_that_it_reports(tmp_path: Path) -> None:
    import_run([AIPERF], tmp_path / "run")
    run = read_run(tmp_path / "run")
    assert recognises(AIPERF)
    assert run.requests["status"].tolist() == ["ok", "error", "ok"]
    # profile_export_aiperf.json of the same run, p50.
    assert medians_ms(run)["ttft"] == pytest.approx(16.9524455, abs=1e-6)
    assert medians_ms(run)["e2e"] == pytest.approx(44.531646, abs=1e-6)
    assert medians_ms(run)["tpot"] == pytest.approx(6.06169075, abs=1e-6)
    assert run.requests["error_type"].tolist()[1] == "Bad Request"
    assert "1 warm-up records left out" in run.meta["params"]["import"]["notes"]
    assert run.meta["warmup"] == {"requests": 1}


def test_arrival_is_the_release_of_the_request_not_its_sending(tmp_path: Path) -> None:
    import_run([AIPERF], tmp_path / "run")
    first = read_run(tmp_path / "run").requests.iloc[0]
    source = records()[1]["metadata"]
    late = source["request_start_ns"] - source["credit_issued_ns"]
    assert late > 0
    assert first["sent_time_ns"] - first["arrival_time_ns"] == late


def test_model_and_version_come_from_the_summary_beside_the_records(tmp_path: Path) -> None:
    (tmp_path / "profile_export.jsonl").write_text(AIPERF.read_text())
    summary = {"aiperf_version": "0.13.0", "input_config": {"models": {"items": [{"name": "m"}]}}}
    (tmp_path / "profile_export_aiperf.json").write_text(json.dumps(summary))
    import_run([tmp_path], tmp_path / "run")
    meta = read_run(tmp_path / "run").meta
    assert meta["model"] == "m"
    assert meta["params"]["import"]["tool"] == {"aiperf_version": "0.13.0"}
    assert "model" not in meta["params"]["import"]["not_recovered"]


def test_token_times_only_where_each_chunk_held_one_token(tmp_path: Path) -> None:
    import_run([AIPERF], tmp_path / "merged")
    merged = read_run(tmp_path / "merged")
    assert merged.tokens is None
    assert "1 of 2 requests have none" in " ".join(merged.meta["params"]["import"]["not_recovered"])

    single = [entry for entry in records() if entry["metadata"]["session_num"] != 0]
    run = import_changed(import_run, tmp_path, "single.jsonl", lines(single))
    assert run.tokens is not None
    gaps = run.tokens["token_latency_ns"].tolist()[1:]
    assert gaps == [5322179, 4933057, 5246516, 6332274]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r["metrics"].pop("time_to_first_token"), "line 4, metrics, time_to_first_token"),
        (
            lambda r: r["metrics"]["time_to_first_token"].update(unit="minutes"),
            "line 4, metrics, time_to_first_token, unit: expected one of ns, us",
        ),
        (
            lambda r: r["metrics"]["request_latency"].update(unit="s"),
            "line 4, metrics, request_latency: is ",
        ),
        (
            lambda r: r["metrics"]["inter_chunk_latency"].update(unit="us"),
            "line 4, metrics, inter_chunk_latency: ends ",
        ),
        (
            lambda r: r["metrics"]["time_to_first_token"].update(value=-1),
            "line 4, metrics, time_to_first_token, value: expected a number that is not negative",
        ),
        (
            lambda r: r["metrics"]["time_to_first_token"].update(value=41),
            "line 4, metrics, inter_chunk_latency: ends",
        ),
        (lambda r: r["metadata"].pop("request_start_ns"), "line 4, metadata, request_start_ns"),
        (
            lambda r: r["metadata"].update(benchmark_phase="other"),
            "line 4, metadata, benchmark_phase: expected warmup or profiling",
        ),
    ],
)
def test_a_bad_record_is_refused_by_line_and_field(
    tmp_path: Path, change: Callable[[Record], Any], message: str
) -> None:
    entries = records()
    change(entries[3])
    with pytest.raises(InputError) as caught:
        import_changed(import_run, tmp_path, "profile_export.jsonl", lines(entries))
    assert f"profile_export.jsonl: {message}" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("{}\n", "line 1, metadata: is missing"),
        ('{"metadata": {}}\n{oops\n', "line 1, metadata, benchmark_phase: is missing"),
        ("[1]\n", "entry 0: expected a JSON object"),
        (lines(records()[:1]), "has no measured requests, only 1 of the warm-up"),
        (lines(records()[1:2]) + "{oops\n", "line 2: not JSON"),
    ],
)
def test_a_file_without_requests_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        import_changed(import_run, tmp_path, "profile_export.jsonl", text)
    assert message in str(caught.value)


@pytest.mark.parametrize("value", [[], {}, [["x"]]])
def test_a_conversation_is_named_by_a_text(tmp_path: Path, value: Any) -> None:
    entries = records()
    entries[1]["metadata"]["conversation_id"] = value
    (tmp_path / "x.jsonl").write_text(lines(entries))
    with pytest.raises(InputError, match="line 2, metadata, conversation_id: expected a string"):
        import_run([tmp_path / "x.jsonl"], tmp_path / "run")
    assert not (tmp_path / "run").exists()
