"""``gpusim import-run inference-perf``: its list of per-request records."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_gpusim.errors import InputError
from pytest_gpusim.runs import read_run
from pytest_gpusim.runs.importers.inference_perf import import_run, recognises
from tests.runs.importers.samples import INFERENCE_PERF, import_changed, medians_ms


def entries() -> list[dict[str, Any]]:
    document: list[dict[str, Any]] = json.loads(INFERENCE_PERF.read_text())
    return document


def test_what_the_real_tool_wrote_agrees_with_the_figures_that_it_reports(tmp_path: Path) -> None:
    import_run([INFERENCE_PERF], tmp_path / "run")
    run = read_run(tmp_path / "run")
    assert recognises(INFERENCE_PERF)
    assert run.meta["model"] == "tiny"
    # summary_lifecycle_metrics.json of the same run, median. (Its request_latency goes on after the
    # last token, so E2E is not comparable.)
    assert medians_ms(run)["ttft"] == pytest.approx(21.663646999, abs=1e-5)
    assert medians_ms(run)["tpot"] == pytest.approx(8.360478083, abs=1e-5)
    assert run.tokens is not None
    assert (run.requests["num_decode_tokens"] == run.requests["num_decode_tokens_actual"]).all()


def test_an_error_record_stays_in(tmp_path: Path) -> None:
    """Built from the schema (``ErrorResponseInfo``): the genuine run had no error."""
    document = entries()
    document[2]["error"] = {"error_type": "TimeoutError", "error_msg": "too\nlate"}
    document[2]["info"]["response_metrics"] = None
    run = import_changed(import_run, tmp_path, "requests.json", document)
    row = run.requests.iloc[2]
    assert (row["status"], row["error_type"], row["error_msg"]) == (
        "error",
        "TimeoutError",
        "too late",
    )
    assert len(run.requests) == 6


def test_where_a_chunk_held_several_tokens_the_last_one_ends_the_request(tmp_path: Path) -> None:
    document = entries()
    times = response(document)["output_token_times"]
    response(document)["server_usage"]["completion_tokens"] += 2
    run = import_changed(import_run, tmp_path, "requests.json", document)
    row = run.requests.iloc[3]
    assert run.tokens is None
    assert times[-1] < document[3]["end_time"]
    last = (times[-1] - document[3]["start_time"]) * 1e9
    assert row["completion_time_ns"] - row["arrival_time_ns"] == pytest.approx(last, abs=2)


def response(document: list[dict[str, Any]]) -> dict[str, Any]:
    metrics: dict[str, Any] = document[3]["info"]["response_metrics"]
    return metrics


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d[3].pop("start_time"), "record 3, start_time: is missing"),
        (lambda d: d[3].update(end_time=1.0), "record 3, end_time: is "),
        (lambda d: d[3].pop("info"), "record 3, info: is missing; set report"),
        (
            lambda d: response(d).update(output_token_times=[]),
            "record 3, info, response_metrics, output_token_times: is missing or empty",
        ),
        (
            lambda d: response(d)["output_token_times"].reverse(),
            "record 3, info, response_metrics, output_token_times[1]: ",
        ),
        (
            lambda d: response(d).update(
                output_token_times=[t * 1000 for t in response(d)["output_token_times"]]
            ),
            "record 3, info, response_metrics, output_token_times[0]: ",
        ),
    ],
)
def test_a_bad_record_is_refused_by_field(
    tmp_path: Path, change: Callable[[list[dict[str, Any]]], Any], message: str
) -> None:
    document = entries()
    change(document)
    with pytest.raises(InputError) as caught:
        import_changed(import_run, tmp_path, "requests.json", document)
    assert f"requests.json: {message}" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"), [("{}", "expected a JSON list"), ("[]", "has no requests")]
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        import_changed(import_run, tmp_path, "requests.json", text)
