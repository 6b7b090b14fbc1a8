"""Engine settings as people have them: vLLM's own file, its command line, and its log."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

from pytest_gpusim.deployment import EngineSettings
from pytest_gpusim.errors import GpusimError, InputError, UsageError

LIMITS = {
    "max_num_seqs": 32,
    "max_num_batched_tokens": 512,
    "max_model_len": 640,
    "block_size": 32,
    "num_gpu_blocks": 300,
    "enforce_eager": True,
}


@pytest.mark.parametrize(
    ("name", "more", "notes"),
    [
        ("auto", {}, ()),
        ("dashes", {"dtype": "float32"}, ()),
        ("override", {"dtype": "float32"}, ()),
        ("tiny", {"dtype": "float32", "num_gpu_blocks": 2}, ()),
        ("gmu", {"dtype": "float32", "gpu_memory_utilization": 0.9}, ()),
        (
            "vllm_serve_config",
            {"dtype": "float32"},
            (
                "model: not simulated, --model names it",
                "port: not simulated, concerns the server alone",
            ),
        ),
    ],
)
def test_engine_files_are_read(
    shared_data: Path, name: str, more: dict[str, Any], notes: tuple[str, ...]
) -> None:
    read = EngineSettings.load(shared_data / "cases" / "63-engine-files" / f"{name}.yaml")
    assert read.to_json() == {**LIMITS, **more}
    assert read.notes == notes


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("nochunk", "enable_chunked_prefill=False: an engine without chunked prefill is"),
        ("pp", "pipeline_parallel_size=2: pipeline parallelism is"),
        (
            "spec",
            "speculative_config={'method': 'ngram', 'num_speculative_tokens': 2}: speculative "
            "decoding is",
        ),
    ],
)
def test_what_an_engine_file_asks_and_nobody_models(
    shared_data: Path, name: str, sentence: str
) -> None:
    path = shared_data / "cases" / "63-engine-files" / f"{name}.yaml"
    with pytest.raises(UsageError) as caught:
        EngineSettings.load(path)
    assert str(caught.value) == f"{path}: {sentence} not modelled"


def test_hostile_files_are_one_line_within_a_second(shared_data: Path) -> None:
    for path in sorted((shared_data / "cases" / "hostile").glob("*.yaml")):
        begun = time.thread_time()  # other processes may hold the processor
        with pytest.raises(GpusimError) as caught:
            EngineSettings.load(path)
        assert time.thread_time() - begun < 1, path
        assert caught.value.exit_code == 2
        assert str(path) in str(caught.value)
        assert len(str(caught.value)) < 400


def config(tmp_path: Path, text: str) -> EngineSettings:
    (tmp_path / "serve.yaml").write_text(text)
    return EngineSettings.load(tmp_path / "serve.yaml")


def test_vllms_own_file_says_off_in_two_ways(tmp_path: Path) -> None:
    read = config(tmp_path, "no-enable-prefix-caching: true\nasync-scheduling: false\n")
    assert (read.enable_prefix_caching, read.async_scheduling) == (False, False)
    assert read.notes == (
        "async-scheduling: false is taken for off, as vLLM does since 0.28; earlier releases drop "
        "it",
    )
    before = config(tmp_path, "engine_version: 0.23.0\nenable-prefix-caching: false\n")
    assert before.enable_prefix_caching is None
    assert before.notes == (
        "enable-prefix-caching: false is dropped by vLLM 0.23.0; say no-enable-prefix-caching: "
        "true",
    )
    since = config(tmp_path, "engine_version: 0.28.0\nenable-prefix-caching: false\n")
    assert (since.enable_prefix_caching, since.notes) == (False, ())


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (
            "vllm serve Qwen/Qwen3-0.6B --max-num-seqs 64 -tp 2 --no-enable-prefix-caching "
            "--max-model-len 32k --gpu-memory-utilization=0.8 --port 8000",
            {
                "max_num_seqs": 64,
                "max_model_len": 32000,
                "enable_prefix_caching": False,
                "tensor_parallel_size": 2,
                "gpu_memory_utilization": 0.8,
            },
        ),
        (
            "VLLM_USE_V1=1 python3 -m vllm.entrypoints.openai.api_server --model m \\\n"
            "  --async-scheduling --dtype auto --num_gpu_blocks_override 300 > log 2>&1 &",
            {"num_gpu_blocks": 300, "async_scheduling": True},
        ),
        (
            "docker run --gpus all -p 8000:8000 vllm/vllm-openai:v0.19.1 --model m "
            "--max-num-seqs=8 --max-num-seqs=16 -O3 --hf-overrides '{\"rope_theta\": 1}'",
            {"max_num_seqs": 16, "engine_version": "0.19.1"},
        ),
        ("/opt/bin/vllm serve m --data-parallel-size 1 --enforce-eager", {"enforce_eager": True}),
    ],
)
def test_a_command_line_is_read(command: str, expected: dict[str, Any]) -> None:
    assert EngineSettings.load(command).to_json() == expected


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("vllm serve m --bogus 3", "--bogus: unknown engine setting"),
        ("vllm serve 'm", "not a command line: No closing quotation"),
        ("vllm serve m -pp 2", "pipeline_parallel_size=2: pipeline parallelism is not modelled"),
        ("vllm serve m --speculative-config.method ngram", "speculative decoding is not modelled"),
        ("vllm serve m --no-enable-chunked-prefill", "without chunked prefill is not modelled"),
        ("vllm serve m --max-num-seqs many", "max_num_seqs: expected a valid int, found 'many'"),
        ("vllm serve m --config no-such.yaml", "no-such.yaml: no such file"),
    ],
)
def test_a_command_that_cannot_be_followed(command: str, message: str) -> None:
    with pytest.raises(GpusimError, match=re.escape(message)) as caught:
        EngineSettings.load(command)
    assert caught.value.exit_code == 2


def test_the_command_line_goes_before_its_configuration_file(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("max-num-seqs: 8\nblock-size: 32\n")
    read = EngineSettings.load(f"vllm serve m --config {tmp_path / 'c.yaml'} --max-num-seqs 64")
    assert read.to_json() == {"max_num_seqs": 64, "block_size": 32}


def test_a_script_holds_the_command(tmp_path: Path) -> None:
    script = tmp_path / "serve.sh"
    script.write_text("#!/bin/sh\n# vllm serve old -tp 8\nvllm serve m \\\n  -tp 4 \\\n\necho on\n")
    assert EngineSettings.load(script).to_json() == {"tensor_parallel_size": 4}
    script.write_text("echo\n")
    with pytest.raises(InputError, match="no command of it starts vLLM"):
        EngineSettings.load(script)


# Lines of one start in the words of vLLM's releases (see `pytest_gpusim.deployment.settings.log`).
ARGS = (
    "(APIServer pid=1) INFO 11-25 10:00:00 [utils.py:233] non-default args: {'model_tag': 'm', "
    "'port': 8001, 'max_num_seqs': 256, 'compilation_config': CompilationConfig(level=None)}"
)
CONFIG = (
    "\x1b[1;36m(EngineCore_DP0 pid=7)\x1b[0;0m INFO 11-25 10:00:01 [core.py:93] Initializing a V1 "
    "LLM engine (v{version}) with config: model='m', speculative_config=None, tokenizer='m', "
    "dtype=torch.bfloat16, max_seq_len={length}, load_format=auto, tensor_parallel_size=1, "
    "pipeline_parallel_size=1, data_parallel_size=1, disable_custom_all_reduce=False, "
    "quantization={quantization}, enforce_eager=False, kv_cache_dtype=auto, device_config=cuda, "
    "structured_outputs_config=StructuredOutputsConfig(backend='auto', x=(1, 2)), seed=0, "
    "enable_prefix_caching=True, {chunked}=True, pooler_config=None, "
    "compilation_config={{'mode': 3, 'block_size': 4, 'max_num_seqs': 9}}"
)


def log_of(
    version: str,
    size: str,
    *,
    length: int = 40960,
    chunked: str = "enable_chunked_prefill",
    quantization: str = "None",
    more: tuple[str, ...] = (),
) -> str:
    config = CONFIG.format(
        version=version, length=length, chunked=chunked, quantization=quantization
    )
    budget = "INFO [scheduler.py:216] Chunked prefill is enabled with max_num_batched_tokens=8192."
    return "\n".join([ARGS, budget, config, *more, "INFO [kv_cache_utils.py:9] " + size, "ready"])


TWO_LINES = (
    "GPU KV cache size: 288,608 tokens\nMaximum concurrency for 40,960 tokens per request: 7x"
)
ONE_LINE = (
    "GPU KV cache size: 288,608 tokens, Maximum concurrency for 40,960 tokens per request: 7x"
)


@pytest.mark.parametrize(
    ("text", "more"),
    [
        (log_of("0.19.0", TWO_LINES), {"engine_version": "0.19.0"}),
        (
            log_of("0.10.2", TWO_LINES, chunked="chunked_prefill_enabled"),
            {"engine_version": "0.10.2"},
        ),
        (
            log_of("0.32.0", ONE_LINE, more=("INFO Asynchronous scheduling is enabled.",)),
            {"engine_version": "0.32.0", "async_scheduling": True},
        ),
    ],
    ids=["0.19", "0.10", "0.32"],
)
def test_a_log_is_read(tmp_path: Path, text: str, more: dict[str, Any]) -> None:
    (tmp_path / "vllm.log").write_text(text)
    read = EngineSettings.load(tmp_path / "vllm.log")
    assert read.to_json() == {
        "max_num_seqs": 256,
        "max_num_batched_tokens": 8192,
        "max_model_len": 40960,
        "block_size": 16,
        "num_gpu_blocks": 18038,
        "enable_prefix_caching": True,
        "dtype": "bfloat16",
        "tensor_parallel_size": 1,
        "enforce_eager": False,
        **more,
    }
    assert read.notes == (
        f"{tmp_path / 'vllm.log'}: 288,608 tokens of GPU KV cache, in blocks of 16 (the default, "
        "as none is logged): 18038",
    )


@pytest.mark.parametrize(
    ("version", "blocks", "size", "length"),
    [
        (version, blocks, size, length)
        for version in ("0.19.0", "0.21.0", "0.32.0")
        for blocks, size, length in ((2588, 16, 32768), (300, 32, 641), (18038, 16, 40961))
    ],
)
def test_kv_blocks_from_the_logged_size(
    tmp_path: Path, version: str, blocks: int, size: int, length: int
) -> None:
    # What each release prints: blocks times size, or concurrency times context since 0.21.
    tokens = blocks * size
    if version != "0.19.0":
        tokens = int(blocks / -(-length // size) * length)
    line = f"GPU KV cache size: {tokens:,} tokens"
    set_to = (
        f"INFO [interface.py:470] Setting kv cache block size to {size} for FLASH_ATTN backend."
    )
    (tmp_path / "vllm.log").write_text(log_of(version, line, length=length, more=(set_to,)))
    read = EngineSettings.load(tmp_path / "vllm.log")
    assert (read.num_gpu_blocks, read.block_size) == (blocks, size)


def test_a_log_is_known_by_its_lines_too(tmp_path: Path) -> None:
    (tmp_path / "server.log.1").write_text(log_of("0.19.0", TWO_LINES))
    assert EngineSettings.load(tmp_path / "server.log.1").num_gpu_blocks == 18038


def test_stated_blocks_go_before_the_size_and_the_last_start_counts(tmp_path: Path) -> None:
    override = "INFO Overriding num_gpu_blocks=18038 with num_gpu_blocks_override=300"
    text = log_of("0.19.0", TWO_LINES) + "\n" + log_of("0.23.0", TWO_LINES, more=(override,))
    (tmp_path / "vllm.log").write_text(text)
    read = EngineSettings.load(tmp_path / "vllm.log")
    assert (read.num_gpu_blocks, read.engine_version) == (300, "0.23.0")
    assert read.notes == (f"{tmp_path / 'vllm.log'}: has 2 engine starts; the last counts",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("INFO ready\n", "no line of it says how vLLM was set up"),
        (
            log_of("0.19.0", TWO_LINES, quantization="awq"),
            "quantization='awq': quantized weights of this method are not modelled",
        ),
    ],
)
def test_a_log_that_cannot_be_followed(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "vllm.log").write_text(text)
    with pytest.raises(GpusimError, match=re.escape(message)):
        EngineSettings.load(tmp_path / "vllm.log")


def test_what_vllm_logs_on_this_machine_is_read(tmp_path: Path) -> None:
    """The lines that the shipped recordings' engine, vLLM 0.32 on a CPU, logs."""
    text = "\n".join(
        [
            "INFO 11-25 20:53:01 [api_utils.py:286] non-default args: {'block_size': 32}",
            "INFO [kv_cache_utils.py:2327] CPU KV cache size: 9,600 tokens, Maximum concurrency "
            "for 640 tokens per request: 15.00x",
        ]
    )
    (tmp_path / "vllm.log").write_text(text)
    read = EngineSettings.load(tmp_path / "vllm.log")
    assert json.loads(json.dumps(read.to_json())) == {
        "max_model_len": 640,
        "block_size": 32,
        "num_gpu_blocks": 300,
    }
