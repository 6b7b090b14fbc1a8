"""Settings under which an engine is another one than is modelled, with what they ask for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_gpusim.deployment.settings.setting import SECTIONS, Setting

_SCHEDULER, _CACHE, _MODEL, _PARALLEL = SECTIONS


def _named_method(value: Any, beside: Mapping[str, Any]) -> bool:
    """The configuration of a method that is named besides tells nothing more."""
    return isinstance(beside.get("quantization"), str)


def _whole_budget(value: Any, beside: Mapping[str, Any]) -> bool:
    """It is max_num_batched_tokens, which vLLM writes here where nothing else is asked for."""
    return bool(value == beside.get("max_num_batched_tokens"))


def _all_seats(value: Any, beside: Mapping[str, Any]) -> bool:
    """It is max_num_seqs."""
    return bool(value == beside.get("max_num_seqs"))


def _vllms_own(value: Any, beside: Mapping[str, Any]) -> bool:
    """It is one of vLLM's own."""
    # The second is the default up to 0.8, in whose place V1 puts its own (``arg_utils.py``).
    return "vllm.v1.core.sched." in str(value) or value == "vllm.core.scheduler.Scheduler"


def _switched_off(value: Any, beside: Mapping[str, Any]) -> bool:
    """A window that the engine ignores, or that no request fills, is none."""
    longest = beside.get("max_model_len")
    covers = isinstance(longest, int) and isinstance(value, int) and longest <= value
    return beside.get("disable_sliding_window") is True or covers


def _only_positions(value: Any, beside: Mapping[str, Any]) -> bool:
    """Overrides that leave the shape alone."""
    known = {"rope_scaling", "rope_theta", "rope_parameters", "max_position_embeddings"}
    return isinstance(value, Mapping) and set(value) <= known


def _refused(
    name: str,
    words: str,
    *harmless: Any,
    section: str = "",
    others: tuple[str, ...] = (),
    flags: tuple[str, ...] = (),
    kind: Any = "any",
    unless: Any = None,
) -> Setting:
    return Setting(
        name,
        kind,
        "refused",
        words,
        section,
        others=others,
        flags=flags,
        harmless=harmless,
        unless=unless,
    )


REFUSED = (
    # Numbers of another width, where nothing but an object's text tells of them.
    _refused(
        "quant_config",
        "quantized weights are",
        section=_MODEL,
        others=("quantization_config",),
        unless=_named_method,
    ),
    # Tokens that are guessed.
    _refused(
        "speculative_config",
        "speculative decoding is",
        others=(
            "speculative_model",
            "num_speculative_tokens",
            "ngram_prompt_lookup_max",
            "ngram_prompt_lookup_min",
        ),
        flags=("sc",),
    ),
    _refused("spec_method", "speculative decoding is"),
    _refused("spec_model", "speculative decoding is"),
    _refused("spec_tokens", "speculative decoding is", 0),
    _refused("diffusion_config", "diffusion is", flags=("dc",)),
    # Several devices.
    _refused(
        "pipeline_parallel_size", "pipeline parallelism is", 1, section=_PARALLEL, flags=("pp",)
    ),
    _refused(
        "data_parallel_size",
        "data parallelism within one engine is",
        1,
        section=_PARALLEL,
        flags=("dp",),
    ),
    _refused(
        "decode_context_parallel_size",
        "context parallelism is",
        1,
        section=_PARALLEL,
        flags=("dcp",),
    ),
    _refused(
        "prefill_context_parallel_size",
        "context parallelism is",
        1,
        section=_PARALLEL,
        flags=("pcp",),
    ),
    _refused("enable_eplb", "balancing of experts is", False, kind="bool", section=_PARALLEL),
    _refused("enable_elastic_ep", "elastic expert parallelism is", False, kind="bool"),
    _refused(
        "enable_dbo",
        "dual batch overlap is",
        False,
        kind="bool",
        section=_PARALLEL,
        others=("enable_microbatching",),
    ),
    _refused("ubatch_size", "splitting of batches is", 0, 1, section=_PARALLEL),
    _refused("nnodes", "an engine over several nodes is", 1, section=_PARALLEL, flags=("n",)),
    # Another schedule.
    _refused(
        "enable_chunked_prefill",
        "an engine without chunked prefill is",
        True,
        kind="bool",
        section=_SCHEDULER,
        others=("chunked_prefill", "chunked_prefill_enabled"),
    ),
    _refused(
        "scheduling_policy",
        "another scheduling policy than fcfs is",
        "fcfs",
        section=_SCHEDULER,
        others=("policy",),
    ),
    _refused("scheduler_cls", "a scheduler of one's own is", section=_SCHEDULER, unless=_vllms_own),
    _refused("num_scheduler_steps", "multi-step scheduling is", 1, section=_SCHEDULER),
    _refused("scheduler_delay_factor", "a delay before prefills is", 0, section=_SCHEDULER),
    _refused("preemption_mode", "preemption by swapping is", "recompute", section=_SCHEDULER),
    _refused("max_num_partial_prefills", "a limit of partial prefills is", 1, section=_SCHEDULER),
    _refused("max_long_partial_prefills", "a limit of partial prefills is", 1, section=_SCHEDULER),
    _refused(
        "max_num_scheduled_tokens",
        "a limit of tokens below max_num_batched_tokens is",
        section=_SCHEDULER,
        unless=_whole_budget,
    ),
    _refused(
        "max_num_active_seqs",
        "a limit of requests below max_num_seqs is",
        section=_SCHEDULER,
        unless=_all_seats,
    ),
    _refused("max_num_queued_reqs", "a limit of the queue is", section=_SCHEDULER),
    _refused("max_num_queued_tokens", "a limit of the queue is", section=_SCHEDULER),
    _refused(
        "long_prefill_token_threshold_adaptive",
        "an adaptive long_prefill_token_threshold is",
        False,
        kind="bool",
        section=_SCHEDULER,
    ),
    _refused("watermark", "a watermark of free KV blocks is", 0, section=_SCHEDULER),
    _refused("prefill_schedule_interval", "admitting in intervals is", 0, 1, section=_SCHEDULER),
    _refused("prefix_cache_retention_interval", "keeping of cached prefixes is", 0, section=_CACHE),
    _refused("prefix_match_unit", "matching of prefixes by other units is", section=_CACHE),
    # Another model than the one that was profiled.
    _refused("enable_lora", "LoRA is", False, kind="bool", others=("lora_modules", "lora_config")),
    _refused(
        "sliding_window", "sliding window attention is", 0, section=_CACHE, unless=_switched_off
    ),
    _refused("enable_prompt_adapter", "a prompt adapter is", False, others=("prompt_adapters",)),
    _refused("hf_overrides", "a changed model is", unless=_only_positions),
    _refused("model_class_overrides", "a changed model is"),
    _refused("runner", "a pooling model is", "auto", "generate", section=_MODEL),
    _refused("task", "a pooling model is", "auto", "generate"),
    _refused("convert", "a pooling model is", "auto", "none", section=_MODEL),
    _refused("pooler_config", "a pooling model is", others=("override_pooler_config",)),
    _refused("kv_sharing_fast_prefill", "fast prefill of shared layers is", False, section=_CACHE),
    # Memory elsewhere.
    _refused("kv_transfer_config", "KV cache transfer between engines is"),
    _refused("ec_transfer_config", "transfer of encoder caches between engines is"),
    _refused("kv_offloading_size", "KV cache in the host's memory is", 0, section=_CACHE),
    _refused("cpu_offload_gb", "weights in the host's memory are", 0, section=_CACHE),
    _refused("offload_group_size", "weights in the host's memory are", 0),
)
