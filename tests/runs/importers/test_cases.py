"""Small results of other tools that once went wrong, each with what is right (made by hand)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pytest_gpusim.errors import GpusimError, InputError
from pytest_gpusim.registry import builtin_registry
from pytest_gpusim.runs import Run
from pytest_gpusim.runs.importers import load_real_run, load_real_runs, load_simulated_run
from pytest_gpusim.workload import read_workload

CASES = Path(__file__).parents[2] / "data" / "cases"
MS = 1_000_000


def load(place: str, tmp_path: Path, **options: Any) -> Run:
    return load_real_run(CASES / place, builtin_registry(), store=tmp_path, options=options)


def write(tmp_path: Path, name: str, document: Any) -> Path:
    path = tmp_path / name
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


@pytest.mark.parametrize(
    ("place", "ttft", "tpot", "e2e"),
    [
        ("67-rust-chat-usage-chunk/result.json", 50, 10, 90),
        ("20-iperf-0.1.1-to-0.4/per_request_lifecycle_metrics.json", 100, 20, 180),
        ("31-guidellm-0.2-0.3/benchmarks.json", 100, 20, 180),
    ],
)
def test_times_of_older_and_other_clients(
    place: str, ttft: int, tpot: int, e2e: int, tmp_path: Path
) -> None:
    rows = load(place, tmp_path).requests
    assert rows["ttft_ns"].tolist() == pytest.approx([ttft * MS] * len(rows), abs=1000)
    last = rows["completion_time_ns"] - rows["arrival_time_ns"]
    assert last.tolist() == pytest.approx([e2e * MS] * len(rows), abs=1000)
    assert rows["num_decode_tokens_actual"].tolist() == [5] * len(rows)
    gaps = (rows["completion_time_ns"] - rows["first_token_time_ns"]) / 4
    assert gaps.tolist() == pytest.approx([tpot * MS] * len(rows), abs=1000)


def test_appended_results_are_chosen_or_repeats(tmp_path: Path) -> None:
    place = "02-append-result/result.json"
    with pytest.raises(InputError, match=r"has 2, each a run of its own; name one: .*#0 to #1, or"):
        load(place, tmp_path)
    assert load(f"{place}#1", tmp_path).requests["ttft_ns"].tolist() == [80 * MS]
    runs = load_real_runs(CASES / f"{place}#all", builtin_registry(), store=tmp_path)
    assert [run.requests["ttft_ns"].tolist() for run in runs] == [[50 * MS], [80 * MS]]
    with pytest.raises(InputError, match="there is no #2"):
        load(f"{place}#2", tmp_path)


def test_a_limit_is_a_closed_loop(tmp_path: Path) -> None:
    run = load("16-closed-loop-c1/result.json", tmp_path)
    assert run.meta["load"] == {"kind": "closed", "max_concurrency": 1}
    assert run.requests["ttft_ns"].nunique() == 1
    asked = read_workload(run.path / "workload")
    assert {request.arrival_time_ns for request in asked.requests} == {0}
    assert asked.load.max_concurrency == 1


def test_a_limit_on_top_of_a_rate_keeps_when_requests_were_due(tmp_path: Path) -> None:
    document = json.loads((CASES / "16-closed-loop-c1" / "result.json").read_text())
    document["request_rate"] = 1.0
    document["queue_times"] = [0.0] + [3.0 * n for n in range(1, 8)]
    path = write(tmp_path, "result.json", document)
    run = load_real_run(path, builtin_registry(), store=tmp_path / "runs")
    asked = read_workload(run.path / "workload")
    due = [start - wait for start, wait in zip(
        document["start_times"], document["queue_times"], strict=True
    )]  # fmt: skip
    expected = [(time - due[0]) * 1e9 for time in due]
    assert [r.arrival_time_ns for r in asked.requests] == pytest.approx(expected, abs=1000)


def test_prompts_that_begin_alike_stay_so(tmp_path: Path) -> None:
    run = load("58-iperf-shared-prefix/per_request_lifecycle_metrics.json", tmp_path)
    prompts = read_workload(run.path / "workload").prompts
    assert prompts is not None
    assert {prompt.prefix_tokens for prompt in prompts.values()} == {None, 512}
    assert {prompt.num_tokens for prompt in prompts.values()} == {600}


def test_a_refused_request_keeps_its_id(tmp_path: Path) -> None:
    run = load("70-rejected-too-long/result.json", tmp_path)
    assert run.requests["status"].tolist().index("error") == 7
    assert read_workload(run.path / "workload").refused == {7}


def test_stated_speculation_is_an_engine_setting(tmp_path: Path) -> None:
    run = load("18-spec-decode-stated/result.json", tmp_path)
    assert run.meta["engine"] == {"speculative_config": {"num_speculative_tokens": 1}}
    assert run.meta["params"]["import"]["tool"]["spec_decode_acceptance_rate"] == 87.5


def test_aiperf_with_a_prefix_is_found_with_its_model(tmp_path: Path) -> None:
    run = load("34-aiperf-prefix", tmp_path)
    assert run.meta["model"] == "tiny"
    assert run.requests["status"].tolist() == ["ok"] * len(run.requests)


def test_failures_of_aiperf_have_no_metrics(tmp_path: Path) -> None:
    rows = load("37-aiperf-errors/profile_export.jsonl", tmp_path).requests
    assert rows["status"].tolist() == ["ok", "error", "error"]
    assert rows["num_prefill_tokens"].tolist() == [50, 50, 0]
    assert rows["error_type"].tolist()[1:] == ["RequestCancellationError", "TimeoutError"]


def test_sglang_is_refused_by_name_unless_all_was_sent_at_once(tmp_path: Path) -> None:
    place = CASES / "42-sglang" / "sglang_0401_10_random.jsonl"
    with pytest.raises(InputError, match="SGLang's bench_serving does not keep when requests were"):
        load(str(place), tmp_path)
    document = {**json.loads(place.read_text()), "request_rate": float("inf")}
    path = write(tmp_path, "burst.jsonl", document)
    rows = load_real_run(path, builtin_registry(), store=tmp_path / "runs").requests
    assert rows["arrival_time_ns"].tolist() == [0, 0]
    assert rows["ttft_ns"].tolist() == [100 * MS] * 2


def test_a_bad_record_is_left_out_where_that_is_asked_for(tmp_path: Path) -> None:
    document = json.loads((CASES / "59-three-repeats" / "r0.json").read_text())
    document["ttfts"][3] = -1.0
    path = write(tmp_path, "result.json", document)
    registry = builtin_registry()
    with pytest.raises(InputError, match=r"ttfts\[3\]: expected a number that is not negative"):
        load_real_run(path, registry, store=tmp_path / "runs")
    run = load_real_run(path, registry, store=tmp_path / "runs", options={"skip_bad": True})
    assert len(run.requests) == 23
    assert any("1 of 24 records" in note for note in run.meta["params"]["import"]["notes"])


def test_the_first_and_a_window(tmp_path: Path) -> None:
    assert len(load("59-three-repeats/r0.json", tmp_path, first=5).requests) == 5
    rows = load("59-three-repeats/r0.json", tmp_path, start=10.5, end=21.0).requests
    assert len(rows) == 2
    assert rows["arrival_time_ns"].tolist()[0] == 0
    with pytest.raises(InputError, match="no request is left by --start 900"):
        load("59-three-repeats/r0.json", tmp_path, start=900.0)


def test_one_model_of_several(tmp_path: Path) -> None:
    path = CASES / "20-iperf-0.1.1-to-0.4" / "per_request_lifecycle_metrics.json"
    document = json.loads(path.read_text())
    document[1]["request"] = document[1]["request"].replace("tiny", "other")
    changed = write(tmp_path, "requests.json", document)
    registry = builtin_registry()
    with pytest.raises(InputError, match="requests of 2 models; --only-model other or tiny"):
        load_real_run(changed, registry, store=tmp_path / "runs")
    run = load_real_run(changed, registry, store=tmp_path / "runs", options={"only_model": "other"})
    assert (len(run.requests), run.meta["model"]) == (1, "other")


OWN = "id,t,ttft,total,in,out,who\na,1.5,0.25,1.0,100,4,m\nb,2.5,0.5,2.0,200,1,m\n"
OWN_COLUMNS = "arrival=t,ttft=ttft,e2e=total,prefill=in,decode=out,model=who,unit=s"


def test_a_table_of_ones_own(tmp_path: Path) -> None:
    path = write(tmp_path, "mine.csv", OWN)
    importer = builtin_registry().run_importers.get("csv")
    importer([path], tmp_path / "run", {"columns": OWN_COLUMNS})
    from pytest_gpusim.runs import read_run

    run = read_run(tmp_path / "run")
    assert run.requests["arrival_time_ns"].tolist() == [0, 1000 * MS]
    assert run.requests["ttft_ns"].tolist() == [250 * MS, 500 * MS]
    assert run.requests["completion_time_ns"].tolist() == [1000 * MS, 3000 * MS]
    assert run.meta["model"] == "m"


@pytest.mark.parametrize(
    ("text", "columns", "message"),
    [
        (OWN, None, "no column is known to be ttft"),
        (
            OWN,
            OWN_COLUMNS.replace(",unit=s", ""),
            "column ttft: its unit is not stated; add unit=s",
        ),
        (OWN, OWN_COLUMNS.replace("arrival=t,", ""), "no column is known to be arrival"),
        (OWN, "nonsense", "'nonsense' is not ROLE=COLUMN"),
        (OWN, "arrival=t,colour=x", "'colour' is none of arrival, "),
        (OWN, "arrival=t,unit=h", "unit is one of ns, us, ms, s"),
        (OWN.replace("0.25", "-1"), OWN_COLUMNS, "line 2, column ttft: expected a time"),
        (OWN.replace("0.25", "1e999"), OWN_COLUMNS, "line 2, column ttft: expected a time"),
        (OWN.replace(",4,", ",4.5,"), OWN_COLUMNS, "line 2, column out: expected a whole number"),
        (OWN.replace("id,t,", "id,when,"), OWN_COLUMNS, "column t: is missing; columns found: id"),
        ("", OWN_COLUMNS, "is empty"),
    ],
)
def test_what_a_table_lacks_is_said(
    tmp_path: Path, text: str, columns: str | None, message: str
) -> None:
    path = write(tmp_path, "mine.csv", text)
    importer = builtin_registry().run_importers.get("csv")
    with pytest.raises(GpusimError, match=message):
        importer([path], tmp_path / "run", {"columns": columns})


VIDUR = (
    "Request Id,request_e2e_time,request_scheduling_delay,prefill_e2e_time,"
    "request_inter_arrival_delay,request_num_prefill_tokens,request_num_decode_tokens\n"
    "1,2.0,0.25,0.5,1.5,200,6\n"
    "0,1.0,0.0,0.25,,100,4\n"
)
SERVINGSIM = (
    "instance id,request id,model,input,output,arrival,end_time,latency,queuing_delay,"
    "TTFT,TPOT,ITL\n"
    '0,0,m,100,3,1000000000,1500000000,500000000,0,300000000,100000000,"[100000000, 100000000]"\n'
)
BLIS = {
    "vllm_estimated_duration_s": 3.0,
    "completed_requests": 1,
    "requests": [
        {
            "requestID": "request_0", "arrived_at": 1.5, "num_prefill_tokens": 100,
            "num_decode_tokens": 4, "ttft_ms": 20.0, "itl_ms": 5.0, "e2e_ms": 35.0,
            "scheduling_delay_ms": 2.0,
        },
        {
            "requestID": "request_1", "arrived_at": 2.5, "num_prefill_tokens": 100,
            "num_decode_tokens": 4, "ttft_ms": 0, "itl_ms": 0, "e2e_ms": 0,
            "scheduling_delay_ms": 0,
        },
    ],
}  # fmt: skip
AISIMULATE = {
    "terminal_status": "completed", "arrival_time_ms": 10.0, "input_length": 50,
    "output_length": 3, "ttft_ms": 12.5, "itl_ms": 2.0, "e2e_latency_ms": 16.5,
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "document", "simulator", "ttfts", "statuses"),
    [
        ("request_metrics.csv", VIDUR, "vidur", [250 * MS, 500 * MS], ["ok", "ok"]),
        ("sim.csv", SERVINGSIM, "llmservingsim", [300 * MS], ["ok"]),
        ("results.json", BLIS, "blis", [20 * MS], ["ok", "error"]),
        ("requests.jsonl", AISIMULATE, "aisimulate", [12_500_000], ["ok"]),
    ],
)
def test_other_simulators_results(
    tmp_path: Path,
    name: str,
    document: Any,
    simulator: str,
    ttfts: list[int],
    statuses: list[str],
) -> None:
    path = write(tmp_path, name, document)
    run = load_simulated_run(path, builtin_registry(), store=tmp_path / "runs")
    assert run.meta["run_type"] == simulator
    assert run.requests["status"].tolist() == statuses
    assert run.finished["ttft_ns"].tolist() == ttfts


def test_vidurs_arrivals_are_the_sums_of_its_gaps(tmp_path: Path) -> None:
    write(tmp_path, "request_metrics.csv", VIDUR)
    run = load_simulated_run(tmp_path, builtin_registry(), store=tmp_path / "runs")
    assert run.requests["arrival_time_ns"].tolist() == [0, 1500 * MS]
    assert run.requests["scheduled_time_ns"].tolist() == [0, 1750 * MS]
    assert run.requests["completion_time_ns"].tolist() == [1000 * MS, 3500 * MS]
    assert run.requests["num_decode_tokens"].tolist() == [4, 6]


def test_a_plain_table_of_ttft_and_e2e_is_a_simulation(tmp_path: Path) -> None:
    text = "arrival_s,ttft_ms,e2e_ms,input_tokens,output_tokens\n0,20,35,100,4\n1,21,40,100,4\n"
    path = write(tmp_path, "mine.csv", text)
    run = load_simulated_run(path, builtin_registry(), store=tmp_path / "runs")
    assert run.meta["run_type"] == "simulated"
    assert run.requests["ttft_ns"].tolist() == [20 * MS, 21 * MS]


def genai_perf(**usage: Any) -> dict[str, Any]:
    def chunk(text: str, **more: Any) -> dict[str, str]:
        document = {"choices": [{"delta": {"content": text}}], **more}
        return {"response": f"data: {json.dumps(document)}\n\n"}

    return {
        "service_kind": "openai",
        "endpoint": "v1/chat/completions",
        "experiments": [
            {
                "experiment": {"mode": "concurrency", "value": 2},
                "requests": [
                    {
                        "timestamp": 1_000_000_000,
                        "request_inputs": {
                            "payload": json.dumps(
                                {"model": "m", "messages": [{"role": "user", "content": "a b"}]}
                            )
                        },
                        "response_timestamps": [1_010_000_000, 1_020_000_000, 1_030_000_000],
                        "response_outputs": [chunk(""), chunk("dogs"), chunk(" run", **usage)],
                    }
                ],
            }
        ],
    }


def test_genai_perf(tmp_path: Path) -> None:
    usage = {"usage": {"prompt_tokens": 9, "completion_tokens": 2}}
    path = write(tmp_path, "profile_export.json", genai_perf(**usage))
    run = load_real_run(path, builtin_registry(), store=tmp_path / "runs")
    assert run.requests["ttft_ns"].tolist() == [20 * MS]
    assert run.requests["num_prefill_tokens"].tolist() == [9]
    assert run.meta["load"] == {"kind": "closed", "max_concurrency": 2}
    assert run.tokens is not None
    without = write(tmp_path, "other.json", genai_perf())
    with pytest.raises(GpusimError, match="keeps no token counts: give --tokenizer DIR"):
        load_real_run(without, builtin_registry(), store=tmp_path / "runs")
