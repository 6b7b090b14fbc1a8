"""Readers of what people deploy: engine settings in all their forms, models, operating points."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tests.fuzz.readers import CASES, DATA, ROOT, Reader

if TYPE_CHECKING:
    from tests.fuzz.carried import Carriers


def deployment_readers(scratch: Path, carried: Carriers) -> Iterator[Reader]:
    """The readers; files that are no fixtures are made in ``scratch``."""
    engine = sorted((ROOT / "tests" / "data" / "cases").glob("63*/*.yaml"))
    yaml = scratch / "engine.yaml"
    yaml.write_text(
        "max-num-seqs: 32\nmax_num_batched_tokens: 512\nmax_model_len: 640\nblock_size: 32\n"
        "num_gpu_blocks: 300\nenforce_eager: true\ndtype: float32\ncompilation_config: {level: 0}\n"
    )
    as_json = scratch / "engine.json"
    as_json.write_text('{"max_num_seqs": 32, "block_size": 16, "num_gpu_blocks": 300}')
    deployment = scratch / "deployment.yaml"
    deployment.write_text(
        "kind: Deployment\nspec:\n  containers:\n  - image: vllm/vllm-openai:v0.11.0\n"
        "    command: [vllm, serve, m]\n    args: [--max-num-seqs=64, --max-model-len, 8K]\n"
        "    env:\n    - {name: VLLM_CPU_KVCACHE_SPACE, value: '4'}\n---\nkind: Service\n"
    )
    values = scratch / "values.yaml"
    values.write_text(
        "modelSpec:\n- name: q\n  vllmConfig: {v1: 1, maxModelLen: 8k, tensorParallelSize: 2, "
        "extraArgs: ['--max-num-seqs=64', --enforce-eager]}\n"
    )
    script = scratch / "serve.sh"
    script.write_text(
        "# vllm serve\nVLLM_CPU_KVCACHE_SPACE=4 vllm serve org/m --max-num-seqs=64 \\\n"
        "  --max-model-len 8K -tp 2 -O3 --no-enable-prefix-caching \\\n"
        "  --compilation-config.level 3 --dtype ${DTYPE:-float16}\n"
    )
    engine_of = partial(_engine, None)
    yield Reader("engine log", [DATA / "vllm_0.32.0_cpu.log"], engine_of)
    yield Reader("engine script", [script], engine_of)
    yield Reader("engine settings", [*engine, yaml, as_json, deployment, values], engine_of)
    every = [DATA / "vllm_0.32.0_cpu.log", script, *engine, yaml, as_json, deployment, values]
    yield Reader("engine settings, used", every, partial(_engine, carried), share=2)
    yield Reader("config.json", [CASES / "hostile" / "config_layer_types.json", *_configs(scratch)],
                 _config)  # fmt: skip
    points = scratch / "points.csv"
    points.write_text(
        "model,hardware,precision,vllm_version,tensor_parallel,moe_tensor_parallel,expert_parallel,"
        "data_parallel,isl,osl,concurrency,ttft_ms,tpot_ms\n"
        "Qwen/Qwen3-0.6B,h100,bf16,0.19.0,1,1,1,1,1024,128,4,35.5,2.25\n"
    )
    yield Reader("points", [points], _points)


def _configs(scratch: Path) -> list[Path]:
    good = json.loads((CASES / "hostile" / "config_layer_types.json").read_text())
    good["layer_types"] = ["full_attention"] * 28
    sparse = {
        **good, "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe",
        "num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 768,
        "norm_topk_prob": True, "mlp_only_layers": [], "decoder_sparse_step": 1,
        "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]},
    }  # fmt: skip
    made = []
    for name, document in (("dense.json", good), ("sparse.json", sparse)):
        path = scratch / name
        path.write_text(json.dumps(document))
        made.append(path)
    return made


def _engine(carried: Carriers | None, path: Path, out: Path) -> None:
    from pytest_gpusim.deployment import EngineSettings

    settings = EngineSettings.load(path)
    json.dumps(settings.to_json(), allow_nan=False).encode()
    "".join((*settings.notes, *settings.models)).isprintable()
    if carried is not None:
        carried.engine(settings, out)


def _config(path: Path, out: Path) -> None:
    from pytest_gpusim.deployment import ModelShape

    shape = ModelShape.from_config_file(path)
    shape.num_parameters()
    shape.kv_bytes_per_token("float16", 2)
    json.dumps(shape.to_hf_config(), allow_nan=False).encode()
    ModelShape.from_json(shape.to_json(), path)


def _points(path: Path, out: Path) -> None:
    from pytest_gpusim.points.rows import read_points

    assert read_points(path) is not None
