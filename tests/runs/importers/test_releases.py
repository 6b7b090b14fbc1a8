"""Results in the forms of other releases and of other habits: the right figures, or one line."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_gpusim.errors import GpusimError, InputError
from pytest_gpusim.registry import builtin_registry
from pytest_gpusim.runs import Run
from pytest_gpusim.runs.importers import load_real_run, load_simulated_run
from pytest_gpusim.runs.importers.shared_prompts import SentPrompt
from pytest_gpusim.workload import WorkloadRequest, write_workload

CASES = Path(__file__).parents[2] / "data" / "cases"
MS, S = 1_000_000, 1_000_000_000


def load(path: Path | str, tmp_path: Path, **options: Any) -> Run:
    return load_real_run(path, builtin_registry(), store=tmp_path / "runs", options=options)


def ms(run: Run, column: str) -> list[Any]:
    return [None if value is None else value / MS for value in run.requests[column].tolist()]


def saved(tmp_path: Path, name: str, document: Any) -> Path:
    path = tmp_path / name
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


# GuideLLM 0.4: the strategy in ``scheduler``, the model in ``benchmarker``, iterations' times.


def guidellm_0_4(strategy: dict[str, Any], apart: bool) -> dict[str, Any]:
    """Two requests, sent at 0 and 1 s; TTFT 100 ms, 5 tokens 20 ms apart."""
    records = []
    for number in range(2):
        start = 1_795_475_000.0 + number
        client = {
            "request_start": start, "request_end": start + 0.2,
            "first_iteration": start + 0.1, "last_iteration": start + 0.18, "iterations": 5,
        }  # fmt: skip
        scheduler = {"targeted_start": start - 0.005, "resolve_start": start - 0.001}
        info = (
            {"scheduler_info": {"scheduler_timings": scheduler, "request_timings": client}}
            if apart
            else {"info": {"status": "completed", "timings": {**scheduler, **client}}}
        )
        records.append(
            {
                "type_": "generative_request_stats", "request_id": str(number),
                "prompt": f"a b {number}", "request_args": {"stream": True}, "output": "x",
                "prompt_tokens": 3, "output_tokens": 5, "time_to_first_token_ms": 100.0, **info,
            }
        )  # fmt: skip
    benchmark = {
        "type_": "generative_benchmark", "start_time": -1.0, "end_time": -1.0,
        "scheduler": {"strategy": strategy, "constraints": {}, "state": {}},
        "benchmarker": {"backend": {"model": "tiny", "target": "http://h"}},
        "run_stats": {"requests_made": {"successful": 2, "total": 2}},
        "requests": {"successful": records, "errored": [], "incomplete": []},
    }  # fmt: skip
    return {"benchmarks": [benchmark]}


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize(
    ("strategy", "at_once"),
    [
        ({"type_": "constant", "rate": 1.0}, None),
        ({"type_": "concurrent", "streams": 2}, 2),
        ({"type_": "synchronous"}, 1),
    ],
)
def test_guidellm_0_4(
    tmp_path: Path, strategy: dict[str, Any], at_once: int | None, apart: bool
) -> None:
    run = load(saved(tmp_path, "b.json", guidellm_0_4(strategy, apart)), tmp_path)
    assert run.meta["model"] == "tiny"
    assert (run.meta.get("load") or {}).get("max_concurrency") == at_once
    sent = run.requests["sent_time_ns"]
    assert ((run.requests["first_token_time_ns"] - sent) / MS).tolist() == pytest.approx(
        [100, 100], abs=0.01
    )
    assert ((run.requests["completion_time_ns"] - sent) / MS).tolist() == pytest.approx(
        [180, 180], abs=0.01
    )


def test_guidellm_without_streaming_is_refused(tmp_path: Path) -> None:
    document = guidellm_0_4({"type_": "synchronous"}, False)
    for record in document["benchmarks"][0]["requests"]["successful"]:
        record["info"]["timings"].update(first_iteration=None, last_iteration=None)
    with pytest.raises(InputError, match="so TTFT is unknown; measure with streaming"):
        load(saved(tmp_path, "b.json", document), tmp_path)


# AIPerf: an array of records, packed files with their summary, no streaming.


def aiperf_records() -> list[dict[str, Any]]:
    lines = (CASES / "34-aiperf-prefix" / "myrun.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


SUMMARY = json.dumps(
    {"input_config": {"phases": [{"type": "concurrency", "concurrency": 4}], "models": ["m"]}}
)


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("before", ["", "\n\n"])
def test_an_array_of_aiperfs_records(tmp_path: Path, indent: int | None, before: str) -> None:
    place = CASES / "34-aiperf-prefix" / "myrun.jsonl"
    text = before + json.dumps(aiperf_records(), indent=indent)
    run, lines = load(saved(tmp_path, "records.json", text), tmp_path), load(place, tmp_path)
    assert run.requests.equals(lines.requests)


@pytest.mark.parametrize("packed", [False, True])
def test_aiperfs_summary_is_found_beside_packed_records(tmp_path: Path, packed: bool) -> None:
    text = "".join(json.dumps(record) + "\n" for record in aiperf_records())
    (tmp_path / "profile_export.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    name = "profile_export_aiperf.json"
    if packed:
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(SUMMARY.encode()))
    else:
        (tmp_path / name).write_text(SUMMARY)
    for given in (tmp_path, tmp_path / "profile_export.jsonl.gz"):
        assert load(given, tmp_path).meta["load"]["max_concurrency"] == 4


@pytest.mark.parametrize(
    ("metadata", "turns"),
    [
        # One entry of a data set, asked three times: three requests of their own.
        ([{"conversation_id": "k", "turn_index": 0}] * 3, []),
        ([{"conversation_id": "k", "x_correlation_id": f"c{n}", "turn_index": 0} for n in range(3)],
         []),
        # Held twice at once: the first turns of both, then the second one of each.
        ([{"conversation_id": "k", "x_correlation_id": c, "turn_index": t}
          for c, t in (("a", 0), ("b", 0), ("a", 1))], [(0, 0), (0, 1)]),
        ([{"conversation_id": "k", "turn_index": t} for t in (0, 1, 0)], [(0, 0), (0, 1)]),
    ],
)  # fmt: skip
def test_a_conversation_of_the_data_set_may_be_held_again(
    tmp_path: Path, metadata: list[dict[str, Any]], turns: list[tuple[int, int]]
) -> None:
    records = aiperf_records()[:3]
    for number, (record, said) in enumerate(zip(records, metadata, strict=True)):
        for key in ("conversation_id", "x_correlation_id", "turn_index"):
            record["metadata"].pop(key, None)
        shift = number * S - (record["metadata"]["request_start_ns"] - 10**18)
        for key in ("credit_issued_ns", "request_start_ns", "request_end_ns"):
            record["metadata"][key] += shift
        record["metadata"].update(said)
    path = saved(tmp_path, "p.jsonl", "".join(json.dumps(record) + "\n" for record in records))
    found = load(path, tmp_path).sessions.values()
    assert [(turn.session_id, turn.turn) for turn in found] == turns


def test_aiperfs_lengths_are_the_servers_where_it_told_them(tmp_path: Path) -> None:
    records = aiperf_records()
    told = {"usage_prompt_tokens": 61, "usage_completion_tokens": 6}
    for key, value in told.items():
        records[0]["metrics"][key] = {"value": value, "unit": "tokens"}
    path = saved(tmp_path, "p.jsonl", "".join(json.dumps(record) + "\n" for record in records))
    rows = load(path, tmp_path).requests
    assert rows["num_prefill_tokens"].tolist()[:2] == [61, 50]
    assert rows["num_decode_tokens_actual"].tolist()[:2] == [6, 5]


@pytest.mark.parametrize("error", [None, {}])
def test_no_error_in_aiperfs_records(tmp_path: Path, error: Any) -> None:
    records = [{**record, "error": error} for record in aiperf_records()]
    path = saved(tmp_path, "p.jsonl", "".join(json.dumps(record) + "\n" for record in records))
    assert set(load(path, tmp_path).requests["status"]) == {"ok"}


def test_aiperf_without_streaming_is_refused(tmp_path: Path) -> None:
    records = aiperf_records()
    for record in records:
        record["metrics"].pop("time_to_first_token", None)
    path = saved(tmp_path, "p.jsonl", "".join(json.dumps(record) + "\n" for record in records))
    with pytest.raises(InputError, match="time_to_first_token: is missing; run aiperf with --str"):
        load(path, tmp_path)


# vllm bench and tables: answers in one piece have no TTFT.


def in_one_piece(tokens: int) -> dict[str, Any]:
    return {
        "model_id": "m", "duration": 3.0, "completed": 2, "request_rate": 1.0,
        "start_times": [0.0, 1.0], "ttfts": [0.5, 0.5], "itls": [[], []],
        "latencies": [0.5, 0.5], "input_lens": [9, 9], "output_lens": [tokens, tokens],
        "errors": ["", ""],
    }  # fmt: skip


def test_answers_in_one_piece_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="of up to 64 tokens, came in one piece, so neither their"):
        load(saved(tmp_path, "a.json", in_one_piece(64)), tmp_path)
    # A server that is ahead of its client may put two tokens into one chunk.
    assert ms(load(saved(tmp_path, "b.json", in_one_piece(2)), tmp_path), "ttft_ns") == [500, 500]


# Tables of one's own.

HEAD = "arrival_s,ttft_ms,e2e_ms,input_tokens,output_tokens"


@pytest.mark.parametrize(
    ("columns", "ttft", "note"),
    [
        ("arrival=at,ttft=ttft_ms,e2e=e2e_ms,prefill=in,decode=out,unit=s", 20, True),
        ("arrival=at,ttft=ttft_ms,e2e=e2e_ms,prefill=in,decode=out,unit=ms", 20, False),
    ],
)
def test_a_columns_name_says_its_unit(tmp_path: Path, columns: str, ttft: int, note: bool) -> None:
    path = saved(tmp_path, "t.csv", "at,ttft_ms,e2e_ms,in,out\n0,20,35,100,4\n")
    run = load(path, tmp_path, columns=columns)
    assert ms(run, "ttft_ns") == [ttft]
    said = "column ttft_ms is in ms, as its name says"
    assert (said in run.meta["params"]["import"]["notes"]) is note


@pytest.mark.parametrize("times", [
    ("2024-05-01T00:00:00Z", "2024-05-01 00:00:01.5+00:00"),
    ("2024-05-01T02:00:00+02:00", "2024-05-01T00:00:01.500000Z"),
    ("1714521600.0", "1714521601.5"),
])  # fmt: skip
def test_moments_may_be_dates(tmp_path: Path, times: tuple[str, str]) -> None:
    rows = "".join(f"{time},20,35,100,4\n" for time in times)
    path = saved(tmp_path, "t.csv", f"at,ttft_ms,e2e_ms,in,out\n{rows}")
    unit = "" if "T" in times[0] else ",unit=s"
    columns = f"arrival=at,ttft=ttft_ms,e2e=e2e_ms,prefill=in,decode=out{unit}"
    assert ms(load(path, tmp_path, columns=columns), "arrival_time_ns") == [0, 1500]


def test_a_moment_in_no_unit_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, "t.csv", "at,ttft_ms,e2e_ms,in,out\n0,20,35,100,4\n")
    columns = "arrival=at,ttft=ttft_ms,e2e=e2e_ms,prefill=in,decode=out"
    with pytest.raises(InputError, match="column at: its unit is not stated; add unit=s or ms"):
        load(path, tmp_path, columns=columns)


@pytest.mark.parametrize("time", ["1e999999", "1e-999999", "-1", "0,5", "inf", "9" * 30])
def test_times_that_are_none(tmp_path: Path, time: str) -> None:
    path = saved(tmp_path, "t.csv", HEAD.replace(",", ";") + f"\n0;{time};35;100;4\n")
    if time == "1e-999999":
        assert ms(load(path, tmp_path), "ttft_ns") == [0]
    else:
        with pytest.raises(InputError, match="line 2, column ttft_ms: expected a time that is not"):
            load(path, tmp_path)


def test_a_column_that_no_record_has_is_refused(tmp_path: Path) -> None:
    lines = '{"m": {"at": 0, "ttft": 20}, "e2e": 35, "in": 9, "out": 4}\n{"e2e": null}\n'
    columns = "arrival=m.at,ttft=m.ttft,e2e=e2e,prefill=in,decode=out,unit=ms"
    path = saved(tmp_path, "t.jsonl", lines.partition("\n")[0])
    assert ms(load(path, tmp_path, columns=columns), "ttft_ns") == [20]
    with pytest.raises(InputError, match=r"column m\.wait: is in no record"):
        load(path, tmp_path, columns=columns + ",queue=m.wait")
    with pytest.raises(GpusimError, match="names ttft twice"):
        load(path, tmp_path, columns=columns + ",ttft=m.at")


def test_rows_in_another_order_than_the_workload(tmp_path: Path) -> None:
    """A client's log has them as they ended."""
    requests = [WorkloadRequest(n, n, 9, 4, n * S) for n in range(3)]
    write_workload(tmp_path / "w", requests, None, name="w", seed=0, generator={})
    path = saved(tmp_path, "t.csv", "n,ttft_ms,e2e_ms\n2,30,35\n0,10,35\n1,20,35\n")
    columns = "id=n,ttft=ttft_ms,e2e=e2e_ms"
    run = load(path, tmp_path, columns=columns, workload=tmp_path / "w")
    assert ms(run, "ttft_ns") == [10, 20, 30]
    assert ms(run, "arrival_time_ns") == [0, 1000, 2000]
    saved(tmp_path, "t.csv", "n,ttft_ms,e2e_ms\n0,30,35\n0,10,35\n1,20,35\n")
    with pytest.raises(InputError, match="line 3, column n: expected an id that no row above has"):
        load(path, tmp_path, columns=columns, workload=tmp_path / "w")


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, "t.csv", f"{HEAD},ttft_ms\n0,20,35,100,4,70\n")
    columns = "arrival=arrival_s,ttft=ttft_ms,e2e=e2e_ms,prefill=input_tokens,decode=output_tokens"
    with pytest.raises(InputError, match="column ttft_ms: comes twice"):
        load(path, tmp_path, columns=columns)


@pytest.mark.parametrize(
    ("status", "failed"),
    [
        ({"status": "OK"}, False),
        ({"status": "finished"}, False),
        ({"success": True}, False),
        ({"success": 1}, False),
        ({"success": False}, True),
        ({"status": "error"}, True),
        ({"error": False}, False),
        ({"error": ""}, False),
        ({"error": None}, False),
        ({"error": "timed out"}, True),
        ({"error_message": "boom"}, True),
    ],
)
def test_what_a_table_says_of_failures(
    tmp_path: Path, status: dict[str, Any], failed: bool
) -> None:
    row = {"arrival_s": 0, "ttft_ms": 0, "e2e_ms": 0, "input_tokens": 9, "output_tokens": 4}
    good = {**row, "ttft_ms": 20, "e2e_ms": 35}
    lines = [{**(row if failed else good), **status}, {**good, **dict.fromkeys(status)}]
    path = saved(tmp_path, "t.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    statuses = load(path, tmp_path).requests["status"].tolist()
    assert statuses == ["error" if failed else "ok", "ok"]


def test_sessions_of_a_table_follow_each_other(tmp_path: Path) -> None:
    rows = "".join(f"{at},20,35,100,4,{name}\n" for at, name in ((0, "a"), (1, "b"), (2, "a")))
    run = load(saved(tmp_path, "t.csv", f"{HEAD},session_id\n{rows}"), tmp_path)
    assert {number: turn.turn for number, turn in run.sessions.items()} == {0: 0, 2: 1}


# Vidur: a simulation that was ended, a gap that is missing.

VIDUR = (
    "Request Id,request_e2e_time,request_scheduling_delay,prefill_e2e_time,"
    "request_inter_arrival_delay,request_num_prefill_tokens,request_num_decode_tokens\n"
)


def vidur(tmp_path: Path, rows: str) -> Run:
    path = saved(tmp_path, "request_metrics.csv", VIDUR + rows)
    return load_simulated_run(path, builtin_registry(), store=tmp_path / "runs")


def test_what_vidur_did_not_end_is_unfinished(tmp_path: Path) -> None:
    run = vidur(tmp_path, "0,0.5,0,0.1,,128,16\n1,,,,0.5,128,16\n2,,0.1,0.2,0.5,128,16\n")
    assert run.requests["status"].tolist() == ["ok", "error", "error"]
    assert ms(run, "arrival_time_ns") == [0, 500, 1000]


def test_a_gap_that_vidur_did_not_write_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="line 3, column request_inter_arrival_delay: expected a"):
        vidur(tmp_path, "0,0.5,0,0.1,,128,16\n1,0.5,0,0.1,,128,16\n2,0.5,0,0.1,0.5,128,16\n")


# GenAI-Perf: tokens of reasoning are the first ones.


def test_genai_perf_counts_reasoning(tmp_path: Path) -> None:
    def chunk(delta: dict[str, Any], **more: Any) -> dict[str, str]:
        return {"response": f"data: {json.dumps({'choices': [{'delta': delta}], **more})}\n\n"}

    outputs = [
        chunk({"role": "assistant", "content": ""}),
        chunk({"reasoning_content": "hm", "reasoning": "hm"}),
        chunk({"content": "yes"}, usage={"prompt_tokens": 7, "completion_tokens": 2}),
    ]
    request = {
        "timestamp": 0, "response_timestamps": [10 * MS, 30 * MS, 50 * MS],
        "request_inputs": {"payload": json.dumps({"messages": [], "model": "m"})},
        "response_outputs": outputs,
    }  # fmt: skip
    document = {"experiments": [{"experiment": {"mode": "request_rate"}, "requests": [request]}]}
    run = load(saved(tmp_path, "profile_export.json", document), tmp_path)
    assert ms(run, "ttft_ns") == [30]
    assert ms(run, "completion_time_ns") == [50]


def test_genai_perf_takes_the_last_count_of_a_stream(tmp_path: Path) -> None:
    """A server with ``continuous_usage_stats`` counts in every chunk."""
    outputs = [
        {"response": f"data: {json.dumps({'choices': [{'text': 'x'}], 'usage': usage})}\n\n"}
        for usage in ({"prompt_tokens": 7, "completion_tokens": n + 1} for n in range(3))
    ]
    request = {
        "timestamp": 0, "response_timestamps": [10 * MS, 30 * MS, 50 * MS],
        "request_inputs": {"payload": "{}"}, "response_outputs": outputs,
    }  # fmt: skip
    document = {"experiments": [{"experiment": {"mode": "request_rate"}, "requests": [request]}]}
    run = load(saved(tmp_path, "profile_export.json", document), tmp_path)
    assert run.requests["num_decode_tokens_actual"].tolist() == [3]
    assert ms(run, "completion_time_ns") == [50]


# What prompts share.


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("hello", "user: hello"),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "user: a\nb"),
        (["a", {"text": "b"}], "user: a\nb"),
        ([{"type": "image_url", "image_url": {"url": "x"}}],
         'user: {"image_url":{"url":"x"},"type":"image_url"}'),
        (None, "user: "),
    ],
)  # fmt: skip
def test_messages_in_parts(content: Any, text: str) -> None:
    sent = SentPrompt.of_body({"messages": [{"role": "user", "content": content}]})
    assert sent == SentPrompt(text=text)


def test_other_tools_are_another_beginning() -> None:
    def words(*names: str) -> str | None:
        tools = [{"function": {"name": name}} for name in names]
        sent = SentPrompt.of_body({"messages": [{"role": "user", "content": "x"}], "tools": tools})
        return sent.text if sent is not None else None

    assert words("a") != words("b")
    assert words() == "user: x"


# What is no text, and what lies deeper.


@pytest.mark.parametrize(
    ("begins", "says"),
    [
        (b"\x28\xb5\x2f\xfd", "is packed by zstd, not a text: unpack it first"),
        (b"BZh", "is packed by bzip2, not a text: unpack it first"),
        (b"BZh9", "is packed by bzip2, not a text"),
        (b"PK\x03\x04", r"is a ZIP archive \(or an Excel sheet\), not a text"),
        (b"PAR1", "is a Parquet file, not a text: write it as CSV or JSON lines"),
        (b"\xff\xfea\x00", "is UTF-16, not a text: save it as UTF-8"),
    ],
)
def test_what_is_no_text_says_so(tmp_path: Path, begins: bytes, says: str) -> None:
    (tmp_path / "x.bin").write_bytes(begins + bytes(9))
    with pytest.raises(InputError, match=says):
        load(tmp_path / "x.bin", tmp_path)


def test_a_folder_names_what_is_in_it(tmp_path: Path) -> None:
    place = tmp_path / "runs" / "run_0001" / "result.json"
    place.parent.mkdir(parents=True)
    place.write_text(json.dumps(in_one_piece(2)))
    with pytest.raises(InputError, match=f"; name one that is in it: {place}$"):
        load(tmp_path / "runs", tmp_path)


def without(*keys: str) -> Callable[[dict[str, Any]], None]:
    return lambda document: [document.pop(key) for key in keys] and None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (without("start_times"), "start_times: is missing, so arrivals are unknown"),
        (without("itls"), "itls: is missing; run vllm bench serve with --save-result --save-det"),
        (lambda d: d.update(ttfts=[50.0, 70.0], latencies=[120.0, 120.0]), "not all in seconds"),
        (lambda d: d.update(output_lens=[5]), "output_lens: has 1 entries, ttfts has 2"),
        (lambda d: d.update(ttfts=[0.1, None]), r"ttfts\[1\]: expected a finite number"),
        (lambda d: d.update(output_lens=[2, -1]), r"output_lens\[1\]: expected a number that is"),
        (lambda d: d.update(start_times=[0.0, float("nan")]), r"start_times\[1\]: expected a fin"),
    ],
)
def test_results_of_vllm_bench_that_are_no_results(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], says: str
) -> None:
    document = in_one_piece(2)
    change(document)
    with pytest.raises(GpusimError, match=says):
        load(saved(tmp_path, "r.json", document), tmp_path)


# BLIS: a request's scheduling delay is in ticks of a microsecond in many versions.


def blis(tmp_path: Path, delays: tuple[float, ...], p99: float | None, **more: Any) -> Run:
    request = {"num_prefill_tokens": 9, "num_decode_tokens": 4, "ttft_ms": 50.0, "e2e_ms": 80.0}
    document = {
        "vllm_estimated_duration_s": 9.0, "completed_requests": len(delays),
        "scheduling_delay_p99_ms": p99,
        "requests": [
            {**request, "arrived_at": float(at), "scheduling_delay_ms": delay, **more}
            for at, delay in enumerate(delays)
        ],
    }  # fmt: skip
    path = saved(tmp_path, "b.json", document)
    return load_simulated_run(path, builtin_registry(), store=tmp_path / "runs")


@pytest.mark.parametrize(
    ("delays", "p99", "expected"),
    [
        ((20.0, 10.0), 19.9, [20, 1010]),
        ((20_000, 10_000), 19.9, [20, 1010]),
        ((20, 10), 0.0199, [0.02, 1000.01]),
        ((0, 20), 0.0198, [0, 1000.02]),
        ((20, 10), None, [None, None]),
        ((0, 0), 0.0, [0, 1000]),
    ],
)
def test_the_unit_of_blis_delays_is_told_by_their_percentile(
    tmp_path: Path, delays: tuple[float, ...], p99: float | None, expected: list[float | None]
) -> None:
    rows = blis(tmp_path, delays, p99).requests["scheduled_time_ns"]
    assert [None if rows.isna()[k] else rows[k] / MS for k in range(2)] == expected


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ({"status": "rejected"}, "error"),
        ({"length_capped": True}, "error"),
        ({"e2e_ms": 0.0}, "error"),
        ({"session_id": "a"}, "ok"),
    ],
)
def test_what_blis_says_of_a_request(tmp_path: Path, more: dict[str, Any], status: str) -> None:
    run = blis(tmp_path, (0, 0), 0.0, **more)
    assert set(run.requests["status"]) == {status}
    assert bool(run.sessions) is ("session_id" in more)


def test_adapters_are_said_of_the_engine(tmp_path: Path) -> None:
    assert blis(tmp_path, (0, 0), 0.0, adapter="a").meta["engine"] == {"enable_lora": True}
    name = "per_request_lifecycle_metrics.json"
    records = json.loads((CASES / "20-iperf-0.1.1-to-0.4" / name).read_text())
    for record in records:
        record["info"]["lora_adapter"] = "a"
    run = load(saved(tmp_path, name, records), tmp_path)
    assert run.meta["engine"] == {"enable_lora": True}
