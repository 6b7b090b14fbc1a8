"""Engine settings somewhere in the files that deploy or measure an engine; numbers as vLLM's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pytest_gpusim.deployment import EngineSettings
from pytest_gpusim.errors import GpusimError, InputError

PLAIN = {"max_num_seqs": 64, "max_model_len": 8192}


def load(tmp_path: Path, text: str, name: str = "values.yaml", part: str = "") -> EngineSettings:
    (tmp_path / name).write_text(text)
    return EngineSettings.load(f"{tmp_path / name}{part}")


@pytest.mark.parametrize("around", ["engine_args", "engineArgs", "vllm", "engine", "vllm_config"])
def test_a_mapping_around_them(tmp_path: Path, around: str) -> None:
    text = f"{around}:\n  max-num-seqs: 64\n  max_model_len: 8k\nreplicas: 2\n"
    read = load(tmp_path, text)
    assert read.to_json() == {"max_num_seqs": 64, "max_model_len": 8000}
    assert read.notes[-2:] == (
        f"values.yaml: the engine's settings are those of {around}",
        "values.yaml: passed over: replicas",
    )


def test_what_stands_beside_them_counts_once(tmp_path: Path) -> None:
    text = "model: Qwen/Qwen3-0.6B\ntensor_parallel_size: 2\nengine_args:\n  max_num_seqs: 64\n"
    read = load(tmp_path, text)
    assert read.to_json() == {"max_num_seqs": 64, "tensor_parallel_size": 2}
    assert read.models == ("Qwen/Qwen3-0.6B",)
    with pytest.raises(InputError, match="max_num_seqs: is 8, engine_args says 64; say it once"):
        load(tmp_path, "max-num-seqs: 8\n" + text)


def test_resolved_parts_within(tmp_path: Path) -> None:
    inner = {"scheduler_config": {"max_num_seqs": 64, "max_model_len": 8192}, "model_config": {}}
    document = json.dumps({"run": 1, "vllm_config": inner})
    assert load(tmp_path, document, "config.json").to_json() == PLAIN


def test_the_production_stack(tmp_path: Path) -> None:
    text = """
servingEngineSpec:
  runtimeClassName: ""
  modelSpec:
  - name: qwen
    repository: lmcache/vllm-openai
    replicaCount: 1
    vllmConfig:
      v1: 1
      maxModelLen: 8192
      enablePrefixCaching: false
      tensorParallelSize: 2
      extraArgs: ["--max-num-seqs=64", "--disable-log-requests"]
"""
    read = load(tmp_path, text)
    more = {"enable_prefix_caching": False, "tensor_parallel_size": 2}
    assert read.to_json() == {**PLAIN, **more}
    assert (
        "values.yaml: the engine's settings are those of servingEngineSpec.modelSpec[0].vllmCo"
        in ("\n".join(read.notes))
    )
    with pytest.raises(GpusimError, match="chunked prefill is not modelled"):
        load(tmp_path, text.replace("v1: 1", "enableChunkedPrefill: false"))
    with pytest.raises(GpusimError, match="v1=0: vLLM's first engine is not modelled"):
        load(tmp_path, text.replace("v1: 1", "v1: 0"))


DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
spec:
  template:
    spec:
      containers:
      - name: sidecar
        image: router:1
        args: ["--port=8000", "--v=4"]
      - name: vllm
        image: vllm/vllm-openai:v0.11.0
        %s
        env:
        - {name: HF_TOKEN, valueFrom: {}}
        - {name: VLLM_USE_V1, value: "1"}
"""


@pytest.mark.parametrize(
    "command",
    [
        'args: ["--model", "m", "--max-num-seqs=64", "--max-model-len", "8_192"]',
        'command: ["vllm", "serve", "m"]\n        args: [--max-num-seqs, 64, --max-model-len=8K]',
        'command: [sh, -c, "exec vllm serve m --max-num-seqs 64 --max-model-len 8192"]',
    ],
)
def test_a_container(tmp_path: Path, command: str) -> None:
    read = load(tmp_path, DEPLOYMENT % command)
    assert read.to_json() == {**PLAIN, "engine_version": "0.11.0"}
    assert read.models == ("m",)
    several = f"kind: Service\nspec: {{}}\n---{DEPLOYMENT % command}"
    assert load(tmp_path, several) == read


def test_the_chart_of_vllm(tmp_path: Path) -> None:
    text = """
image:
  repository: "vllm/vllm-openai"
  tag: "v0.9.2"
  command: ["vllm", "serve", "/data/", "--max-num-seqs", "64", "--max-model-len", "8192"]
"""
    assert load(tmp_path, text).to_json() == {**PLAIN, "engine_version": "0.9.2"}


def test_docker_compose(tmp_path: Path) -> None:
    text = """
services:
  web: {image: nginx, command: "nginx -g x"}
  llm:
    image: vllm/vllm-openai:v0.10.2
    environment: {VLLM_CPU_KVCACHE_SPACE: 4}
    command: >
      --model m --max-num-seqs ${SEQS:-64}
      --max-model-len 8192
"""
    read = load(tmp_path, text, "compose.yml")
    more = {"engine_version": "0.10.2", "kv_cache_memory_bytes": 4 << 30}
    assert read.to_json() == {**PLAIN, **more}


LLM_D = """
modelArtifacts: {name: Qwen/Qwen3-0.6B, uri: "hf://Qwen/Qwen3-0.6B"}
decode:
  containers:
  - {name: vllm, image: "ghcr.io/llm-d/llm-d:v0.2.0", args: ["--max-num-seqs", "64"]}
prefill:
  containers:
  - {name: vllm, image: "ghcr.io/llm-d/llm-d:v0.2.0", args: ["--max-num-seqs", "8"]}
"""


def test_one_engine_of_several(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        load(tmp_path, LLM_D)
    path = tmp_path / "values.yaml"
    assert str(caught.value) == (
        f"{path}: has the settings of 2 engines: decode.containers[0] and prefill.containers[0]; "
        f"name one: {path}#decode.containers[0]"
    )
    assert load(tmp_path, LLM_D, part="#prefill").max_num_seqs == 8
    with pytest.raises(InputError, match="expected a mapping of engine settings at encode"):
        load(tmp_path, LLM_D, part="#encode")


def test_the_parameters_of_vllms_own_performance_tests(tmp_path: Path) -> None:
    test = {
        "test_name": "serving_llama8B_tp1",
        "server_parameters": {"model": "m", "max_num_seqs": 64, "enforce_eager": "",
                              "disable_log_stats": ""},
        "client_parameters": {"model": "m", "num_prompts": 200},
    }  # fmt: skip
    read = load(tmp_path, json.dumps([test]), "serving-tests.json")
    assert read.to_json() == {"max_num_seqs": 64, "enforce_eager": True}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("- 1\n- 2\n", "expected a mapping of engine settings"),
        ("engine: fast\nmax_num_seqs: 64\n", "engine: unknown engine setting"),
        ("engine_args:\n  max_num_seq: 64\n", "engine_args: unknown engine setting"),
        ("engine_args:\n  max_num_seq: 64\n  block_size: 16\n", "max_num_seq: unknown engine set"),
        ("vllm:\n  pipeline_parallel_size: 2\n", "pipeline parallelism is not modelled"),
    ],
)
def test_what_is_no_engine(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(GpusimError, match=says):
        load(tmp_path, text)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("max_model_len", "8k", 8000),
        ("max_model_len", "8K", 8192),
        ("max_model_len", "8_192", 8192),
        ("max_model_len", " 8192 ", 8192),
        ("max_model_len", "25.6k", 25_600),
        ("max_model_len", "1M", 1 << 20),
        ("max_model_len", "AUTO", None),
        ("kv_cache_memory_bytes", "2g", 2_000_000_000),
        ("max_num_seqs", "1_024", 1024),
        ("gpu_memory_utilization", ".9", 0.9),
        ("gpu_memory_utilization", "9e-1", 0.9),
    ],
)
def test_numbers_as_vllm_reads_them(name: str, text: str, value: Any) -> None:
    assert getattr(EngineSettings.from_mapping({name: text}, "e.yaml"), name) == value


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("max_model_len", "1Mi", r"found '1Mi'; vLLM takes 8192, 8k \(8,000\) or 8K \(8,192\)"),
        ("max_model_len", "8KB", "found '8KB'; vLLM takes 8192, 8k"),
        ("max_model_len", "25.6K", "found '25.6K'; vLLM takes 8192, 8k"),
        ("max_model_len", "8,192", "found '8,192'"),
        ("max_model_len", "8192.0", "found '8192.0'"),
        ("max_num_seqs", "1k", "found '1k'; vLLM takes digits alone here"),
        ("block_size", "1_", "found '1_'"),
        ("gpu_memory_utilization", "90%", "expected a valid float, found '90%'"),
        ("gpu_memory_utilization", "nan", "expected a valid float"),
    ],
)
def test_numbers_that_vllm_refuses(name: str, text: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        EngineSettings.from_mapping({name: text}, "e.yaml")
