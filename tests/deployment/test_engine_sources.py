"""Engine settings as people have them: vLLM's own file, its command line, and its log."""

from __future__ import annotations

import re
import time
import warnings
from pathlib import Path
from typing import Any

import pytest

from pytest_gpusim.deployment import EngineSettings
from pytest_gpusim.errors import GpusimError, InputError, UsageError
from pytest_gpusim.texts import python_literal

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
            ("port: not simulated, concerns the server alone",),
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
        # The model may come late: an option takes as many values as its kind has.
        ("vllm serve --max-num-seqs 8 m", {"max_num_seqs": 8}),
        ("vllm serve --enable-prefix-caching m", {"enable_prefix_caching": True}),
        (
            "vllm serve m --max-model-len -1 --max-num-seqs=8 -tp=2 -O.mode=3 -O 1 -cc.mode=3",
            {"max_num_seqs": 8, "tensor_parallel_size": 2},
        ),
        ("VLLM_CPU_KVCACHE_SPACE=2 vllm serve m", {"kv_cache_memory_bytes": 2 << 30}),
        (
            "docker run --entrypoint vllm -e VLLM_CPU_KVCACHE_SPACE=1 vllm/vllm-openai-cpu:v0.12.0 "
            "serve m --block-size 32",
            {"engine_version": "0.12.0", "block_size": 32, "kv_cache_memory_bytes": 1 << 30},
        ),
        (
            "docker run --entrypoint python3 vllm/vllm-openai:v0.11.0 -m "
            "vllm.entrypoints.openai.api_server --model m --swap-space 4 --max-num-seqs 8",
            {"engine_version": "0.11.0", "max_num_seqs": 8},
        ),
        (
            "ssh box 'VLLM_USE_V1=1 exec vllm serve m --max-num-seqs 8 && echo' --bogus",
            {"max_num_seqs": 8},
        ),
        (
            "docker run -e VLLM_USE_V1=1 vllm/vllm-openai:v0.7.3 --model m",
            {"engine_version": "0.7.3"},
        ),
        ("python -m vllm.entrypoints.cli.main serve m -tp 2", {"tensor_parallel_size": 2}),
        # As far as an option is the only one that begins so.
        (
            "vllm serve m --max-num-batched-token 16384 --tensor_parallel 2 --max-num-seq=8",
            {"max_num_batched_tokens": 16384, "tensor_parallel_size": 2, "max_num_seqs": 8},
        ),
        (
            "vllm serve m --scheduler-delay-factor 0 --preemption-mode recompute --worker-use-ray "
            "--rope-scaling '{\"factor\": 2.0}' --multi-step-stream-outputs --enable-reasoning",
            {},
        ),
    ],
)
def test_a_command_line_is_read(command: str, expected: dict[str, Any]) -> None:
    read = EngineSettings.load(command)
    assert read.to_json() == expected
    assert read.models in (("m",), ("Qwen/Qwen3-0.6B",))


def test_variables_are_what_they_are_where_nobody_sets_them() -> None:
    read = EngineSettings.load("vllm serve ${M:-m} -pp ${PP:-1} --max-num-seqs ${SEQS-64}")
    assert (read.models, read.to_json()) == (("m",), {"max_num_seqs": 64})
    assert read.notes == ("M, PP, SEQS: taken for what the command says where they are not set",)


def test_variables_that_are_not_looked_into_are_named() -> None:
    read = EngineSettings.load("HF_TOKEN=x VLLM_API_KEY=secret VLLM_SLEEP=1 vllm serve m")
    assert read.notes == ("VLLM_API_KEY, VLLM_SLEEP: of the environment, not looked into",)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("vllm serve m --bogus 3", "--bogus: unknown engine setting"),
        ("vllm serve m --max-num 3", "--max-num: unknown engine setting"),
        ("vllm serve m --max-num-seqs $N", "max_num_seqs: expected a valid int, found '$N'"),
        ("vllm serve 'm", "not a command line: No closing quotation"),
        ("vllm serve m -pp 2", "pipeline_parallel_size=2: pipeline parallelism is not modelled"),
        ("vllm serve m --speculative-config.method ngram", "speculative decoding is not modelled"),
        ("vllm serve m --no-enable-chunked-prefill", "without chunked prefill is not modelled"),
        ("vllm serve m --max-num-seqs many", "max_num_seqs: expected a valid int, found 'many'"),
        ("vllm serve m --config no-such.yaml", "no-such.yaml: no such file"),
        ("VLLM_USE_V1=0 vllm serve m", "vLLM's first engine is not modelled"),
        ("docker run -e VLLM_USE_V1=0 vllm/vllm-openai --model m", "first engine is not modelled"),
        (
            "docker run vllm/vllm-openai:v0.6.6.post1 --model m",
            "vLLM 0.6.6.post1: its first engine",
        ),
        ("vllm serve m --scheduler-delay-factor 0.5", "a delay before prefills is not modelled"),
        ("vllm serve m --preemption-mode swap", "preemption by swapping is not modelled"),
        ("vllm serve m --max-num-seqs -1", "max_num_seqs: expected a valid int, found -1"),
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
    (tmp_path / "c.yaml").write_text(
        "model: other\ncompilation-config:\n  mode: 3\n  pass_config: {fuse_norm_quant: true}\n"
        "cudagraph-capture-sizes: [1, 2]\nhf-overrides: '{\"rope_theta\": 1}'\n"
    )
    read = EngineSettings.load(f"vllm serve --config {tmp_path / 'c.yaml'}")
    assert (read.models, read.to_json()) == (("other",), {})
    assert EngineSettings.load(f"vllm serve m --config {tmp_path / 'c.yaml'}").models == ("m",)


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


ALL_ARGS = (
    "INFO 05-07 17:14:39 [api_server.py:1043] args: Namespace(subparser='serve', model_tag='m', "
    "port=8000, allowed_origins=['*'], model='m', task='auto', dtype='auto', seed=None, "
    "rope_scaling={}, max_model_len=None, enable_prefix_caching=None, enable_lora=False, "
    "max_num_seqs=64, scheduler_cls='vllm.core.scheduler.Scheduler', num_scheduler_steps=1, "
    "pipeline_parallel_size=1, gpu_memory_utilization=0.3, dispatch=<function serve at 0x7f>)"
)


@pytest.mark.parametrize(
    ("version", "size", "blocks"),
    [("0.8.5", "GPU KV cache size: 16,000 tokens", 1000), ("0.7.3", "# GPU blocks: 1381", 1381)],
)
def test_releases_that_log_all_arguments(
    tmp_path: Path, version: str, size: str, blocks: int
) -> None:
    lines = log_of(version, size, length=8192, chunked="chunked_prefill_enabled").splitlines()
    path = tmp_path / "vllm.log"
    path.write_text("\n".join([ALL_ARGS, *lines[1:]]))
    read = EngineSettings.load(path)
    assert read.models == ("m",)
    assert (read.max_num_seqs, read.max_model_len, read.num_gpu_blocks) == (64, 8192, blocks)
    assert (read.engine_version, read.gpu_memory_utilization) == (version, 0.3)


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
            f"{ARGS}\nINFO [llm_engine.py:237] Initializing an LLM engine (v0.6.3.post1) with "
            "config: model='m'",
            "vLLM 0.6.3.post1: its first engine is not modelled",
        ),
        (
            f"{ARGS}\nINFO [llm_engine.py:240] Initializing a V0 LLM engine (v0.8.5) with",
            "vLLM 0.8.5: its first engine is not modelled",
        ),
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


SERVER_LOG = Path(__file__).parents[1] / "data" / "vllm_0.32.0_cpu.log"


@pytest.mark.parametrize("override", [True, False], ids=["stated", "from the size"])
def test_the_log_of_a_real_server_is_read(tmp_path: Path, override: bool) -> None:
    """vLLM 0.32.0 on a CPU, its lines of settings; 512 blocks of 32 are stated, and fit."""
    lines = SERVER_LOG.read_text().splitlines()
    if not override:
        lines = [line for line in lines if "num_gpu_blocks_override=" not in line]
        lines = [line.replace("'num_gpu_blocks_override': 512, ", "") for line in lines]
    (tmp_path / "vllm.log").write_text("\n".join(lines))
    read = EngineSettings.load(tmp_path / "vllm.log")
    assert read.to_json() == {
        "max_num_seqs": 16,
        "max_num_batched_tokens": 512,
        "max_model_len": 2048,
        "block_size": 32,
        "num_gpu_blocks": 512,
        "enable_prefix_caching": True,
        "dtype": "float32",
        "tensor_parallel_size": 1,
        "enforce_eager": True,
        "engine_version": "0.32.0",
    }
    assert read.models == ("/models/small-qwen3", "small/qwen3")
    size = "16,384 tokens of CPU KV cache, in blocks of 32 (as logged): 512"
    assert read.notes == (() if override else (f"{tmp_path / 'vllm.log'}: {size}",))


@pytest.mark.parametrize(
    "line",
    [
        "GPU KV cache size: , tokens",
        "Chunked prefill is enabled with max_num_batched_tokens=" + "9" * 5000,
        "# GPU blocks: " + "9" * 5000,
        "Overriding num_gpu_blocks=1 with num_gpu_blocks_override=" + "9" * 5000,
        "Setting kv cache block size to " + "9" * 5000,
        "Maximum concurrency for , tokens per request",
        "non-default args: {{}: 1}",
    ],
)
def test_a_number_that_counts_nothing_is_not_logged(tmp_path: Path, line: str) -> None:
    (tmp_path / "vllm.log").write_text(f"{line}\n{log_of('0.19.0', TWO_LINES)}\n")
    (tmp_path / "plain.log").write_text(log_of("0.19.0", TWO_LINES) + "\n")
    assert EngineSettings.load(tmp_path / "vllm.log") == EngineSettings.load(tmp_path / "plain.log")
    (tmp_path / "alone.log").write_text(f"{line}\n")
    with pytest.raises(InputError, match="no line of it says how vLLM was set up"):
        EngineSettings.load(tmp_path / "alone.log")


def test_a_value_that_python_cannot_read_stays_a_text(tmp_path: Path) -> None:
    config = "Initializing a V1 LLM engine (v0.20.0) with config: max_num_seqs={[]: 1}, dtype=x"
    (tmp_path / "vllm.log").write_text(config + "\n")
    with pytest.raises(
        InputError, match=r"max_num_seqs: expected a valid int, found '\{\[\]: 1\}'"
    ):
        EngineSettings.load(tmp_path / "vllm.log")


def test_a_command_that_no_shell_would_take_is_refused() -> None:
    with pytest.raises(
        InputError, match="--engine: not a command line: has more than 131,072 char"
    ):
        EngineSettings.load("vllm serve m " + "x" * (1 << 20))


def test_memory_of_more_digits_than_a_number_has(tmp_path: Path) -> None:
    huge = EngineSettings.load(f"VLLM_CPU_KVCACHE_SPACE={'9' * 5000} vllm serve m")
    assert huge.kv_cache_memory_bytes is None
    assert huge.notes == ("VLLM_CPU_KVCACHE_SPACE: of the environment, not looked into",)


@pytest.mark.parametrize("name", ["a\0.yaml", "\ud800.json", f"{'x' * 300}.sh"])
def test_a_name_that_no_file_can_have(name: str) -> None:
    with pytest.raises(InputError, match="is no name that a file can have"):
        EngineSettings.load(name)


def test_what_python_warns_of_in_a_literal_is_nobodys_business() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert python_literal("{'a': '\\d'}") == {"a": "\\d"}
