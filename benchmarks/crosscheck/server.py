"""A live vLLM server on the loopback interface, of a small Qwen3 with random weights."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pytest_gpusim.deployment import ModelShape
from pytest_gpusim.errors import EngineError

SMALL_QWEN3 = ModelShape(
    name="small-qwen3",
    architecture="Qwen3ForCausalLM",
    num_layers=8,
    hidden_size=512,
    num_q_heads=8,
    num_kv_heads=4,
    head_dim=64,
    intermediate_size=1536,
    vocab_size=8000,
    max_position=4096,
    tie_word_embeddings=True,
    attention_bias=False,
    qk_norm=True,
    torch_dtype="float32",
    rms_norm_eps=1e-6,
    rope_theta=10000.0,
)
"""Some 20 ms a step on one core: slow enough that a client's own time is small beside it."""

_START_S = 300


def write_model(model: ModelShape, directory: Path) -> None:
    """A model directory without weights, and a tokenizer with one word per token id."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    directory.mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps(model.to_hf_config()))
    words = {f"w{number}": number for number in range(1, model.vocab_size)}
    tokenizer = Tokenizer(models.WordLevel({"<unk>": 0, **words}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(directory / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "<unk>"}
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))


@contextmanager
def live_server(model: ModelShape, directory: Path, options: Sequence[str] = ()) -> Iterator[str]:
    """Run a vLLM server until the block ends; yields its URL.

    Args:
        model: Its name becomes the served model's.
        directory: Gets the model and the server's log.
        options: Further options of vLLM's server.

    Raises:
        EngineError: The server does not come up; the message ends with the end of its log.
    """
    write_model(model, directory / "model")
    port = _free_port()
    log = directory / "server.log"
    # `vllm serve` of the CPU wheel looks for a package called vllm and dies; the module does not.
    command = [
        *(sys.executable, "-m", "vllm.entrypoints.openai.api_server"),
        *("--model", str(directory / "model"), "--served-model-name", model.name),
        *("--load-format", "dummy", "--dtype", "float32", "--enforce-eager"),
        *("--host", "127.0.0.1", "--port", str(port), "--max-model-len", "2048"),
        *("--block-size", "32", "--num-gpu-blocks-override", "512"),
        *("--enable-prompt-tokens-details", *options),
    ]
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_SERVER_DEV_MODE": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        # The engine's process then has what the server's has imported.
        "VLLM_WORKER_MULTIPROC_METHOD": "fork",
    }
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, stdout=stream, stderr=subprocess.STDOUT, env=environment,
            start_new_session=True,
        )  # fmt: skip
        try:
            url = f"http://127.0.0.1:{port}"
            _wait_until_up(process, url, log)
            yield url
        finally:
            _stop(process)


def _wait_until_up(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    tail = " ".join(log.read_text(errors="replace").split()[-60:])
    raise EngineError(f"{log}: the vLLM server did not come up: … {tail}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the server with its children: they are a session of their own."""
    for sign, patience in ((signal.SIGTERM, 20), (signal.SIGKILL, 5)):
        try:
            os.killpg(process.pid, sign)
            process.wait(patience)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
    process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
