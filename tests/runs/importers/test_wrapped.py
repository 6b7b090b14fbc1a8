"""Results in lists and wrappers, runs named by ``#``, summaries beside and instead of requests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pytest_gpusim.case.given import find_real
from pytest_gpusim.errors import GpusimError, InputError
from pytest_gpusim.registry import builtin_registry
from pytest_gpusim.runs import Run
from pytest_gpusim.runs.importers import load_real_run, load_real_runs, load_simulated_run
from tests.runs.importers.samples import AIPERF, AISIMULATE, GUIDELLM, INFERENCE_PERF

CASES = Path(__file__).parents[2] / "data" / "cases"
MS = 1_000_000
VLLM = json.loads((CASES / "59-three-repeats" / "r0.json").read_text())
OTHER = json.loads((CASES / "59-three-repeats" / "r1.json").read_text())
SGLANG = {
    **json.loads((CASES / "42-sglang" / "sglang_0401_10_random.jsonl").read_text()),
    "request_rate": float("inf"),
}
RECORDS = json.loads(INFERENCE_PERF.read_text())
ROWS = [
    {"arrival_s": 0.5 * n, "ttft_ms": 20.5, "e2e_ms": 35, "input_tokens": 9, "output_tokens": 4}
    for n in range(2)
]


def saved(tmp_path: Path, document: Any, name: str = "r.json", indent: int | None = None) -> Path:
    path = tmp_path / name
    text = document if isinstance(document, str) else json.dumps(document, indent=indent)
    path.write_text(text)
    return path


def load(path: Path | str, tmp_path: Path, **options: Any) -> Run:
    return load_real_run(path, builtin_registry(), store=tmp_path / "runs", options=options)


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize(
    ("document", "kind", "count"),
    [
        ([VLLM], "vllm-bench", 24),
        ({"results": [VLLM]}, "vllm-bench", 24),
        ({"note": "mine", "result": VLLM}, "vllm-bench", 24),
        ([SGLANG], "sglang", 2),
        ({"requests": RECORDS}, "inference-perf", len(RECORDS)),
        ({"model": "m", "runs": 3, "rows": ROWS}, "csv", 2),
        (ROWS, "csv", 2),
    ],
)
def test_what_a_list_or_a_wrapper_holds(
    tmp_path: Path, document: Any, kind: str, count: int, indent: int | None
) -> None:
    run = load(saved(tmp_path, document, indent=indent), tmp_path)
    assert run.meta["params"]["import"]["kind"] == kind
    assert len(run.requests) == count
    if kind == "csv":
        assert (run.requests["ttft_ns"] / MS).tolist() == [20.5, 20.5]


def test_records_on_lines_or_over_several(tmp_path: Path) -> None:
    lines = "".join(json.dumps(record) + "\n" for record in RECORDS)
    assert len(load(saved(tmp_path, lines, "a.jsonl"), tmp_path).requests) == len(RECORDS)
    records = [json.loads(line) for line in AIPERF.read_text().splitlines()]
    spread = "\n".join(json.dumps(record, indent=2) for record in records)
    plain = load(AIPERF, tmp_path).requests
    assert load(saved(tmp_path, spread, "b.jsonl"), tmp_path).requests.equals(plain)
    table = "\n".join(json.dumps(row, indent=2) for row in ROWS)
    assert len(load(saved(tmp_path, table, "c.json"), tmp_path).requests) == 2


def first(run: Run) -> float:
    """The first request's TTFT by the client, in s."""
    row = run.requests.iloc[0]
    return float(row["first_token_time_ns"] - row["sent_time_ns"]) / 1e9


def test_the_runs_of_a_list(tmp_path: Path) -> None:
    path = saved(tmp_path, [VLLM, OTHER])
    with pytest.raises(InputError, match=r"results: has 2, each a run of its own; name one: .*#0"):
        load(path, tmp_path)
    runs = load_real_runs(f"{path}#all", builtin_registry(), store=tmp_path / "runs")
    assert [first(run) for run in runs] == pytest.approx([VLLM["ttfts"][0], OTHER["ttfts"][0]])
    simulated = load_simulated_run(Path(f"{path}#1"), builtin_registry(), store=tmp_path)
    assert first(simulated) == pytest.approx(OTHER["ttfts"][0])


@pytest.mark.parametrize("which", ["x", "-1", "1.5", "", "last"])
def test_what_is_no_number_of_a_run(tmp_path: Path, which: str) -> None:
    path = saved(tmp_path, [VLLM, OTHER])
    says = f"r.json#{which}: #{which} is no run's number; name one, as .*r.json#0, or all"
    for way in (load, lambda path, place: load_simulated_run(path, builtin_registry())):
        with pytest.raises(InputError, match=says):
            way(Path(f"{path}#{which}"), tmp_path)
    with pytest.raises(InputError, match=says):
        find_real(f"r.json#{which}", [tmp_path])


def test_all_runs_where_one_is_needed_and_one_of_a_single(tmp_path: Path) -> None:
    path = saved(tmp_path, [VLLM, OTHER])
    with pytest.raises(InputError, match="#all are several runs; name one, as"):
        load(Path(f"{path}#all"), tmp_path)
    path = saved(tmp_path, ROWS)
    with pytest.raises(InputError, match=r"a file of the kind csv holds one run: give .*json$"):
        load(Path(f"{path}#0"), tmp_path)


def test_an_appended_result_that_was_cut_off(tmp_path: Path) -> None:
    path = saved(tmp_path, json.dumps(VLLM) + "\n" + json.dumps(OTHER)[:500])
    with pytest.raises(InputError, match=r"r.json: document 1: not JSON"):
        load(path, tmp_path)


# Counts that a tool's summary states.


def test_requests_that_a_summary_counts_are_all_there(tmp_path: Path) -> None:
    (tmp_path / "iperf").mkdir()
    path = saved(tmp_path / "iperf", RECORDS, "per_request_lifecycle_metrics.json")
    count = len(RECORDS)
    for successes, failures, says in (
        (count, 0, ""),
        (count + 2, 0, f"holds {count} of the {count + 2} requests .* counts as successes"),
        (count, 3, "holds 0 of the 3 requests that its summary counts as failures"),
    ):
        summary = {"successes": {"count": successes}, "failures": {"count": failures}}
        saved(path.parent, summary, "summary_lifecycle_metrics.json")
        if says:
            with pytest.raises(InputError, match=says):
                load(path, tmp_path)
            assert len(load(path, tmp_path, skip_bad=True).requests) == count
        else:
            assert len(load(path.parent, tmp_path).requests) == count


def test_the_count_of_a_stage_is_its_own(tmp_path: Path) -> None:
    records = [{**record, "stage_id": n % 2} for n, record in enumerate(RECORDS)]
    path = saved(tmp_path, records, "per_request_lifecycle_metrics.json")
    saved(tmp_path, {"successes": {"count": 9}}, "stage_1_lifecycle_metrics.json")
    load(Path(f"{path}#0"), tmp_path)
    with pytest.raises(InputError, match="of the 9 requests that its summary counts as successes"):
        load(Path(f"{path}#1"), tmp_path)


def genai_perf(text: str) -> dict[str, Any]:
    usage = {"prompt_tokens": 7, "completion_tokens": 1}
    chunk = {"choices": [{"delta": {"content": text}}], "usage": usage}
    request = {
        "timestamp": 0, "response_timestamps": [30 * MS], "request_inputs": {},
        "response_outputs": [{"response": f"data: {json.dumps(chunk)}\n\n"}],
    }  # fmt: skip
    return {"experiments": [{"experiment": {"mode": "request_rate"}, "requests": [request]}]}


@pytest.mark.parametrize(("counted", "held"), [(1, True), (4, False)])
def test_genai_perfs_summary_counts(tmp_path: Path, counted: int, held: bool) -> None:
    saved(tmp_path, genai_perf("x"), "mine.json")
    summary = {"request_count": {"unit": "requests", "avg": float(counted)}, "input_config": {}}
    saved(tmp_path, summary, "mine_genai_perf.json")
    if held:  # the folder, too, whatever its files are called
        assert load(tmp_path, tmp_path).requests["ttft_ns"].tolist() == [30 * MS]
    else:
        with pytest.raises(InputError, match=r"holds 1 of the 4 requests .* counts as answered"):
            load(tmp_path / "mine.json", tmp_path)


def test_aiperfs_failed_requests_are_counted(tmp_path: Path) -> None:
    saved(tmp_path, AIPERF.read_text(), "profile_export.jsonl")
    summary = {"request_count": {"avg": 2.0}, "error_request_count": {"avg": 9.0}}
    saved(tmp_path, summary, "profile_export_aiperf.json")
    with pytest.raises(InputError, match="of the 9 requests that its summary counts as failed"):
        load(tmp_path, tmp_path)


def test_a_sample_of_guidellm_without_a_total(tmp_path: Path) -> None:
    document = json.loads(GUIDELLM.read_text())
    made = document["benchmarks"][0]["scheduler_metrics"]["requests_made"]
    made.update(total=None, successful=50)
    with pytest.raises(InputError, match="the report keeps 6 of 51 requests"):
        load(saved(tmp_path, document), tmp_path)


def test_blis_lists_what_it_completed(tmp_path: Path) -> None:
    document = {"vllm_estimated_duration_s": 1.0, "completed_requests": 5, "requests": []}
    with pytest.raises(InputError, match=r"holds 0 of the 5 requests .* counts as completed"):
        load_simulated_run(saved(tmp_path, document), builtin_registry(), store=tmp_path)


def test_a_request_of_aisimulate_counts_once(tmp_path: Path) -> None:
    record = {**json.loads(AISIMULATE.read_text().splitlines()[0]), "request_id": "r"}
    path = saved(tmp_path, f"{json.dumps(record)}\n{json.dumps(record)}\n", "requests.jsonl")
    with pytest.raises(InputError, match="line 2: is request r, as line 1 is"):
        load_simulated_run(path, builtin_registry(), store=tmp_path)


# What is no result, by its name.


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("s.json", '{"load_summary": {}, "successes": {}}', "by inference-perf; give per_request_"),
        ("s.json", '{"avg_latency": 1, "latencies": [], "percentiles": {}}', "vllm bench latency"),
        ("s.json", '{"elapsed_time": 1, "num_requests": 2, "tokens_per_second": 3}', "throughput"),
        ("s.json", '{"input_config": {}, "request_count": {}}', "AIPerf or GenAI-Perf; give the"),
        ("s.json", '{"aiperf_version": "0.5"}', "by AIPerf; give the profile_export.jsonl"),
        ("s.csv", "Metric,avg,min\nTTFT (ms),1,2\n", "by AIPerf or GenAI-Perf; give the profile_"),
        ("s.jsonl", '{"metadata": {"benchmark_phase": "profiling"}}', "is AIPerf's raw export"),
        ("s.yaml", "benchmarks:\n- 1\n", "is a YAML file, perhaps GuideLLM's; give its benchmarks"),
        ("s.csv", "when,first,last,in,out\n0,1,2,3,4\n",
         r"name its columns \(when, first, last, in, out\): gpusim import-run csv"),
    ],
)  # fmt: skip
def test_what_is_no_run_is_called_by_its_name(
    tmp_path: Path, name: str, text: str, says: str
) -> None:
    place = tmp_path / "folder"
    place.mkdir()
    path = saved(place, text, name)
    with pytest.raises(GpusimError, match=says):
        load(path, tmp_path)
    if name != "s.csv" or text.startswith("Metric"):
        with pytest.raises(GpusimError, match=says):
            load(place, tmp_path)


def test_a_backend_without_tokens(tmp_path: Path) -> None:
    document = {"model_id": "m", "duration": 1, "completed": 1, "backend": "openai-embeddings"}
    with pytest.raises(InputError, match="ttfts: is missing: openai-embeddings answers without"):
        load(saved(tmp_path, document), tmp_path)


def test_the_one_model_that_the_file_names(tmp_path: Path) -> None:
    path = saved(tmp_path, VLLM)
    assert len(load(path, tmp_path, only_model=VLLM["model_id"]).requests) == 24
    with pytest.raises(InputError, match=f"models found: {VLLM['model_id']}"):
        load(path, tmp_path, only_model="other")
