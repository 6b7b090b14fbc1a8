"""``gpusim import-run vllm-bench``: detailed results of ``vllm bench serve``, old and new."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_gpusim.errors import InputError, UsageError
from pytest_gpusim.runs import Run, read_run
from pytest_gpusim.runs.importers.vllm_bench import import_run, recognises
from tests.runs.importers.samples import VLLM_BENCH

SAMPLE = VLLM_BENCH
"""Written by vllm 0.32.0's own client against its own server (tiny Qwen3, CPU): seven requests by
the timed_trace dataset, the fifth longer than the model's context and so refused."""


def result(**changes: Any) -> dict[str, Any]:
    """Two good requests and a failed one, in the newest key set; a None removes a key."""
    document = {
        "date": "20260101-000000",
        "backend": "vllm",
        "model_id": "some/model",
        "request_rate": 2.0,
        "max_concurrency": None,
        "duration": 10.0,
        "completed": 2,
        "failed": 1,
        "input_lens": [10, 20, 30],
        "output_lens": [3, 1, 0],
        "ttfts": [0.5, 0.25, 0.0],
        "itls": [[0.1, 0.2], [], []],
        "latencies": [0.8, 0.25, 0.0],
        "start_times": [100.0, 101.0, 102.0],
        "queue_times": [0.0, 0.5, 0.0],
        "errors": ["", "", "Traceback…\naiohttp.ClientOSError: Cannot connect"],
        **changes,
    }
    return {key: value for key, value in document.items() if value is not None}


def imported(tmp_path: Path, document: Any) -> Run:
    path = tmp_path / "result.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    import_run([path], tmp_path / "run")
    return read_run(tmp_path / "run")


def test_what_the_real_client_wrote_agrees_with_the_figures_that_it_reports(tmp_path: Path) -> None:
    import_run([SAMPLE], tmp_path / "run")
    run = read_run(tmp_path / "run")
    theirs = json.loads(SAMPLE.read_text())
    done = run.finished

    assert recognises(SAMPLE)
    assert len(run.requests) == 7
    assert len(done) == theirs["completed"] == 6
    failed = run.requests[run.requests["status"] == "error"].iloc[0]
    assert failed["request_id"] == 4
    assert failed["error_msg"]
    # TTFT, TPOT and E2E of the client itself, which start when a request was really sent.
    sent = done["sent_time_ns"].astype(float)
    first = done["first_token_time_ns"].astype(float)
    last = done["completion_time_ns"].astype(float)
    tpot = (last - first) / (done["num_decode_tokens_actual"].astype(float) - 1)
    assert np.median(first - sent) / 1e6 == pytest.approx(theirs["median_ttft_ms"], abs=1e-5)
    assert np.median(last - sent) / 1e6 == pytest.approx(theirs["median_e2el_ms"], abs=1e-5)
    assert np.median(tpot) / 1e6 == pytest.approx(theirs["median_tpot_ms"], abs=1e-5)
    assert run.tokens is not None
    gaps = run.tokens.loc[run.tokens["token_index"] > 0, "token_latency_ns"].astype(float)
    assert np.median(gaps) / 1e6 == pytest.approx(theirs["median_itl_ms"], abs=1e-5)


def test_times_start_at_the_first_arrival_and_waiting_in_the_client_counts(tmp_path: Path) -> None:
    run = imported(tmp_path, result())
    first, second, third = run.requests.to_dict("records")
    assert first["arrival_time_ns"] == 0
    assert first["ttft_ns"] == 500_000_000
    assert first["completion_time_ns"] == 800_000_000
    assert second["arrival_time_ns"] == 500_000_000
    assert second["sent_time_ns"] == 1_000_000_000
    assert second["ttft_ns"] == 750_000_000
    assert third["status"] == "error"
    assert (third["error_type"], third["error_msg"]) == ("ClientOSError", "Cannot connect")
    assert run.tokens is not None
    assert run.tokens["token_time_ns"].tolist() == [
        500_000_000,
        600_000_000,
        800_000_000,
        1_250_000_000,
    ]
    stated = run.meta["params"]["import"]
    assert stated["clock"] == "client"
    assert "engine settings" in stated["not_recovered"]
    assert run.meta["model"] == "some/model"


def test_old_key_set_without_latencies_gives_the_same_times(tmp_path: Path) -> None:
    old = result(latencies=None, queue_times=None, errors=["", "", "refused"])
    run = imported(tmp_path, old)
    assert run.requests["completion_time_ns"].tolist()[:2] == [800_000_000, 1_250_000_000]
    assert run.requests["arrival_time_ns"].tolist() == [0, 1_000_000_000, 2_000_000_000]
    assert any("latencies" in note for note in run.meta["params"]["import"]["notes"])


def test_without_start_times_only_a_run_that_sent_everything_at_once(tmp_path: Path) -> None:
    old = result(start_times=None, queue_times=None, request_rate="inf")
    assert imported(tmp_path, old).requests["arrival_time_ns"].tolist() == [0, 0, 0]


def test_without_a_duration_the_tools_own_statistics_tell_the_unit(tmp_path: Path) -> None:
    old = result(duration=None, median_ttft_ms=375.0)
    assert imported(tmp_path, old).requests["ttft_ns"].tolist()[:2] == [500_000_000, 750_000_000]


def test_what_is_copied_can_be_written_again(tmp_path: Path) -> None:
    errors = ["", "", "OSError: \0 no \ud800 answer"]
    document = result(
        label=float("nan"), burstiness=float("inf"), tokenizer_id="\udfff", errors=errors
    )
    run = imported(tmp_path, document)
    tool = run.meta["params"]["import"]["tool"]
    assert (tool["label"], tool["burstiness"], tool["tokenizer_id"]) == (None, None, "?")
    assert run.requests["error_msg"].tolist()[2] == "no ? answer"


def test_several_tokens_in_a_chunk_leave_no_token_times(tmp_path: Path) -> None:
    run = imported(tmp_path, result(output_lens=[4, 1, 0]))
    assert run.tokens is None
    assert run.meta["token_times"] is False
    assert run.requests["num_decode_tokens_actual"].tolist()[0] == 4
    assert "1 of 2 requests have none" in " ".join(run.meta["params"]["import"]["not_recovered"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ttfts": None}, "ttfts: is missing; run vllm bench serve with"),
        ({"itls": [[0.1, 0.2], []]}, "itls: has 2 entries, ttfts has 3"),
        ({"ttfts": [0.5, -0.25, 0.0]}, "ttfts[1]: expected a number that is not negative"),
        ({"itls": [[0.1, -0.2], [], []]}, "itls[0][1]: expected a number that is not negative"),
        ({"ttfts": ["0.5", 0.25, 0.0]}, "ttfts[0]: expected a finite number, found '0.5'"),
        ({"output_lens": [3, 1.5, 0]}, "output_lens[1]: expected a whole number"),
        ({"latencies": [800, 0.25, 0.0]}, "latencies[0]: is 800, ttfts + sum of itls gives 0.8"),
        (
            {"ttfts": [500, 0.25, 0], "latencies": None},
            "ttfts[0]: ends 500.3 after the first start, the duration is 10: times are not all in",
        ),
        ({"start_times": None}, "start_times: is missing, so arrivals are unknown"),
        ({"ttfts": {}}, "ttfts: expected an array"),
        ({"errors": ["", "", 7]}, "errors[2]: expected a string, found 7"),
    ],
)
def test_a_bad_result_is_refused_by_field(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError) as caught:
        imported(tmp_path, result(**changes))
    assert f"result.json: {message}" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ('{"a": [1,\n2', "line 2: not JSON"),
        ("[]", "expected a JSON object"),
        ('{"a": 1}\n{"a": 2}', "results: has 2, each a run of its own; name one"),
        ('{"model_id": "m", "duration": 1, "completed": 1}', "ttfts: is missing"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        imported(tmp_path, text)
    assert message in str(caught.value)


def test_one_file_is_one_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="takes one file, 2 were given"):
        import_run([SAMPLE, SAMPLE], tmp_path / "run")
