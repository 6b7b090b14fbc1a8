"""Results as they come in practice: other settings of the load, other phases, runs cut off."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pytest_gpusim.errors import InputError
from pytest_gpusim.registry import builtin_registry
from pytest_gpusim.runs import Run
from pytest_gpusim.runs.importers import load_real_run, load_real_runs, load_simulated_run
from pytest_gpusim.runs.importers.failures import is_refusal
from pytest_gpusim.workload import Workload, read_workload
from tests.runs.importers.samples import AISIMULATE, GUIDELLM

CASES = Path(__file__).parents[2] / "data" / "cases"
MS, S = 1_000_000, 1_000_000_000


def load(path: Path | str, tmp_path: Path, **options: Any) -> Run:
    return load_real_run(path, builtin_registry(), store=tmp_path / "runs", options=options)


def asked(run: Run) -> Workload:
    return read_workload(run.path / "workload")


def aiperf(tmp_path: Path, config: dict[str, Any], phases: tuple[int | None, ...] = ()) -> Path:
    """Records of AIPerf, of these phases, and the summary with this configuration."""
    lines = (CASES / "34-aiperf-prefix" / "myrun.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    for record, phase in zip(records, phases, strict=False):
        record["metadata"]["profiling_index"] = phase
    path = tmp_path / "profile_export.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    summary = {"aiperf_version": "0.13.0", "input_config": {"models": {"items": ["m"]}, **config}}
    (tmp_path / "profile_export_aiperf.json").write_text(json.dumps(summary))
    return path


WARM = {"name": "warmup", "kind": "warmup", "type": "concurrency", "concurrency": 9}


@pytest.mark.parametrize(
    ("config", "at_once"),
    [
        ({"phases": [WARM, {"name": "profiling", "type": "concurrency", "concurrency": 4}]}, 4),
        ({"phases": [{"name": "profiling", "type": "concurrency"}]}, 1),
        ({"phases": [{"name": "p", "type": "poisson", "rate": 2.0, "concurrency": 8}]}, None),
        ({"profiling": {"type": "concurrency", "concurrency": 3}}, 3),
        ({"loadgen": {"concurrency": 2}}, 2),
        ({"loadgen": {"concurrency": 2, "request_rate": 1.0}}, None),
        ({}, None),
    ],
)
def test_aiperfs_users_are_a_closed_loop(
    tmp_path: Path, config: dict[str, Any], at_once: int | None
) -> None:
    run = load(aiperf(tmp_path, config), tmp_path)
    assert run.meta["model"] == "m"
    assert (run.meta.get("load") or {}).get("max_concurrency") == at_once
    if at_once:
        assert {request.arrival_time_ns for request in asked(run).requests} == {0}


def test_aiperfs_phases_are_runs(tmp_path: Path) -> None:
    phases = [
        {"name": "one", "kind": "profiling", "type": "concurrency", "concurrency": 1},
        {"name": "four", "kind": "profiling", "type": "concurrency", "concurrency": 4},
    ]
    path = aiperf(tmp_path, {"phases": phases}, (0, 1, 1))
    with pytest.raises(InputError, match=r"measured phases: has 2, each a run of its own; name"):
        load(path, tmp_path)
    runs = load_real_runs(f"{path}#all", builtin_registry(), store=tmp_path / "runs")
    assert [run.meta["load"]["max_concurrency"] for run in runs] == [1, 4]
    assert len(runs[0].requests) == 1


def test_aiperfs_models_are_told_apart_by_what_was_sent(tmp_path: Path) -> None:
    path = aiperf(tmp_path, {"models": {"items": [{"name": "m"}, {"name": "n"}]}})
    with pytest.raises(InputError, match=r"asked 2 models \(m, n\), its records do not say which"):
        load(path, tmp_path)
    sent = [
        {"session_id": f"k{k}", "payloads": [{"model": "mn"[k % 2], "prompt": f"p {k}"}]}
        for k in range(8)
    ]
    (tmp_path / "inputs.json").write_text(json.dumps({"data": sent}))
    with pytest.raises(InputError, match="--only-model m or n"):
        load(path, tmp_path)
    run = load(path, tmp_path, only_model="n")
    assert run.meta["model"] == "n"


@pytest.mark.parametrize("tail", ['{"metadata": {"session_num": 3, "x_requ', "null", "[1]"])
def test_the_tail_of_an_aborted_run(tmp_path: Path, tail: str) -> None:
    path = aiperf(tmp_path, {})
    count = len(load(path, tmp_path).requests)
    with path.open("a") as stream:
        stream.write(tail)
    with pytest.raises(InputError, match=f"line {count + 1}"):
        load(path, tmp_path)
    run = load(path, tmp_path, skip_bad=True)
    assert len(run.requests) == count
    said = f"1 of {count + 1} records cannot be used"
    assert any(said in note for note in run.meta["params"]["import"]["notes"])


def test_a_table_that_was_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("arrival_s,ttft_ms,e2e_ms,input_tokens,output_tokens\n0,20,35,100,4\n1,21")
    with pytest.raises(InputError, match="line 3: has 2 cells, the header has 5"):
        load(path, tmp_path)
    assert len(load(path, tmp_path, skip_bad=True).requests) == 1


def guidellm(tmp_path: Path, **strategy: Any) -> Path:
    """GuideLLM's five requests, all due at the beginning, each sent 10 ms after the one before."""
    document = json.loads(GUIDELLM.read_text())
    benchmark = document["benchmarks"][0]
    benchmark["config"]["strategy"] = strategy
    begin = benchmark["start_time"]
    for number, record in enumerate(benchmark["requests"]["successful"]):
        times = record["info"]["timings"]
        shift = begin + 0.01 * number - times["request_start"]
        for key in ("request_start", "first_token_iteration", "last_token_iteration"):
            times[key] += shift
        times["targeted_start"] = begin
    benchmark["requests"]["errored"] = []
    benchmark["scheduler_metrics"]["requests_made"]["total"] = 5
    path = tmp_path / "benchmarks.json"
    path.write_text(json.dumps(document))
    return path


@pytest.mark.parametrize(
    ("strategy", "at_once"),
    [
        ({"type_": "throughput", "max_concurrency": 5}, 5),
        ({"type_": "throughput", "max_concurrency": 512}, None),
        ({"type_": "throughput", "max_concurrency": None}, None),
        ({"type_": "poisson", "rate": 9.0, "max_concurrency": 5}, 5),
        ({"type_": "constant", "rate": 9.0, "max_concurrency": 10240}, None),
        ({"type_": "concurrent", "streams": 3, "max_concurrency": 3}, 3),
        ({"type_": "synchronous", "max_concurrency": 1}, 1),
    ],
)
def test_guidellms_limit_counts_where_it_held_requests_back(
    tmp_path: Path, strategy: dict[str, Any], at_once: int | None
) -> None:
    run = load(guidellm(tmp_path, **strategy), tmp_path)
    assert (run.meta.get("load") or {}).get("max_concurrency") == at_once
    if strategy["type_"] in ("throughput", "poisson"):
        waited = (run.requests["sent_time_ns"] - run.requests["arrival_time_ns"]).max()
        assert bool(waited == 0) is bool(at_once)
        assert at_once is None or {r.arrival_time_ns for r in asked(run).requests} == {0}


def test_guidellms_conversations_stay_so(tmp_path: Path) -> None:
    path = guidellm(tmp_path, type_="constant", rate=1.0)
    document = json.loads(path.read_text())
    for turn, record in enumerate(document["benchmarks"][0]["requests"]["successful"][:2]):
        record["info"].update(conversation_id="c", turn_index=turn)
        for key in ("request_start", "first_token_iteration", "last_token_iteration"):
            record["info"]["timings"][key] += 10.0 * turn
        record["info"]["timings"]["targeted_start"] += 10.0 * turn
    path.write_text(json.dumps(document))
    assert len(asked(load(path, tmp_path)).follows) == 1


@pytest.mark.parametrize(
    ("said", "taken"),
    [("one two three four", 14), ("one two other", 12), ("canned", None)],
)
def test_a_turn_goes_on_with_the_answer_before(
    tmp_path: Path, said: str, taken: int | None
) -> None:
    """Ten tokens were asked with, and four answered with; the next turn says the answer again."""
    path = guidellm(tmp_path, type_="constant", rate=1.0)
    document = json.loads(path.read_text())
    records = document["benchmarks"][0]["requests"]["successful"]
    first = [{"role": "user", "content": "a b c d e f g h i"}]
    more = [{"role": "assistant", "content": said}, {"role": "user", "content": "and then"}]
    for turn, record in enumerate(records[:2]):
        record["info"].update(conversation_id="c", turn_index=turn)
        for key in ("request_start", "first_token_iteration", "last_token_iteration"):
            record["info"]["timings"][key] += 10.0 * turn
        record["info"]["timings"]["targeted_start"] += 10.0 * turn
        body = {"messages": first + more * turn}
        record.update(request_args=json.dumps({"body": body}), output="one two three four")
        record.update(input_metrics={"total_tokens": 10 + 10 * turn}, output_tokens=4)
    path.write_text(json.dumps(document))
    workload = asked(load(path, tmp_path))
    later = next(iter(workload.follows))
    prompt = (workload.prompts or {})[workload.requests[later].prompt_id]
    assert prompt.prefix_tokens == (10 if taken is None else taken)


def test_guidellm_0_1_is_refused_by_name(tmp_path: Path) -> None:
    old = {"mode": "synchronous", "rate": None, "results": [], "errors": [], "concurrencies": []}
    path = tmp_path / "report.json"
    path.write_text(json.dumps({"benchmarks": [old], "args": {}}))
    with pytest.raises(InputError, match=r"report of GuideLLM 0\.1; use GuideLLM 0\.2 or newer"):
        load(path, tmp_path)


@pytest.mark.parametrize(
    ("stages", "at_once", "note"),
    [
        ([2], 2, ""),
        ([None], None, ""),
        ([2, 4], None, "the stages had so many requests at once: 2, 4; which request was of which"),
    ],
)
def test_inference_perfs_concurrency_is_in_the_reports_of_its_stages(
    tmp_path: Path, stages: list[int | None], at_once: int | None, note: str
) -> None:
    name = "per_request_lifecycle_metrics.json"
    (tmp_path / name).write_text((CASES / "20-iperf-0.1.1-to-0.4" / name).read_text())
    for number, count in enumerate(stages):
        summary = {"count": 3, "requested_rate": 1.0, **({"concurrency": count} if count else {})}
        report = {"load_summary": summary, "successes": {}}
        (tmp_path / f"stage_{number}_lifecycle_metrics.json").write_text(json.dumps(report))
    run = load(tmp_path, tmp_path)
    assert (run.meta.get("load") or {}).get("max_concurrency") == at_once
    assert any(note in said for said in run.meta["params"]["import"]["notes"])


@pytest.mark.parametrize(("accepted", "speculates"), [(2.7, True), (None, False)])
def test_sglangs_accepted_tokens_say_that_it_speculated(
    tmp_path: Path, accepted: float | None, speculates: bool
) -> None:
    place = CASES / "42-sglang" / "sglang_0401_10_random.jsonl"
    document = {**json.loads(place.read_text()), "request_rate": float("inf")}
    path = tmp_path / "burst.jsonl"
    path.write_text(json.dumps({**document, "accept_length": accepted}))
    engine = load(path, tmp_path).meta.get("engine") or {}
    assert ("speculative_config" in engine) is speculates


@pytest.mark.parametrize("between", ["", "\n", "\r\n\r\n"])
@pytest.mark.parametrize("indent", [None, 2])
def test_appended_results_however_they_are_laid_out(
    tmp_path: Path, between: str, indent: int | None
) -> None:
    document = json.loads((CASES / "59-three-repeats" / "r0.json").read_text())
    path = tmp_path / "result.json"
    path.write_text(between.join([json.dumps(document, indent=indent)] * 2))
    with pytest.raises(InputError, match="has 2, each a run of its own"):
        load(path, tmp_path)
    assert len(load(f"{path}#1", tmp_path).requests) == 24


@pytest.mark.parametrize(
    ("error", "refused"),
    [
        ("Bad Request", True),
        ("HTTP 413 Payload Too Large", True),
        ('{"error": {"message": "longer than the maximum model length", "code": 400}}', True),
        ("Internal Server Error", False),
        ("timed out after 400 s", False),
        ("no answer for 503ms", False),
    ],
)
def test_what_is_a_refusal(error: str, refused: bool) -> None:
    assert is_refusal(error) is refused


@pytest.mark.parametrize("separator", [";", "\t"])
def test_tables_by_other_signs_than_commas(tmp_path: Path, separator: str) -> None:
    text = "arrival_s,ttft_ms,e2e_ms,input_tokens,output_tokens\n0,20,35,100,4\n"
    path = tmp_path / "t.csv"
    path.write_text(text.replace(",", separator))
    assert load(path, tmp_path).requests["ttft_ns"].tolist() == [20 * MS]


def test_a_genuine_result_of_aisimulate(tmp_path: Path) -> None:
    """Twelve requests at 8 a second, by AISimulate 0.13.0 on its H200 tables."""
    run = load_simulated_run(AISIMULATE, builtin_registry(), store=tmp_path)
    rows = run.requests
    assert run.meta["run_type"] == "aisimulate"
    assert rows["arrival_time_ns"].tolist() == [125 * MS * number for number in range(12)]
    assert rows["num_prefill_tokens"].tolist() == [256] * 12
    assert rows["num_decode_tokens_actual"].tolist() == [16] * 12
    records = [json.loads(line) for line in AISIMULATE.read_text().splitlines()]
    for column, key in (
        ("scheduled_time_ns", "first_admit_ms"),
        ("first_token_time_ns", "first_token_ms"),
        ("completion_time_ns", "last_token_ms"),
    ):
        stated = [record[key] * MS for record in records]
        assert rows[column].tolist() == pytest.approx(stated, abs=2)
    assert rows["num_cached_tokens"].tolist() == [r["reused_input_tokens"] for r in records]


def test_blis_arrivals_are_held_against_its_duration(tmp_path: Path) -> None:
    request = {"num_prefill_tokens": 9, "num_decode_tokens": 4, "ttft_ms": 20.0, "e2e_ms": 35.0}
    path = tmp_path / "b.json"
    for unit, good in ((1, True), (1000, False)):
        document = {
            "vllm_estimated_duration_s": 3.0,
            "completed_requests": 2,
            "requests": [{**request, "arrived_at": time * unit} for time in (0.5, 2.5)],
        }
        path.write_text(json.dumps(document))
        if good:
            run = load_simulated_run(path, builtin_registry(), store=tmp_path / "runs")
            assert run.requests["arrival_time_ns"].tolist() == [0, 2 * S]
        else:
            with pytest.raises(InputError, match="spans more than the run: it is not in seconds"):
                load_simulated_run(path, builtin_registry(), store=tmp_path / "runs")


def test_a_request_of_genai_perf_that_nothing_answered(tmp_path: Path) -> None:
    request = {
        "timestamp": 1, "request_inputs": {}, "response_timestamps": [], "response_outputs": [],
    }  # fmt: skip
    document = {"experiments": [{"experiment": {"mode": "request_rate"}, "requests": [request]}]}
    path = tmp_path / "profile_export.json"
    path.write_text(json.dumps(document))
    assert load(path, tmp_path).requests["error_type"].tolist() == ["no_output"]


def iperf(tmp_path: Path, records: list[dict[str, Any]]) -> Run:
    path = tmp_path / "per_request_lifecycle_metrics.json"
    path.write_text(json.dumps(records))
    return load(path, tmp_path)


def iperf_records() -> list[dict[str, Any]]:
    """Three requests, a second apart, each of which takes 0.2 s."""
    place = CASES / "20-iperf-0.1.1-to-0.4" / "per_request_lifecycle_metrics.json"
    return list(json.loads(place.read_text()))


@pytest.mark.parametrize(("lasting", "turns"), [(0.0, [0, 1]), (2.0, [])])
def test_inference_perfs_sessions_where_they_are_one_after_another(
    tmp_path: Path, lasting: float, turns: list[int]
) -> None:
    records = iperf_records()
    for record in records[:2]:
        record["session_id"] = "s"
    records[0]["end_time"] += lasting
    records[0]["info"]["output_token_times"][-1] += lasting
    run = iperf(tmp_path, records)
    assert [turn.turn for turn in run.sessions.values()] == turns
    said = any("session_id is passed over" in n for n in run.meta["params"]["import"]["notes"])
    assert said is not bool(turns)


@pytest.mark.parametrize("usage", [None, {"prompt_tokens": 900, "completion_tokens": 5}])
def test_pictures_that_nobody_counted_are_said(
    tmp_path: Path, usage: dict[str, int] | None
) -> None:
    records = iperf_records()
    for record in records:
        info = record["info"]
        record["info"] = {
            "request_metrics": {"text": {"input_tokens": 50}, "image": {"count": 1}},
            "response_metrics": {**info, "server_usage": usage},
        }
    run = iperf(tmp_path, records)
    lost = "tokens of pictures, video and sound" in run.meta["params"]["import"]["not_recovered"]
    assert lost is (usage is None)
    assert run.requests["num_prefill_tokens"].tolist() == [50 if lost else 900] * 3


def test_guidellms_prompts_count_their_pictures(tmp_path: Path) -> None:
    path = guidellm(tmp_path, type_="constant", rate=1.0)
    document = json.loads(path.read_text())
    for record in document["benchmarks"][0]["requests"]["successful"]:
        record.update(prompt_tokens=35, input_metrics={"text_tokens": 35, "total_tokens": 612})
    path.write_text(json.dumps(document))
    assert load(path, tmp_path).requests["num_prefill_tokens"].tolist() == [612] * 5
