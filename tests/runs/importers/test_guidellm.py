"""``gpusim import-run guidellm``: one benchmark of a GuideLLM report."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_gpusim.errors import InputError
from pytest_gpusim.runs import read_run
from pytest_gpusim.runs.importers.guidellm import import_run, recognises
from tests.runs.importers.samples import GUIDELLM, import_changed, medians_ms


def report() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(GUIDELLM.read_text())
    return document


def test_what_the_real_tool_wrote_agrees_with_the_figures_that_it_reports(tmp_path: Path) -> None:
    import_run([GUIDELLM], tmp_path / "run")
    run = read_run(tmp_path / "run")
    theirs = report()["benchmarks"][0]["metrics"]
    assert recognises(GUIDELLM)
    assert run.requests["status"].tolist() == ["ok", "ok", "error", "ok", "ok", "ok"]
    ours = medians_ms(run)
    assert ours["ttft"] == pytest.approx(
        theirs["time_to_first_token_ms"]["successful"]["median"], abs=1e-3
    )
    assert ours["tpot"] == pytest.approx(
        theirs["inter_token_latency_ms"]["successful"]["median"], abs=1e-3
    )
    assert run.tokens is None
    assert run.meta["model"] == "tiny"
    assert run.requests["error_type"].tolist()[2] == "HTTPStatusError"


def test_arrivals_are_those_of_the_schedule(tmp_path: Path) -> None:
    import_run([GUIDELLM], tmp_path / "run")
    requests = read_run(tmp_path / "run").requests
    gaps = requests["arrival_time_ns"].astype(float).diff().dropna()
    assert gaps.tolist() == pytest.approx([250e6] * 5, abs=500)
    assert (requests["sent_time_ns"] > requests["arrival_time_ns"]).all()


def test_a_report_of_several_benchmarks_needs_one_named(tmp_path: Path) -> None:
    document = report()
    document["benchmarks"] *= 2
    path = tmp_path / "benchmarks.json"
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match=r"benchmarks: has 2.*benchmarks.json#0 to #1"):
        import_run([path], tmp_path / "run")
    with pytest.raises(InputError, match="has 2, there is no #2"):
        import_run([Path(f"{path}#2")], tmp_path / "run")
    import_run([Path(f"{path}#1")], tmp_path / "run")
    assert len(read_run(tmp_path / "run").requests) == 6


def test_warm_up_requests_stay_out(tmp_path: Path) -> None:
    document = report()
    benchmark = document["benchmarks"][0]
    starts = sorted(r["info"]["timings"]["request_start"] for r in successful(document))
    benchmark.update(start_time=starts[1], warmup_duration=0.3)
    run = import_changed(import_run, tmp_path, "benchmarks.json", document)
    assert len(run.requests) == 5
    assert "1 warm-up requests left out" in run.meta["params"]["import"]["notes"]


def successful(document: dict[str, Any]) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = document["benchmarks"][0]["requests"]["successful"]
    return entries


def timings(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = successful(document)[1]["info"]["timings"]
    return found


WHERE = "benchmarks[0], requests, successful[1]"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("benchmarks"), "benchmarks: is missing"),
        (lambda d: d["benchmarks"].clear(), "benchmarks: is empty"),
        (
            lambda d: timings(d).pop("first_token_iteration"),
            f"{WHERE}, info, timings, first_token_iteration: is missing",
        ),
        (
            lambda d: successful(d)[1].update(time_to_first_token_ms=0.017),
            f"{WHERE}, time_to_first_token_ms: is 0.017, the time stamps give ",
        ),
        (
            lambda d: timings(d).update(last_token_iteration=1.0),
            f"{WHERE}: the completion is ",
        ),
        (
            lambda d: successful(d)[1].update(output_tokens="7"),
            f"{WHERE}, output_tokens: expected a finite number, found '7'",
        ),
        (
            lambda d: d["benchmarks"][0]["requests"]["successful"].pop(),
            "benchmarks[0], requests, successful: the report keeps 5 of 6 requests",
        ),
    ],
)
def test_a_bad_report_is_refused_by_field(
    tmp_path: Path, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    document = report()
    change(document)
    with pytest.raises(InputError) as caught:
        import_changed(import_run, tmp_path, "benchmarks.json", document)
    assert f"benchmarks.json: {message}" in str(caught.value)
