"""Folders of published runs in LLMServingSim's shape, whose step times are known by hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from pytest_gpusim.published import compare_published
from pytest_gpusim.registry import builtin_registry

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 64,
    "intermediate_size": 512,
    "vocab_size": 2048,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "rope_theta": 10000.0,
    "rms_norm_eps": 1e-5,
}
LAYERS, HIDDEN, VOCABULARY, WIDTH = 4, 256, 2048, 2
TOKENS = (1, 8, 64, 512, 2048)
SEQUENCES = (1, 8, 64, 256)
# Layer -> (us, us per token), at tensor-parallel degree 1.
DENSE_US = {
    "embedding": (2.0, 0.01),
    "layernorm": (2.0, 0.02),
    "qkv_proj": (40.0, 0.1),
    "rotary_emb": (2.0, 0.01),
    "o_proj": (20.0, 0.1),
    "gate_up_proj": (100.0, 0.3),
    "act_fn": (3.0, 0.05),
    "down_proj": (60.0, 0.2),
    "final_layernorm": (2.0, 0.02),
}
QK_NORM_US = (4.0, 0.04)
SEQUENCE_US = {"lm_head": (500.0, 1.0), "sampler": (20.0, 0.5)}


def attention_us(chunk: float, context: float, decodes: float, decode_context: float) -> float:
    """One layer's attention."""
    prefill = 10 + 0.05 * chunk + 0.004 * context if chunk else 0.0
    return prefill + (8 + 0.2 * decodes + 0.001 * decodes * decode_context if decodes else 0.0)


def dense_us(tokens: int, *, qk_norm: bool = False, degree: int = 1) -> float:
    """All layers' dense operators, embedding and final norm of one step."""
    times = {**DENSE_US, **({"qk_norm": QK_NORM_US} if qk_norm else {})}
    total = 0.0
    for layer, (fixed, slope) in times.items():
        time = fixed + slope * tokens
        if layer == "gate_up_proj":
            time /= degree
        calls = {"embedding": 1, "final_layernorm": 1, "layernorm": 2 * LAYERS}.get(layer, LAYERS)
        total += calls * time
    return total


def sequence_us(sequences: int) -> float:
    """LM head and sampler of one step."""
    return sum(fixed + slope * sequences for fixed, slope in SEQUENCE_US.values())


def write_profile(
    folder: Path,
    *,
    degree: int = 1,
    degrees: Sequence[int] = (1,),
    qk_norm: bool = False,
    skew_fit: Mapping[str, Any] | None = None,
    skew_rows: str | None = None,
    meta: Mapping[str, Any] | None = None,
) -> None:
    """Write the tables of one degree, and ``meta.yaml`` beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    dense = {**DENSE_US, **({"qk_norm": QK_NORM_US} if qk_norm else {})}
    rows = ["layer,tokens,time_us"]
    for layer, (fixed, slope) in dense.items():
        share = degree if layer == "gate_up_proj" else 1
        rows += [f"{layer},{n},{(fixed + slope * n) / share!r}" for n in TOKENS]
    (folder / "dense.csv").write_text("\n".join(rows) + "\n")
    rows = ["layer,sequences,time_us"]
    for layer, (fixed, slope) in SEQUENCE_US.items():
        rows += [f"{layer},{n},{fixed + slope * n!r}" for n in SEQUENCES]
    (folder / "per_sequence.csv").write_text("\n".join(rows) + "\n")
    rows = ["prefill_chunk,kv_prefill,n_decode,kv_decode,time_us"]
    for chunk in (0, 16, 256, 2048):
        for context in (0, 256, 8192) if chunk else (0,):
            for decodes in (0, 1, 64, 256):
                for decode_context in (16, 512, 8192) if decodes else (0,):
                    if chunk or decodes:
                        time = attention_us(chunk, context, decodes, decode_context)
                        rows.append(f"{chunk},{context},{decodes},{decode_context},{time!r}")
    (folder / "attention.csv").write_text("\n".join(rows) + "\n")
    if skew_rows is not None:
        (folder / "skew_fit.csv").write_text(skew_rows)
    described = {
        "vllm_version": "0.19.0",
        "gpu": "NVIDIA Test GPU",
        "hardware": "TESTGPU",
        "model": "test/model",
        "variant": "bf16",
        "tp_degrees": list(degrees),
        "engine_effective": {"enforce_eager": True, "block_size": 16},
        "skew_fit": dict(skew_fit or {"enabled": False}),
        **(meta or {}),
    }
    (folder / "meta.yaml").write_text(yaml.safe_dump(described))


def write_run(
    folder: Path,
    requests: Iterable[Mapping[str, Any]],
    *,
    degree: int = 1,
    num_gpu_blocks: int | None = 4096,
    asynchronous: bool | None = False,
    kv_cache: bool = True,
) -> None:
    """Write ``vllm_run/``: requests as given (input_toks, output_toks, queued_ts, …)."""
    folder.mkdir(parents=True)
    lines = [json.dumps({"request_id": f"bench-{i}", **r}) for i, r in enumerate(requests)]
    (folder / "requests.jsonl").write_text("\n".join(lines) + "\n")
    cache = {"block_size": 16, "enable_prefix_caching": True, "num_gpu_blocks": num_gpu_blocks}
    meta: dict[str, Any] = {
        "model": "test/model",
        "vllm_version": "0.19.0",
        "hardware": {"device_name": "NVIDIA Test GPU"},
        "engine_kwargs": {"tensor_parallel_size": degree, "kv_cache_dtype": "auto"},
        "resolved_config": {
            "cache_config": {"block_size": 16, "cache_dtype": "auto", "sliding_window": None},
            "model_config": {"dtype": "torch.bfloat16", "max_model_len": 8192},
            "parallel_config": {"tensor_parallel_size": degree, "pipeline_parallel_size": 1},
            "scheduler_config": {
                "async_scheduling": asynchronous,
                "long_prefill_token_threshold": 0,
                "max_num_batched_tokens": 2048,
                "max_num_seqs": 256,
                "scheduler_reserve_full_isl": True,
            },
            "speculative_config": None,
        },
    }
    if kv_cache:
        meta["kv_cache"] = cache
    (folder / "meta.json").write_text(json.dumps(meta))


def write_folder(
    folder: Path,
    requests: Sequence[Mapping[str, Any]],
    *,
    degree: int = 1,
    qk_norm: bool = False,
    cluster: Mapping[str, Any] | None = None,
    errors: str | None = None,
    profile: Mapping[str, Any] | None = None,
    run: Mapping[str, Any] | None = None,
) -> Path:
    """Write a whole folder of a published run; returns it."""
    write_profile(
        folder / "profile", degree=degree, degrees=[degree], qk_norm=qk_norm, **(profile or {})
    )
    write_run(folder / "vllm_run", requests, degree=degree, **(run or {}))
    config = dict(CONFIG)
    if qk_norm:
        config.update(architectures=["Qwen3ForCausalLM"], model_type="qwen3")
    (folder / "config.json").write_text(json.dumps(config))
    if cluster is not None:
        (folder / "cluster.json").write_text(json.dumps(cluster))
    if errors is not None:
        (folder / "published_errors.txt").write_text(errors)
    return folder


def cluster_of(*, mem_size: float = 1.0, degree: int = 1, **link: Any) -> dict[str, Any]:
    """A ``cluster.json``."""
    memory = {"mem_size": mem_size, "mem_bw": 1000, "mem_util": 0.9}
    instance = {"npu_mem": memory, "num_npus": degree, "tp_size": degree}
    return {"num_nodes": 1, **link, "nodes": [{"num_instances": 1, "instances": [instance]}]}


def request(index: int, prompt: int, output: int, step_us: list[float]) -> dict[str, Any]:
    """A request alone in the engine, ten seconds after the one before, with these step times."""
    start = 1000.0 + 10 * index
    return {
        "input_toks": prompt,
        "output_toks": output,
        "arrival_time": 1.7e9 + start,
        "queued_ts": start,
        "scheduled_ts": start,
        "first_token_ts": start + step_us[0] / 1e6,
        "last_token_ts": start + sum(step_us) / 1e6,
    }


def lone_request(index: int, prompt: int, output: int, **options: Any) -> dict[str, Any]:
    """A request whose times are those of the profile, computed by hand."""
    reduce_us = options.pop("reduce_us", lambda tokens: 0.0)
    gather_us = options.pop("gather_us", 0.0)

    def step(tokens: int, attention: float) -> float:
        collectives = (2 * LAYERS + 1) * reduce_us(tokens) + gather_us
        dense = dense_us(tokens, **options)
        return dense + LAYERS * attention + sequence_us(1) + collectives

    steps = [step(prompt, attention_us(prompt, 0, 0, 0))]
    for token in range(1, output):
        steps.append(step(1, attention_us(0, 0, 1, prompt + token - 1)))
    return request(index, prompt, output, steps)


def compare(folder: Path, tmp_path: Path, simulator: str = "reference") -> dict[str, Any]:
    """The one run of the document of ``gpusim published``."""
    document = compare_published(
        [folder], builtin_registry(), simulator=simulator, store=tmp_path / f"store-{simulator}"
    )
    json.dumps(document, allow_nan=False)
    run: dict[str, Any] = document["runs"][0]
    return run


def worst(run: dict[str, Any]) -> float:
    """The largest error of all metrics and statistics."""
    return max(abs(f["error"]) for figures in run["metrics"].values() for f in figures.values())


LENGTHS = [(100, 20), (900, 5), (2048, 40), (37, 2)]


def lone_requests(**options: Any) -> list[dict[str, Any]]:
    """One request of each of `LENGTHS`."""
    return [lone_request(i, p, o, **options) for i, (p, o) in enumerate(LENGTHS)]


def folder_with(
    tmp_path: Path, edit: Callable[[dict[str, Any]], None] | None = None, **options: Any
) -> Path:
    """A folder whose ``meta.json`` was edited."""
    folder = write_folder(tmp_path / "run", options.pop("requests", lone_requests()), **options)
    if edit is not None:
        path = folder / "vllm_run" / "meta.json"
        meta = json.loads(path.read_text())
        edit(meta)
        path.write_text(json.dumps(meta))
    return folder


def notes_of(run: dict[str, Any]) -> str:
    """The run's notes, a line each."""
    return "\n".join(run["settings"]["notes"])
