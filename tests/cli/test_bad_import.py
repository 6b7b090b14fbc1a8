"""Files of other tools that cannot be used: exit code 2 and one line that names the place."""

from __future__ import annotations

import json
import re

import pytest

from pytest_gpusim.cli import main
from tests.factories import TINY, make_workload
from tests.llmservingsim import folder as made
from tests.llmservingsim.test_run import REQUESTS
from tests.runs.importers.samples import AIPERF, GUIDELLM, INFERENCE_PERF
from tests.runs.importers.test_vllm_bench import result

DEEP = "[" * 100_000
LONG = "1" * 5000
HUGE = 10**400


def refused(capsys, *arguments):
    """The one line of a command that exits with 2."""
    try:
        code = main(["-p", "tests.toyplugin", *map(str, arguments)])
    except SystemExit as exited:
        code = exited.code
    out, err = capsys.readouterr()
    assert code == 2, (code, out, err)
    assert len(err.strip().splitlines()) == 1, err
    assert "Traceback" not in err
    assert len(err) < 1000
    return err


def refused_run(capsys, tmp_path, kind, name, content):
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    err = refused(capsys, "import-run", kind, path, "--out", tmp_path / "out")
    assert name in err
    assert not (tmp_path / "out").exists()
    return err


RUN_KINDS = ["vllm-bench", "aiperf", "guidellm", "inference-perf"]
TRACE_KINDS = ["azure", "vidur", "burstgpt", "mooncake", "lengths", "llmservingsim", "run"]
NONSENSE = {
    "deep": DEEP,
    "deep object": '{"a":' * 50_000,
    "long number": '{"a": ' + LONG + "}",
    "empty": "",
    "blank": "\n\n",
    "half": '{"a": [1, 2',
    "number": "7",
    "null": "null",
}


@pytest.mark.parametrize("text", NONSENSE.values(), ids=NONSENSE)
@pytest.mark.parametrize("kind", RUN_KINDS)
def test_nonsense_is_no_run(capsys, tmp_path, kind, text):
    refused_run(capsys, tmp_path, kind, "result.json", text)


@pytest.mark.parametrize("text", NONSENSE.values(), ids=NONSENSE)
@pytest.mark.parametrize("kind", TRACE_KINDS)
def test_nonsense_is_no_trace(capsys, tmp_path, kind, text):
    path = tmp_path / "trace.csv"
    path.write_text(text)
    arguments = ["--rate", "1", "--out", tmp_path / "out"]
    assert "trace.csv" in refused(capsys, "workload", "import", kind, path, *arguments)


@pytest.mark.parametrize(
    ("kind", "option", "says"),
    [
        ("azure", ["--unit", "ms"], "--unit: is for vidur, burstgpt, mooncake, csv; azure has no"),
        ("burstgpt", ["--block-size", "16"], "--block-size: is for mooncake, vidur; burstgpt has"),
        ("vidur", ["--drop-failed"], "--drop-failed: is for run; vidur has no use for it"),
        ("mooncake", ["--think-time", "2"], "--think-time: is for sharegpt; mooncake has no use"),
    ],
)
def test_an_option_that_would_be_passed_over(capsys, tmp_path, kind, option, says):
    path = tmp_path / "trace.csv"
    path.write_text("x")
    assert says in refused(capsys, "workload", "import", kind, path, *option)


@pytest.mark.parametrize("text", NONSENSE.values(), ids=NONSENSE)
def test_nonsense_is_of_no_kind(capsys, tmp_path, text):
    path = tmp_path / "some-file"
    path.write_text(text)
    err = refused(capsys, "compare", path, tmp_path, "--out", tmp_path / "out")
    assert "is not a run directory, nor a file of a known kind" in err


def test_bytes_are_of_no_kind(capsys, tmp_path):
    path = tmp_path / "some-file.gz"
    path.write_bytes(b"\x1f\x8b\xff\xfe broken")
    refused(capsys, "compare", path, tmp_path, "--out", tmp_path / "out")
    assert "cannot be read" in refused(capsys, "import-run", "vllm-bench", path)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"ttfts": [HUGE, 0.25, 0.0]}, "ttfts[0]: "),
        ({"ttfts": [1e300, 0.25, 0.0], "latencies": None}, "ttfts[0]: 1e+300 is beyond"),
        ({"itls": [[1e300, 0.2], [], []], "latencies": None}, "itls[0][0]: 1e+300 is beyond"),
        ({"start_times": [1e300, 0, 0]}, "start_times[0]: 1e+300 is beyond"),
        ({"input_lens": [HUGE, 20, 30]}, "input_lens[0]: "),
        ({"output_lens": [1e300, 1, 0]}, "output_lens[0]: "),
        ({"ttfts": [float("nan"), 0.25, 0.0]}, "ttfts[0]: expected a finite number, found nan"),
        ({"ttfts": [float("inf"), 0.25, 0.0]}, "ttfts[0]: expected a finite number, found inf"),
        ({"duration": float("nan")}, "duration: expected a finite number"),
        ({"duration": None}, "duration: is missing, so nothing tells that the times are in"),
        (
            {"duration": None, "latencies": None, "median_ttft_ms": 0.375},
            "median_ttft_ms: is 0.375, ttfts give 375: times are not in seconds",
        ),
        ({"model_id": ["a"]}, "model_id: expected a string"),
        ({"ttfts": {"0": 1}}, "ttfts: expected an array"),
        ({"errors": ["", "", ["x"] * 10_000]}, "errors[2]: expected a string"),
    ],
)
def test_vllm_bench(capsys, tmp_path, changes, says):
    document = json.dumps(result(**changes))
    assert says in refused_run(capsys, tmp_path, "vllm-bench", "result.json", document)


def aiperf(**changes):
    record = json.loads(AIPERF.read_text().splitlines()[3])
    record["metrics"].update(changes.pop("metrics", {}))
    record["metadata"].update(changes.pop("metadata", {}))
    return json.dumps({**record, **changes}) + "\n"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"metrics": {"time_to_first_token": {"value": 1e300, "unit": "s"}}}, "beyond"),
        ({"metrics": {"time_to_first_token": {"value": 1e12, "unit": "s"}}}, "beyond"),
        ({"metrics": {"time_to_first_token": {"value": HUGE, "unit": "ns"}}}, "beyond"),
        ({"metrics": {"time_to_first_token": 5}}, "time_to_first_token: expected a JSON object"),
        ({"metadata": {"request_start_ns": HUGE}}, "metadata, request_start_ns"),
        ({"metadata": {"benchmark_phase": 5}}, "benchmark_phase: expected a string"),
        ({"error": "timeout"}, "error: expected a JSON object, found 'timeout'"),
    ],
)
def test_aiperf(capsys, tmp_path, changes, says):
    err = refused_run(capsys, tmp_path, "aiperf", "profile_export.jsonl", aiperf(**changes))
    assert says in err
    assert "line 1" in err


def test_a_broken_summary_beside_the_records_is_no_obstacle(capsys, tmp_path):
    (tmp_path / "profile_export.jsonl").write_text(AIPERF.read_text())
    for number, text in enumerate([DEEP, '{"input_config": [1]}', '{"aiperf_version": [7]}']):
        (tmp_path / "profile_export_aiperf.json").write_text(text)
        out = tmp_path / f"out{number}"
        assert main(["import-run", "aiperf", str(tmp_path), "--out", str(out)]) == 0


def guidellm(change):
    document = json.loads(GUIDELLM.read_text())
    change(document, document["benchmarks"][0])
    return document


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d, b: b.update(config="fast"), "config: expected a JSON object, found 'fast'"),
        (lambda d, b: b.update(config={"backend": ["openai"]}), "config, backend: expected a JSON"),
        (lambda d, b: b.update(config={"backend": {"model": 5}}), "model: expected a string"),
        (lambda d, b: b.update(scheduler_metrics=[1]), "scheduler_metrics: expected a JSON object"),
        (
            lambda d, b: b.update(scheduler_metrics={"requests_made": "6"}),
            "scheduler_metrics, requests_made: expected a JSON object, found '6'",
        ),
        (lambda d, b: d.update(metadata="0.8.1"), "metadata: expected a JSON object"),
        (lambda d, b: d.update(benchmarks={"a": 1}), "benchmarks: expected an array"),
        (lambda d, b: b.update(start_time=1e300), "start_time: 1e+300 is beyond"),
        (lambda d, b: b["requests"].update(successful="all"), "successful: expected an array"),
        (lambda d, b: b["requests"].update(successful=[7]), "successful[0]: expected a JSON obj"),
    ],
)
def test_guidellm(capsys, tmp_path, change, says):
    assert says in refused_run(capsys, tmp_path, "guidellm", "b.json", guidellm(change))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda r: r.update(start_time=HUGE), "record 3, start_time: "),
        (lambda r: r.update(end_time=1e300), "record 3, end_time: 1e+300 is beyond"),
        (lambda r: r.update(info="none"), "record 3, info: expected a JSON object, found 'none'"),
        (lambda r: r["info"]["response_metrics"].update(output_token_times=[1e300]), "beyond"),
        (lambda r: r.update(error=["late"]), "record 3, error: expected a JSON object"),
    ],
)
def test_inference_perf(capsys, tmp_path, change, says):
    document = json.loads(INFERENCE_PERF.read_text())
    change(document[3])
    assert says in refused_run(capsys, tmp_path, "inference-perf", "r.json", document)


@pytest.fixture
def serving(tmp_path):
    made.write_run(tmp_path / "vllm_run", REQUESTS)
    return tmp_path / "vllm_run"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"hardware": "RTX"}, "hardware: expected a JSON object, found 'RTX'"),
        ({"resolved_config": ["a"]}, "resolved_config: expected a JSON object"),
        ({"kv_cache": 5}, "kv_cache: expected a JSON object, found 5"),
        ({"engine_kwargs": [1]}, "engine_kwargs: expected a JSON object"),
        ({"kv_cache": {"block_size": "x"}}, "block_size: expected a valid int, found 'x'"),
        ({"kv_cache": {"block_size": [16]}}, "block_size: expected a valid int"),
        ({"model": {"name": "m"}}, "model: expected a string"),
    ],
)
def test_llmservingsim(capsys, tmp_path, serving, changes, says):
    meta = json.loads((serving / "meta.json").read_text())
    (serving / "meta.json").write_text(json.dumps({**meta, **changes}))
    err = refused(capsys, "import-run", "llmservingsim", serving, "--out", tmp_path / "out")
    assert f"meta.json: {says}" in err


def test_llmservingsim_files(capsys, tmp_path, serving):
    alone = tmp_path / "requests.jsonl"
    alone.write_text((serving / "requests.jsonl").read_text())
    command = ["import-run", "llmservingsim"]
    assert "no meta.json beside it; give it too" in refused(capsys, *command, alone)
    assert "no such file" in refused(capsys, *command, alone, tmp_path / "meta.json")
    assert "no such file or folder" in refused(capsys, *command, tmp_path / "absent")
    assert "takes a folder or two files" in refused(capsys, *command, alone, alone, alone)
    late = {**REQUESTS[0], "scheduled_ts": 101.5}
    (serving / "requests.jsonl").write_text(json.dumps(late))
    err = refused(capsys, *command, serving)
    assert "line 1: the first token is 0.5 s before the scheduling" in err
    (serving / "requests.jsonl").write_text(json.dumps({**late, "scheduled_ts": 100.25}))
    assert "line 1: the scheduling is 0.25 s before the arrival" in refused(
        capsys, *command, serving
    )


VIDUR = "arrived_at,num_prefill_tokens,num_decode_tokens\n0,10,5\n1,10,5\n"
AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n2024-01-01 00:00:00,10,5\n"
MOONCAKE = '{"timestamp": 5, "input_length": 10, "output_length": 5}\n'


@pytest.mark.parametrize(
    ("kind", "text", "says"),
    [
        ("vidur", VIDUR.replace("1,10", "1,1_0"), "line 3, column num_prefill_tokens: .*'1_0'"),
        ("vidur", VIDUR.replace("1,10", "1_0,10"), "line 3, column arrived_at: expected seconds"),
        ("vidur", VIDUR.replace("1,10", f"1,{LONG}"), "line 3, column num_prefill_tokens"),
        ("vidur", VIDUR.replace("1,10", f"{LONG},10"), "line 3, column arrived_at"),
        ("azure", AZURE.replace("10,5", "+10,5"), r"line 2, column ContextTokens: .*'\+10'"),
        ("azure", "a,b,c\n1,2,3\n", "line 1: expected the columns TIMESTAMP,.* or arrived_at,"),
        ("azure", "arrived_at,num_decode_tokens\n1,2\n", "column num_prefill_tokens: is missing"),
        ("lengths", "num_prefill_tokens,num_decode_tokens\n1_0,5\n", "line 2, column num_prefill"),
        ("mooncake", MOONCAKE.replace("5,", "1e400,", 1), "line 1, timestamp"),
        ("mooncake", MOONCAKE.replace("5,", f"1e{'9' * 30},", 1), "line 1: not usable JSON"),
        ("mooncake", MOONCAKE.replace("10,", f"{HUGE},", 1), "line 1, input_length"),
        ("mooncake", MOONCAKE.replace("10,", "NaN,", 1), "line 1, input_length: .* found nan"),
        ("mooncake", MOONCAKE + DEEP, "line 2: not usable JSON: it is nested too deeply"),
        ("llmservingsim", DEEP, "line 1: not usable JSON"),
        ("llmservingsim", f'{{"input_toks": {HUGE}}}', "line 1, input_toks"),
    ],
)
def test_traces(capsys, tmp_path, kind, text, says):
    path = tmp_path / "trace"
    path.write_text(text)
    command = ["workload", "import", kind, path, "--rate", "1", "--out", tmp_path / "out"]
    err = refused(capsys, *command)
    assert re.search(says, err), err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--end", "inf"], "--end inf: expected 0 <= start < end"),
        (["--end", "nan"], "--end nan"),
        (["--start", "inf"], "--start inf"),
        (["--rate-scale", "1e-300"], "--rate-scale 1e-300: too low"),
        (["--rate", "1e-300"], "--rate 1e-300: too low"),
        (["--rate", "inf"], "--rate inf"),
        (["--start", "1e300"], "--start 1e+300 --end None: expected 0 <= start < end"),
        (["--start", "9e8"], "no record is left by --start 900000000.0"),
    ],
)
def test_options(capsys, tmp_path, options, says):
    (tmp_path / "trace.csv").write_text(VIDUR)
    assert says in refused(capsys, "workload", "import", "vidur", tmp_path / "trace.csv", *options)


def test_a_rate_that_takes_years(capsys, tmp_path):
    (tmp_path / "t.csv").write_text("num_prefill_tokens,num_decode_tokens\n1,5\n1,5\n")
    command = ["workload", "import", "lengths", tmp_path / "t.csv", "--rate", "1e-300"]
    assert "--rate 1e-300: 2 requests would take" in refused(capsys, *command)


@pytest.fixture
def bench(tmp_path):
    """A result of three requests, the last of which failed."""
    path = tmp_path / "result.json"
    path.write_text(json.dumps(result()))
    return path


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--model", TINY.name], "model: the file says 'some/model', --model says 'tiny/model'"),
        (["--model", "no/such"], "unknown model 'no/such'"),
        (["--hardware", "abacus"], "unknown hardware 'abacus'"),
        (["--hardware", "a100", "--device-name", "NVIDIA H100"], "is no a100"),
        (["--engine", "nowhere.json"], "nowhere.json: no such file"),
        (["--workload", "nowhere"], "nowhere: no such workload directory"),
    ],
)
def test_statements(capsys, tmp_path, bench, options, says):
    command = ["import-run", "vllm-bench", bench, *options, "--out", tmp_path / "out"]
    assert says in refused(capsys, *command)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("requests", "says"),
    [
        ([(10, 3, 0)], "has 3 requests, the workload"),
        ([(10, 3, 0), (20, 1, 1), (31, 9, 2)], ""),
        (
            [(10, 3, 0), (21, 1, 1), (30, 9, 2)],
            "request 1 in order of arrival, num_prefill_tokens: is 20, the workload",
        ),
        (
            [(10, 2, 0), (20, 1, 1), (30, 9, 2)],
            "request 0 in order of arrival, num_decode_tokens: is 3, the workload",
        ),
    ],
)
def test_a_workload_that_was_not_replayed(capsys, tmp_path, bench, requests, says):
    workload = make_workload(tmp_path / "workload", requests)
    command = ["import-run", "vllm-bench", bench, "--workload", workload.path]
    command += ["--out", tmp_path / "out"]
    if says:
        assert f"result.json: {says}" in refused(capsys, *command)
    else:  # the failed request need not know its length
        assert main([*map(str, command)]) == 0


def test_statements_that_the_file_contradicts(capsys, tmp_path, serving):
    (tmp_path / "engine.json").write_text(json.dumps({"max_num_seqs": 7}))
    command = ["import-run", "llmservingsim", serving]
    err = refused(capsys, *command, "--engine", tmp_path / "engine.json")
    assert "engine, max_num_seqs: the file says" in err
    assert "--engine says 7; leave --engine out" in err
    err = refused(capsys, *command, "--hardware", "a100")
    assert "device_name: the file says 'NVIDIA Test GPU', --hardware says 'a100'" in err
    err = refused(capsys, *command, "--device-name", "other")
    assert "device_name: the file says 'NVIDIA Test GPU', --device-name says 'other'" in err
