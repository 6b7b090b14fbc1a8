"""What nobody states of an engine: from its profile, its release, and the device's memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from pytest_gpusim.deployment.engine import EngineSettings
from pytest_gpusim.deployment.hardware import Hardware
from pytest_gpusim.deployment.memory import engine_kv_capacity
from pytest_gpusim.deployment.model import ModelShape
from pytest_gpusim.deployment.settings import Deployment, default, modelled, release_of
from pytest_gpusim.errors import InputError

PROFILE = "the profile's engine"
_REQUIRED = ("max_num_seqs", "max_num_batched_tokens", "block_size", "num_gpu_blocks")
# They decide other settings and nothing else.
_INPUTS = ("gpu_memory_utilization", "kv_cache_memory_bytes", "performance_mode")


def resolve_settings(
    stated: EngineSettings,
    *,
    model: ModelShape,
    hardware: Hardware,
    profile: EngineSettings | None = None,
    device_name: str | None = None,
    where: Path | str,
) -> EngineSettings:
    """The settings that a simulation follows, each that nobody stated in `EngineSettings.assumed`.

    What is not stated is the profile's engine's, else the default of vLLM's release on such a
    device as ``vllm serve`` has it, else, for the KV blocks, computed from the device's memory.

    Args:
        stated: What is known.
        model: The model.
        hardware: Its device class.
        profile: What the engine that was profiled ran with, its release among it.
        device_name: What the device calls itself, where known.
        where: The profile, for messages.

    Raises:
        InputError: A limit is missing and cannot be had.
    """
    settings = with_defaults(
        stated, model=model, hardware=hardware, profile=profile, device_name=device_name
    )
    usual = deployment_of(settings, model, hardware, device_name)
    if settings.num_gpu_blocks is None and hardware.kind == "cuda":
        capacity = engine_kv_capacity(
            model,
            settings,
            memory_gib=hardware.usable_memory_gib,
            utilization=settings.gpu_memory_utilization or default("gpu_memory_utilization", usual),
        )
        if capacity.num_gpu_blocks < 2:
            raise InputError(where, "num_gpu_blocks", f"no room for KV blocks: {capacity}")
        blocks = EngineSettings(num_gpu_blocks=capacity.num_gpu_blocks)
        settings = settings.merged(blocks, f"computed: {capacity}")
    missing = [key for key in _REQUIRED if getattr(settings, key) is None]
    if missing:
        raise InputError(
            where,
            ", ".join(missing),
            "the simulator needs these engine settings and no source states them",
            "give --engine FILE or a run directory",
        )
    return replace(
        settings, gpu_memory_utilization=None, kv_cache_memory_bytes=None, performance_mode=None
    )


def with_defaults(
    stated: EngineSettings,
    *,
    model: ModelShape,
    hardware: Hardware,
    profile: EngineSettings | None = None,
    device_name: str | None = None,
) -> EngineSettings:
    """The settings with the profile's engine's, then the release's defaults, for what is unstated.

    As `resolve_settings`, but that KV blocks and what has no default may be missing.
    """
    settings = stated.merged(profile, PROFILE) if profile is not None else stated
    usual = deployment_of(settings, model, hardware, device_name)
    release = ".".join(map(str, usual.known_release))
    words = f"default of vLLM {release}"
    if usual.release is None:
        words += "; the engine's release is not known"
    values: dict[str, Any] = {}
    passed_over = {*_INPUTS} if model.experts is not None else {*_INPUTS, "enable_expert_parallel"}
    for setting in modelled():
        if getattr(settings, setting.name) is None and setting.name not in passed_over:
            value = default(setting.name, usual)
            if value is not None:
                values[setting.name] = value
    return settings.merged(EngineSettings(**values), words)


def deployment_of(
    settings: EngineSettings, model: ModelShape, hardware: Hardware, device_name: str | None = None
) -> Deployment:
    """What vLLM's defaults depend on."""
    return Deployment(
        release=release_of(settings.engine_version),
        device=hardware.kind,
        memory_gib=hardware.usable_memory_gib,
        device_name=f"{hardware.name} {device_name or ''}",
        world_size=settings.tensor_parallel_size or 1,
        performance_mode=settings.performance_mode,
        max_model_len=settings.max_model_len or model.max_position,
        max_num_seqs=settings.max_num_seqs,
        max_num_batched_tokens=settings.max_num_batched_tokens,
    )
