"""Each invariant of a run, broken once: refused with file, line and column."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pytest_gpusim.errors import InputError
from pytest_gpusim.runs import read_run, write_run
from tests.runs.factory import META, REQUESTS, TOKENS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_run(tmp_path / "r", requests=REQUESTS, tokens=TOKENS, meta=META)
    return tmp_path / "r"


REQUEST, TOKEN = "request_metrics.csv", "token_metrics.csv"


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        # Line 2 is request 0 (arrival 0, first token 500, completion 700), line 3 is request 1.
        (REQUEST, "1,100,101,102,600,500", "0,100,101,102,600,500", "line 3, column request_id: e"),
        (REQUEST, "1,100,101,102,600,500", "1,100,101,102,600,499", "line 3, column ttft_ns: expe"),
        (REQUEST, "1,100,101,102,600,500", "1,700,101,102,600,-100", "line 3, column ttft_ns: .*n"),
        (REQUEST, "1,100,101,102,600,500", "1,100,101,102,,500", "column first_token_time_ns: exp"),
        (REQUEST, "1,100,101,102,600,500", "1,100,-1,102,600,500", "line 3, column sent_time_ns: "),
        (REQUEST, "1,100,101,102,600,500", "1,,101,102,600,500", "line 3, column arrival_time_ns"),
        (REQUEST, "1,100,101,102,600,500", "1,nan,101,102,600,500", "line 3, column arrival_time"),
        (REQUEST, "500,700,16,0,3,3,ok", "500,499,16,0,3,3,ok", "line 2, column completion_time"),
        (REQUEST, "500,700,16,0,3,3,ok", "500,,16,0,3,3,ok", "line 2, column completion_time_ns"),
        (REQUEST, "500,700,16,0,3,3,ok", "500,700,16,0,3,0,ok", "line 2, column num_decode_token"),
        (REQUEST, "500,700,16,0,3,3,ok", "500,700,16,0,3,,ok", "line 2, column num_decode_tokens"),
        (REQUEST, "500,700,16,0,3,3,ok", "500,700,16,0,3,3,fine", "line 2, column status: .*fine"),
        (REQUEST, "500,700,16,0,3,3,ok", "500,700,16,0,3,2,ok", "the number of token rows is not"),
        (REQUEST, "0,0,1,2,500,500", "0,0,1,2,501,501", "token 0 is not at the request's first_to"),
        (REQUEST, "ttft_ns", "ttft", "column ttft_ns: is missing"),
        (TOKEN, "0,1,600,100", "0,2,600,100", "line 3, column token_index: expected contiguous"),
        (TOKEN, "0,0,500,500", "0,1,500,500", "column token_index: expected contiguous indices fr"),
        (TOKEN, "0,2,700,100", "0,2,599,100", "line 4, column token_time_ns: expected times that"),
        (TOKEN, "0,1,600,100", "0,1,600,-1", "line 3, column token_latency_ns: .*not negative"),
        (TOKEN, "0,1,600,100", "0,1,,100", "line 3, column token_time_ns: .*found nothing"),
        (TOKEN, "3,0,900,600", "9,0,900,600", "line 7, column request_id: expected a request of"),
        (TOKEN, "3,0,900,600\n", "", "request_id 3: has no token rows"),
        (TOKEN, "token_index", "index", "column token_index: is missing"),
        ("run_meta.json", '"schema_version": 1', '"schema_version": 3', "3 is newer than the 2"),
        ("run_meta.json", '"schema_version": 1,', "", "schema_version: expected the integer 1"),
        ("run_meta.json", "{", "[", "not JSON"),
        ("run_meta.json", "{", '{"engine": {}, ', "the key 'engine' stands twice"),
    ],
)
def test_a_broken_invariant_is_named(
    folder: Path, file: str, old: str, new: str, message: str
) -> None:
    text = (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new, 1))
    with pytest.raises(InputError, match=message) as caught:
        read_run(folder)
    # Where two tables disagree, the tokens are at fault.
    named = TOKEN if "token" in message and "column" not in message else file
    assert str(caught.value).startswith(f"{folder / named}: ")
    assert "\n" not in str(caught.value)


def test_a_line_is_counted_in_the_file_not_in_the_table(folder: Path) -> None:
    # The failed request's message takes two lines, and a blank line follows it.
    text = (folder / REQUEST).read_text()
    assert text.count("\n") == 6
    row = text.splitlines()[1].replace("0,0,1,2,500,500", "5,0,1,2,500,499")
    (folder / REQUEST).write_text(f"{text}\n{row}\n")
    with pytest.raises(InputError, match="line 8, column ttft_ns"):
        read_run(folder)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("run_meta.json", "incomplete: no run_meta.json"),
        ("request_metrics.csv", "incomplete: no request_metrics.csv"),
        ("token_metrics.csv", "incomplete: no token_metrics.csv, and token_times is not false"),
    ],
)
def test_a_half_written_run_is_incomplete(folder: Path, file: str, message: str) -> None:
    (folder / file).unlink()
    with pytest.raises(InputError, match=message):
        read_run(folder)


def test_no_run_at_all(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(InputError, match="no such run directory"):
        read_run(tmp_path / "absent")
    header = (folder / REQUEST).read_text().splitlines()[0]
    (folder / REQUEST).write_text(header + "\n")
    with pytest.raises(InputError, match="has no requests"):
        read_run(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokens": TOKENS[:-1]}, "request_id 3: has no token rows"),
        ({"requests": [*REQUESTS, REQUESTS[0]]}, "expected an id that comes once"),
        ({"requests": []}, "has no requests"),
    ],
)
def test_a_run_that_is_wrong_is_not_written(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    given = {"requests": REQUESTS, "tokens": TOKENS, "meta": META, **changes}
    with pytest.raises(InputError, match=message) as caught:
        write_run(tmp_path / "r", **given)
    assert str(caught.value).startswith(str(tmp_path / "r"))
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_while_rows_stream_in_leaves_nothing(tmp_path: Path) -> None:
    def rows() -> Any:
        yield REQUESTS[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_run(tmp_path / "r", requests=rows(), tokens=TOKENS, meta=META)
    assert list(tmp_path.iterdir()) == []


def test_nan_in_the_metadata_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        write_run(
            tmp_path / "r", requests=REQUESTS, tokens=TOKENS, meta={"params": {"x": float("nan")}}
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("run_type", ["real"], "run_type: expected a string, found ['real']"),
        ("workload_dir", 3, "workload_dir: expected a string, found 3"),
        ("engine", [], "engine: expected a JSON object, found []"),
        ("profile", "p", "profile: expected a JSON object, found 'p'"),
        ("clock", "wall", "clock: expected one of engine, client"),
        ("load", {"kind": "closed"}, "load, max_concurrency: expected a whole number"),
        ("frontend", {"ingress_ns": 1}, "frontend, egress_ns: is missing"),
        ("frontend", {"ingress_ns": "x", "egress_ns": 1}, "frontend, ingress_ns: expected a finit"),
        ("profile", {"engine_time": {}}, "profile, engine_time, time_ns: is missing"),
        (
            "profile",
            {"calibration": {"parameters": [1]}},
            "profile, calibration, parameters[0]: expected a",
        ),
    ],
)
def test_metadata_of_another_kind_are_named(
    folder: Path, key: str, value: object, message: str
) -> None:
    path = folder / "run_meta.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(InputError) as found:
        read_run(folder)
    assert f"{path}: {message}" in str(found.value)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "expected a JSON object"),
        ({"level": 0.9}, "metrics: is missing"),
        ({"level": 0.9, "metrics": {"ttft": {"p50": {"ns": 1}}}}, "p50, low_ns: is missing"),
        ({"level": "x", "metrics": {}}, "level: expected a finite number, found 'x'"),
    ],
)
def test_a_prediction_that_is_none_is_named(folder: Path, document: Any, message: str) -> None:
    (folder / "prediction.json").write_text(json.dumps(document))
    with pytest.raises(InputError) as found:
        read_run(folder).prediction()
    assert message in str(found.value)


def test_a_bad_batch_line_is_named(folder: Path) -> None:
    (folder / "step_batches.jsonl").write_text('{"0": 16}\n{"0": null}\n')
    with pytest.raises(InputError, match=r"step_batches.jsonl: line 2: expected a JSON object"):
        read_run(folder).batches()


@pytest.mark.parametrize(
    ("row", "message"),
    [("1,5,soon", "duration_ns: .*'soon'"), ("1,,5", "start_ns: "), (",5,5", "step: ")],
)
def test_a_bad_step_is_named(folder: Path, row: str, message: str) -> None:
    (folder / "step_metrics.csv").write_text(f"step,start_ns,duration_ns\n0,0,5\n{row}\n")
    with pytest.raises(InputError, match=rf"line 3, column {message}"):
        read_run(folder)


@pytest.mark.parametrize(("by", "good"), [(1, True), (900, True), (-900, True), (2_000, False)])
def test_times_agree_within_the_grain_of_a_clock(tmp_path: Path, by: int, good: bool) -> None:
    """A tool that keeps seconds as floats is off by some hundred ns; a mistake is not so small."""
    requests = [
        {"request_id": 0, "arrival_time_ns": 0, "first_token_time_ns": 5_000_000,
         "ttft_ns": 5_000_000 + by, "completion_time_ns": 9_000_000, "num_prefill_tokens": 3,
         "num_decode_tokens": 2, "num_decode_tokens_actual": 2, "status": "ok"}
    ]  # fmt: skip
    tokens = [(0, 0, 5_000_000 - by, 5_000_000), (0, 1, 9_000_000, 4_000_000)]
    out = tmp_path / "run"
    if not good:
        said = "column ttft_ns: expected first_token_time_ns - arrival_time_ns, 5000000, found"
        with pytest.raises(InputError, match=said):
            write_run(out, requests=requests, tokens=tokens, meta={})
        return
    write_run(out, requests=requests, tokens=tokens, meta={})
    run = read_run(out)
    assert run.requests["ttft_ns"].tolist() == [5_000_000]
    assert run.tokens is not None
    assert run.tokens["token_time_ns"].tolist() == [5_000_000, 9_000_000]
