"""The openai backend against a server that can be told to misbehave."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from pytest_gpusim.deployment import EngineSettings
from pytest_gpusim.errors import EngineError, UsageError
from pytest_gpusim.progress import lines_to
from pytest_gpusim.runs import read_run
from pytest_gpusim.runs.schema import ENGINE_COLUMNS
from tests.backends.stub_server import (
    Body,
    Reply,
    StubServer,
    for_length,
    run_on,
    steady,
    stub_server,
)
from tests.factories import TINY, make_workload

pytest.importorskip("aiohttp", reason="aiohttp is not installed (extra 'server')")

MS = 1_000_000


def test_times_of_each_token_from_the_scheduled_arrival(stub: StubServer, tmp_path: Path) -> None:
    stub.answer = steady(0.05, first_s=0.05)
    (run,) = run_on(stub, tmp_path, [(5, 3, 0), (6, 2, 100 * MS)])
    assert run.tokens is not None
    first, second = run.requests.to_dict("records")
    assert first["status"] == second["status"] == "ok"
    assert second["sent_time_ns"] >= second["arrival_time_ns"] == 100 * MS
    for row in (first, second):
        assert row["ttft_ns"] >= 50 * MS
        assert row["first_token_time_ns"] - row["arrival_time_ns"] == row["ttft_ns"]
    assert first["completion_time_ns"] >= 150 * MS
    gaps = run.tokens.query("request_id == 0 and token_index > 0")["token_latency_ns"]
    assert len(gaps) == 2
    assert gaps.sum() == first["completion_time_ns"] - first["first_token_time_ns"]
    assert run.meta["params"]["tokens_counted_by"] == ["usage"]
    assert run.meta["params"]["clock"] == "client"


def test_requests_ask_for_exact_lengths_with_token_ids(stub: StubServer, tmp_path: Path) -> None:
    run_on(stub, tmp_path, [(5, 3, 0)])
    (body,) = stub.asked
    assert len(body["prompt"]) == 5
    assert all(isinstance(token, int) and token < TINY.vocab_size for token in body["prompt"])
    assert (body["max_tokens"], body["ignore_eos"], body["stream"]) == (3, True, True)


def test_tokens_of_one_chunk_share_its_time_and_that_is_said(
    stub: StubServer, tmp_path: Path
) -> None:
    def merged(body: Body, reply: Reply) -> None:
        reply.tokens(1)
        reply.tokens(3)
        reply.tokens(1, last=True)
        reply.usage()
        reply.done()

    stub.answer = for_length({5: merged})
    (run,) = run_on(stub, tmp_path, [(4, 5, 0)])
    assert run.tokens is not None
    times = run.tokens["token_time_ns"].tolist()
    assert len(times) == 5
    assert times[1] == times[2] == times[3]
    assert run.meta["params"]["tokens_that_share_a_chunk"] == 2


def test_without_running_usage_merged_chunks_leave_no_token_times(
    stub: StubServer, tmp_path: Path
) -> None:
    def merged(body: Body, reply: Reply) -> None:
        reply.tokens(1, usage=False)
        reply.tokens(4, usage=False, last=True)
        reply.usage()
        reply.done()

    stub.answer = for_length({5: merged})
    (run,) = run_on(stub, tmp_path, [(4, 5, 0), (4, 2, 0)])
    assert run.tokens is None
    assert run.meta["token_times"] is False
    assert run.meta["params"]["requests_without_token_times"] == 1
    assert run.requests["num_decode_tokens_actual"].tolist() == [5, 2]
    assert run.requests["status"].tolist() == ["ok", "ok"]


def test_one_token_a_chunk_needs_no_running_usage(stub: StubServer, tmp_path: Path) -> None:
    stub.answer = steady(usage=False)
    (run,) = run_on(stub, tmp_path, [(4, 5, 0)])
    assert run.tokens is not None
    assert run.meta["params"]["tokens_counted_by"] == ["chunks"]


@pytest.mark.parametrize(
    ("queue", "told"), [(1.5, [1_500_000, 20_000_000, 9_000_000]), (None, None), ("1", None)]
)
def test_what_a_server_tells_of_its_engines_clock_is_kept(
    stub: StubServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    queue: Any,
    told: list[int] | None,
) -> None:
    def timed(body: Body, reply: Reply) -> None:
        reply.tokens(1)
        reply.tokens(1, last=True)
        metrics = {"queue_time_ms": queue, "time_to_first_token_ms": 20.0, "generation_time_ms": 9}
        usage = {"prompt_tokens": reply.prompt_tokens, "completion_tokens": 2}
        reply.event({"choices": [], "usage": usage, "metrics": metrics})
        reply.done()

    stub.answer = for_length({2: timed})
    (run,) = run_on(stub, tmp_path, [(4, 2, 0), (4, 3, 0)])
    assert set(run.requests["status"]) == {"ok"}
    found = [column for column in ENGINE_COLUMNS if column in run.requests.columns]
    assert (run.requests.loc[0, found].tolist() if found else None) == told
    if told:
        assert run.requests[found].isna().all(axis=1).tolist() == [False, True]
    assert ("client - engine at p50" in capsys.readouterr().err) is (told is not None)


@pytest.mark.parametrize(
    "place", ["http://169.254.169.254/latest", "file:///etc/passwd", "\x1b[2J"]
)
def test_a_redirect_is_not_followed(stub: StubServer, tmp_path: Path, place: str) -> None:
    """What is measured, and gets the key, is the server that was named."""

    def elsewhere(body: Body, reply: Reply) -> None:
        reply._handler.send_response(307)
        reply._handler.send_header("Location", place)
        reply._handler.send_header("Content-Length", "0")
        reply._handler.end_headers()

    stub.answer = elsewhere
    with pytest.raises(
        EngineError, match=r"HTTP307: redirects to .*; name the server that"
    ) as said:
        run_on(stub, tmp_path, [(4, 2, 0)])
    assert str(said.value).isprintable()


def test_a_page_of_metrics_that_is_none_is_passed_over(stub: StubServer, tmp_path: Path) -> None:
    stub.pages["/metrics"] = "vllm:cache_config_info{" + "a" * 500_000 + ',x="{{}}"}\n'
    (run,) = run_on(stub, tmp_path, [(4, 2, 0)])
    assert run.requests["status"].tolist() == ["ok"]


def no_answer(body: Body, reply: Reply) -> None:
    time.sleep(8)


def broken(body: Body, reply: Reply) -> None:
    reply.tokens()
    reply.tokens()
    reply.cut()


def unfinished(body: Body, reply: Reply) -> None:
    reply.tokens()
    reply._handler.wfile.write(b"0\r\n\r\n")


def error_in_stream(body: Body, reply: Reply) -> None:
    reply.tokens()
    reply.event({"error": {"message": "engine\ndied"}})
    reply.done()


def not_json(body: Body, reply: Reply) -> None:
    reply.raw(b"data: {oops\n\n")
    reply.done()


def empty(body: Body, reply: Reply) -> None:
    reply.usage()
    reply.done()


def aborted(body: Body, reply: Reply) -> None:
    reply.tokens()
    reply.tokens(last=True, reason="abort")
    reply.usage()
    reply.done()


def negative(body: Body, reply: Reply) -> None:
    reply.tokens()
    reply.event({"choices": [], "usage": {"prompt_tokens": 4, "completion_tokens": -3}})
    reply.done()


def beyond_all_bounds(body: Body, reply: Reply) -> None:
    reply.tokens(usage=False)
    reply.event({"choices": [], "usage": {"prompt_tokens": 10**30, "completion_tokens": 10**30}})
    reply.done()


@pytest.mark.parametrize(
    ("fault", "error_type", "message", "tokens"),
    [
        (no_answer, "Timeout", "within 4 s (--param timeout=SECONDS)", 0),
        (lambda b, r: r.fail(500, "out of\nmemory"), "HTTP500", "out of memory", 0),
        (lambda b, r: r.fail(429, "slow down"), "HTTP429", "slow down", 0),
        (broken, "BrokenStream", "", 2),
        (unfinished, "BrokenStream", "the stream ended before it was done", 1),
        (error_in_stream, "ErrorInStream", "engine died", 1),
        (not_json, "BrokenStream", "an event is not JSON: {oops", 0),
        (empty, "BrokenStream", "the stream ended without a token", 0),
        (lambda b, r: r.cut(), "ServerDisconnectedError", "", 0),
        (aborted, "Aborted", "the finish_reason is 'abort'", 2),
        (negative, "BrokenStream", "completion_tokens is -3: not a count", 1),
        (beyond_all_bounds, "BrokenStream", "not a count of tokens", 1),
    ],
)
def test_a_failed_request_is_an_error_row_and_the_others_go_on(
    stub: StubServer, tmp_path: Path, fault: Any, error_type: str, message: str, tokens: int
) -> None:
    stub.answer = for_length({7: fault})
    requests = [(4, 2, 0), (4, 7, 0), (4, 3, 20 * MS)]
    (run,) = run_on(stub, tmp_path, requests, timeout="4" if fault is no_answer else "60")
    assert run.requests["status"].tolist() == ["ok", "error", "ok"]
    row = run.requests.iloc[1]
    assert row["error_type"] == error_type
    assert message in str(row["error_msg"])
    assert "\n" not in str(row["error_msg"])
    assert run.tokens is not None
    assert (run.tokens["request_id"] == 1).sum() == tokens


def test_a_server_that_goes_away_gives_error_rows(tmp_path: Path) -> None:
    """The port is closed after the first answer: later connections are refused."""
    with stub_server() as stub:

        def last(body: Body, reply: Reply) -> None:
            steady()(body, reply)
            reply.close()
            stub.close()

        stub.answer = for_length({9: last})
        (run,) = run_on(stub, tmp_path, [(4, 9, 0), (4, 2, 600 * MS), (4, 3, 650 * MS)])
    assert run.requests["status"].tolist() == ["ok", "error", "error"]
    assert set(run.requests["error_type"].dropna()) == {"ConnectionFailed"}
    assert run.requests["sent_time_ns"].iloc[2] >= 650 * MS


def test_a_slow_server_does_not_slow_the_load(stub: StubServer, tmp_path: Path) -> None:
    stub.answer = steady(first_s=1.5)
    (run,) = run_on(stub, tmp_path, [(4, 2, i * 50 * MS) for i in range(5)])
    assert run.requests["sent_time_ns"].max() < run.requests["first_token_time_ns"].min()
    assert run.meta["lateness"]["max_ns"] < 1000 * MS


def test_waiting_for_the_concurrency_limit_counts(stub: StubServer, tmp_path: Path) -> None:
    stub.answer = steady(first_s=0.2)
    (run,) = run_on(stub, tmp_path, [(4, 1, 0), (4, 1, 0), (4, 1, 0)], max_concurrency="1")
    requests = run.requests.sort_values("sent_time_ns")
    assert requests["sent_time_ns"].iloc[2] >= 400 * MS
    assert requests["ttft_ns"].iloc[2] >= 600 * MS
    assert run.meta["lateness"]["max_since_arrival_ns"] >= 400 * MS
    assert run.meta["lateness"]["max_ns"] < run.meta["lateness"]["max_since_arrival_ns"] / 2


def test_a_request_that_stops_early_is_marked(stub: StubServer, tmp_path: Path) -> None:
    def short(body: Body, reply: Reply) -> None:
        reply.tokens()
        reply.tokens(last=True)
        reply.usage(cached=3)
        reply.done()

    stub.answer = for_length({9: short})
    (run,) = run_on(stub, tmp_path, [(4, 9, 0)])
    row = run.requests.iloc[0]
    assert (row["status"], row["num_decode_tokens_actual"]) == ("early_stop", 2)
    assert row["num_cached_tokens"] == 3


def test_warm_up_has_other_ids_of_the_same_lengths_and_does_not_idle(
    stub: StubServer, tmp_path: Path
) -> None:
    runs = run_on(stub, tmp_path, [(4, 2, 0), (6, 3, 900 * MS)], repeat=2, warmup="yes")
    assert runs[0].meta["warmup"]["seconds"] < 0.9
    prompts = [body["prompt"] for body in stub.asked]
    assert [len(prompt) for prompt in prompts] == [4, 6] * 3
    assert prompts[:2] != prompts[2:4]
    assert prompts[2:4] == prompts[4:6]
    assert stub.resets == 2
    assert runs[0].meta["warmup"]["requests"] == 2
    assert runs[0].meta["prefix_cache_reset"] is True


def test_measuring_says_how_far_it_is(
    stub: StubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pytest_gpusim.progress.QUIET_S", 0.0)
    monkeypatch.setattr("pytest_gpusim.progress.PACE_S", 0.0)
    lines: list[str] = []
    with lines_to(lines.append):
        run_on(stub, tmp_path, [(4, 2, 0), (6, 3, 0)], warmup="yes")
    assert "warm up: 2 of 2 requests" in lines
    assert any(line.startswith("measure: 1 of 2 requests, about ") for line in lines)


def test_a_server_that_cannot_forget_gets_other_ids_in_every_pass(
    stub: StubServer, tmp_path: Path
) -> None:
    stub.resets = None
    runs = run_on(stub, tmp_path, [(40, 2, 0)], repeat=2)
    first, second = (body["prompt"] for body in stub.asked)
    assert first != second
    assert [run.meta["prefix_cache_reset"] for run in runs] == [False, False]
    assert runs[0].meta["params"]["prompt_salt"] != runs[1].meta["params"]["prompt_salt"]


def test_the_key_is_sent_and_kept_nowhere(
    stub: StubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "sk-very-secret")
    stub.answer = for_length({7: lambda b, r: r.fail(401, "wrong key sk-very-secret")})
    (run,) = run_on(stub, tmp_path, [(4, 2, 0), (4, 7, 0)], api_key_env="MY_KEY")
    assert {headers["Authorization"] for headers in stub.headers} == {"Bearer sk-very-secret"}
    assert run.requests["error_msg"].iloc[1] == "wrong key ***"
    assert run.meta["params"]["api_key_env"] == "MY_KEY"
    for path in run.path.iterdir():
        assert "sk-very-secret" not in path.read_text()


@pytest.mark.parametrize("length", [75, 290, 295, 299])
def test_no_part_of_a_key_is_kept_where_a_message_is_cut(
    stub: StubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    echo = "x" * length + "sk-very-secret" + "y" * 300

    def not_json(body: Body, reply: Reply) -> None:
        reply.raw(f"data: {echo}\n\n".encode())
        reply.done()

    stub.answer = for_length({7: lambda b, r: r.fail(401, echo), 9: not_json})
    (run,) = run_on(stub, tmp_path, [(4, 7, 0), (4, 9, 0)])
    assert run.requests["status"].tolist() == ["error", "error"]
    for message in run.requests["error_msg"]:
        assert len(message) <= 300
        assert "sk" not in message


VLLM_METRICS = """# TYPE vllm:cache_config_info gauge
vllm:cache_config_info{block_size="32",enable_prefix_caching="True",num_gpu_blocks="256"} 1.0
"""


def test_settings_are_what_the_server_tells_and_the_rest_as_stated(
    stub: StubServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stub.pages = {"/version": '{"version": "0.19.0"}', "/metrics": VLLM_METRICS}
    stated = EngineSettings(max_num_seqs=7, block_size=16)
    (run,) = run_on(stub, tmp_path, [(4, 2, 0)], engine=stated)
    assert run.meta["engine"] == {
        "max_num_seqs": 7,
        "max_model_len": 4096,
        "block_size": 32,
        "num_gpu_blocks": 256,
        "enable_prefix_caching": True,
        "engine_version": "0.19.0",
    }
    assert "says block_size=32, not 16" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"speculative_config": {"method": "ngram", "x": "y" * 900}}, "speculative decoding"),
        ({"lora_config": {"max_loras": 1}}, "LoRA"),
        ({"model_config": {"quantization": "awq"}}, "quantized weights of this method"),
        ({"cache_config": {"cache_dtype": "fp8_e5m2"}}, "quantized KV cache of this dtype"),
        ({"parallel_config": {"pipeline_parallel_size": 2}}, "pipeline parallelism"),
    ],
)
def test_what_is_not_modelled_is_refused_where_the_server_tells_it(
    stub: StubServer, tmp_path: Path, config: dict[str, Any], words: str
) -> None:
    stub.pages = {"/server_info?config_format=json": json.dumps({"vllm_config": config})}
    with pytest.raises(UsageError, match=f"{stub.url}: .*{words} (is|are) not modelled") as caught:
        run_on(stub, tmp_path, [(4, 2, 0)])
    assert len(str(caught.value)) < 200
    assert not stub.bodies


def test_a_quantized_cache_shows_in_the_metrics_too(stub: StubServer, tmp_path: Path) -> None:
    stub.pages = {"/metrics": VLLM_METRICS.replace("{block", '{cache_dtype="fp8_e5m2",block')}
    with pytest.raises(UsageError, match="quantized KV cache"):
        run_on(stub, tmp_path, [(4, 2, 0)])


def test_settings_that_change_nothing_are_no_obstacle(stub: StubServer, tmp_path: Path) -> None:
    config = {
        "speculative_config": None,
        "cache_config": {"cache_dtype": "bfloat16"},
        "model_config": {"quantization": None, "dtype": "torch.bfloat16"},
        "parallel_config": {"pipeline_parallel_size": 1, "enable_expert_parallel": False},
    }
    stub.pages = {"/server_info?config_format=json": json.dumps({"vllm_config": config})}
    (run,) = run_on(stub, tmp_path, [(4, 2, 0)])
    assert run.meta["engine"] == {
        "max_model_len": 4096,
        "dtype": "bfloat16",
        "enable_expert_parallel": False,
    }


def closed_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def test_no_server_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"/v1/models: no server answers"):
        run_on(StubServer(url=closed_port()), tmp_path, [(4, 2, 0)])
    assert not (tmp_path / "run-0").exists()


def test_the_served_model_must_be_unmistakable(stub: StubServer, tmp_path: Path) -> None:
    stub.models = [{"id": "one"}, {"id": "two"}]
    with pytest.raises(UsageError, match="serves one, two; name one with --param served_model"):
        run_on(stub, tmp_path / "a", [(4, 2, 0)])
    with pytest.raises(UsageError, match="serves one, two, not 'three'"):
        run_on(stub, tmp_path / "b", [(4, 2, 0)], served_model="three")
    run_on(stub, tmp_path / "c", [(4, 2, 0)], served_model="two")
    assert stub.asked[-1]["model"] == "two"


@pytest.mark.parametrize("models", [5, "tiny", {"id": "tiny"}, [5, None], []])
def test_models_that_are_none_are_said_so(stub: StubServer, tmp_path: Path, models: Any) -> None:
    stub.models = models
    with pytest.raises(EngineError, match="not the models of an OpenAI-compatible server"):
        run_on(stub, tmp_path, [(4, 2, 0)])


def test_a_model_may_be_called_by_a_number(stub: StubServer, tmp_path: Path) -> None:
    stub.models = [{"id": 5}]
    run_on(stub, tmp_path, [(4, 2, 0)])
    assert stub.asked[-1]["model"] == "5"


def test_a_request_longer_than_the_server_allows_is_refused_beforehand(
    stub: StubServer, tmp_path: Path
) -> None:
    stub.models = [{"id": "tiny", "max_model_len": 8}]
    with pytest.raises(UsageError, match="max_model_len is 8"):
        run_on(stub, tmp_path, [(7, 2, 0)])


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"url": ""}, "give --url"),
        ({"url": "localhost:8000"}, "expected http://HOST:PORT"),
        ({"url": "http://me:secret@host"}, "must hold no credentials"),
        ({"url": "http://host?key=secret"}, "must hold no credentials"),
        ({"url": "http://[::1"}, "expected http://HOST:PORT"),
        ({"url": "http://host:abc"}, "expected http://HOST:PORT"),
        ({"url": "http://host:99999"}, "expected http://HOST:PORT"),
        ({"timeout": "soon"}, "parameter timeout=soon: expected a positive number"),
        ({"max_concurrency": "0"}, "parameter max_concurrency=0"),
        ({"api_key_env": "NO_SUCH_VARIABLE"}, "NO_SUCH_VARIABLE .* is not set"),
        ({"api_key_env": "sk-secret"}, "^the environment variable that api_key_env .*OPENAI_API"),
        ({"colour": "red"}, "parameter 'colour' is unknown to the openai backend"),
    ],
)
def test_wrong_parameters_are_usage_errors(
    tmp_path: Path, params: dict[str, str], message: str
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        run_on(StubServer(url="http://127.0.0.1:1"), tmp_path, [(4, 2, 0)], **params)
    assert "secret" not in str(caught.value)


def test_from_the_command_line(
    stub: StubServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from pytest_gpusim.cli import main

    make_workload(tmp_path / "workload", [(5, 3, 0)])
    model = tmp_path / "config.json"
    model.write_text(json.dumps(TINY.to_hf_config()))
    command = [
        *("measure", "--backend", "openai", "--url", stub.url, "--model", str(model)),
        *("--workload", str(tmp_path / "workload"), "--hardware", "cpu", "--repeat", "2"),
        *("--param", "max_concurrency=4", "--out", str(tmp_path / "runs")),
    ]
    assert main(command) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "runs")
    for number in (1, 2):
        run = read_run(tmp_path / "runs" / str(number))
        assert run.meta["params"]["max_concurrency"] == 4
    assert main([*command[:-1], str(tmp_path / "more"), "--param", "timeout=-1"]) == 2
    assert "parameter timeout=-1" in capsys.readouterr().err


def test_the_hardware_of_another_machine_must_be_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from pytest_gpusim.cli import main

    make_workload(tmp_path / "workload", [(5, 3, 0)])
    model = tmp_path / "config.json"
    model.write_text(json.dumps(TINY.to_hf_config()))
    command = ["measure", "--backend", "openai", "--model", str(model)]
    command += ["--workload", str(tmp_path / "workload"), "--out", str(tmp_path / "run")]
    assert main([*command, "--url", "http://gpu-box:8000/v1"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "http://gpu-box:8000 is another machine" in line
    assert "--hardware" in line
    for url in ("http://[::1", "http://h:abc"):
        assert main([*command, "--url", url, "--hardware", "cpu"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "--url: expected http://HOST:PORT" in line
