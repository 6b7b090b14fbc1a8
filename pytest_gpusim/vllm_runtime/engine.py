"""Building a vLLM engine in this process, and what its settings turned out to be."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

from pytest_gpusim.deployment.dtypes import plain_dtype
from pytest_gpusim.vllm_runtime.loader import LOAD_FORMAT, register_loader
from pytest_gpusim.vllm_runtime.observer import watched_scheduler
from pytest_gpusim.vllm_runtime.spec import LaunchSpec


def start_engine(spec: LaunchSpec, directory: Path) -> Any:
    """Start an ``LLMEngine`` whose scheduler is watched.

    Args:
        spec: What to start.
        directory: A directory of the engine's own; the model's ``config.json`` is written there.
    """
    from vllm import EngineArgs, LLMEngine

    arguments = spec.settings.to_json()
    arguments.pop("engine_version", None)  # the release that is installed is the one that runs
    if "num_gpu_blocks" in arguments:
        arguments["num_gpu_blocks_override"] = arguments.pop("num_gpu_blocks")
    known = {field.name for field in fields(EngineArgs)}
    unknown = sorted(set(arguments) - known)
    if unknown:
        raise ValueError(f"this release of vLLM has no setting {', '.join(unknown)}")
    if spec.weights is not None:
        arguments.update(model=str(spec.weights), tokenizer=str(spec.weights))
    else:
        register_loader()
        (directory / "config.json").write_text(json.dumps(spec.model.to_hf_config(), indent=2))
        arguments.update(model=str(directory), load_format=LOAD_FORMAT)
    args = EngineArgs(skip_tokenizer_init=True, seed=0, disable_log_stats=True, **arguments)
    config = args.create_engine_config()
    # Only now it is known which of its two schedulers vLLM would use.
    config.scheduler_config.scheduler_cls = watched_scheduler(
        bool(config.scheduler_config.async_scheduling)
    )
    return LLMEngine.from_vllm_config(config, disable_log_stats=True)


def model_runner(engine: Any) -> Any:
    """The worker's model runner; ``get_model()`` on it is the model."""
    worker = core(engine).model_executor.driver_worker
    return getattr(worker, "worker", worker).model_runner


def core(engine: Any) -> Any:
    """The engine core, which lives in this process."""
    return engine.engine_core.engine_core


def resolved_settings(engine: Any, spec: LaunchSpec) -> dict[str, Any]:
    """The engine's settings as they turned out, under the names of the contract."""
    import torch
    import vllm

    config = engine.vllm_config
    scheduler, cache, model = config.scheduler_config, config.cache_config, config.model_config
    groups = core(engine).scheduler.kv_cache_config.kv_cache_groups
    eager = bool(model.enforce_eager)
    other_numbers: dict[str, Any] = {
        "quantization": str(model.quantization) if model.quantization else None,
        "kv_cache_dtype": "fp8" if str(cache.cache_dtype).startswith("fp8") else None,
    }
    if spec.model.experts is not None:
        dealt = config.parallel_config.enable_expert_parallel
        other_numbers["enable_expert_parallel"] = bool(dealt)
    return {
        **{key: value for key, value in other_numbers.items() if value is not None},
        "engine": "vllm",
        "engine_version": vllm.__version__.split("+")[0],
        "max_num_seqs": scheduler.max_num_seqs,
        "max_num_batched_tokens": scheduler.max_num_batched_tokens,
        "max_model_len": model.max_model_len,
        "block_size": groups[0].kv_cache_spec.block_size if groups else cache.block_size,
        "num_gpu_blocks": cache.num_gpu_blocks,
        "enable_prefix_caching": bool(cache.enable_prefix_caching),
        "async_scheduling": bool(scheduler.async_scheduling),
        "long_prefill_token_threshold": scheduler.long_prefill_token_threshold,
        "scheduler_reserve_full_isl": getattr(scheduler, "scheduler_reserve_full_isl", False),
        "dtype": plain_dtype(str(model.dtype)),
        "tensor_parallel_size": config.parallel_config.tensor_parallel_size,
        "enforce_eager": eager,
        "engine_mode": "eager" if eager else "compiled",
        "chunked_prefill": bool(scheduler.enable_chunked_prefill),
        "executor": str(config.parallel_config.distributed_executor_backend or "uni"),
        "threads": torch.get_num_threads() if spec.device == "cpu" else None,
        "attention_backend": _attention_backend(engine),
        "weights": str(spec.weights) if spec.weights else "made up",
    }


def device_name(spec: LaunchSpec) -> str:
    """The name of the device that the engine runs on."""
    from pytest_gpusim.deployment import detect_device_name

    if spec.device == "cuda":
        import torch

        return str(torch.cuda.get_device_name(0))
    return detect_device_name("cpu") or "cpu"


def _attention_backend(engine: Any) -> str:
    for module in model_runner(engine).get_model().modules():
        backend = getattr(module, "attn_backend", None)
        if backend is not None:
            return str(backend.get_name())
    return "unknown"
