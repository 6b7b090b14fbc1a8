"""The one table of engine settings: each of vLLM's, and what becomes of it here.

Names are those of ``EngineArgs`` and of ``vllm serve`` in 0.32, with what they are called in the
resolved configuration (``VllmConfig``) and were called in earlier releases. Every argument of the
installed release has a row; a test holds that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_gpusim.deployment.dtypes import PLAIN_DTYPES
from pytest_gpusim.deployment.quantization import known_methods
from pytest_gpusim.deployment.settings import defaults
from pytest_gpusim.deployment.settings.defaults import always, since
from pytest_gpusim.deployment.settings.names import IGNORED, PROFILED
from pytest_gpusim.deployment.settings.setting import Setting

SECTIONS = ("scheduler_config", "cache_config", "model_config", "parallel_config")
"""The parts of vLLM's resolved configuration that are read."""
_SCHEDULER, _CACHE, _MODEL, _PARALLEL = SECTIONS
_CONFIG = "config/{cache,scheduler}.py"


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


MODELLED = (
    Setting(
        "max_num_seqs",
        "int",
        "modelled",
        "most requests that run at once",
        _SCHEDULER,
        mirrored=True,
        essential=True,
        default=defaults.MAX_NUM_SEQS,
    ),
    Setting(
        "max_num_batched_tokens",
        "int",
        "modelled",
        "most tokens of a step",
        _SCHEDULER,
        mirrored=True,
        essential=True,
        default=defaults.MAX_NUM_BATCHED_TOKENS,
    ),
    Setting(
        "max_model_len",
        "int",
        "modelled",
        "most tokens of a request, prompt and answer",
        _MODEL,
        others=("max_seq_len",),
        automatic=True,
        mirrored=True,
        default=defaults.MAX_MODEL_LEN,
    ),
    Setting(
        "block_size",
        "int",
        "modelled",
        "tokens of a KV block",
        _CACHE,
        mirrored=True,
        essential=True,
        default=defaults.BLOCK_SIZE,
    ),
    Setting(
        "num_gpu_blocks",
        "int",
        "modelled",
        "KV blocks, the null block among them",
        _CACHE,
        others=("num_gpu_blocks_override",),
        mirrored=True,
        essential=True,
    ),
    Setting(
        "enable_prefix_caching",
        "bool",
        "modelled",
        "whether requests find blocks by their content",
        _CACHE,
        mirrored=True,
        default=always(True, "arg_utils.py: EngineArgs.create_engine_config"),
    ),
    Setting(
        "async_scheduling",
        "bool",
        "modelled",
        "whether a step is planned before the tokens of the one before are known",
        _SCHEDULER,
        mirrored=True,
        default=defaults.ASYNC_SCHEDULING,
    ),
    Setting(
        "long_prefill_token_threshold",
        "int",
        "modelled",
        "most prefill tokens of one request in a step; 0: no limit",
        _SCHEDULER,
        mirrored=True,
        least=0,
        default=always(0, _CONFIG),
    ),
    Setting(
        "scheduler_reserve_full_isl",
        "bool",
        "modelled",
        "whether a request is admitted only when all of it fits",
        _SCHEDULER,
        mirrored=True,
        default=since((0, 19), True, False, "config/scheduler.py: SchedulerConfig"),
    ),
    Setting("dtype", "str", "modelled", "of weights and activations", _MODEL, mirrored=True),
    Setting(
        "tensor_parallel_size",
        "int",
        "modelled",
        "devices that each layer is split over",
        _PARALLEL,
        flags=("tp",),
        mirrored=True,
        default=always(1, "config/parallel.py: ParallelConfig"),
    ),
    Setting(
        "enforce_eager",
        "bool",
        "modelled",
        "whether the model runs without compilation and CUDA graphs",
        _MODEL,
        mirrored=True,
    ),
    Setting(
        "engine_version",
        "str",
        "modelled",
        "vLLM's release, which picks scheduling rules and defaults",
        others=("vllm_version",),
        mirrored=True,
    ),
    Setting(
        "gpu_memory_utilization",
        "float",
        "modelled",
        "share of the device's memory that the engine takes; decides the KV blocks",
        _CACHE,
        others=("device_memory_utilization",),
        default=since((0, 20), 0.92, 0.9, "config/cache.py: CacheConfig"),
    ),
    Setting(
        "kv_cache_memory_bytes",
        "int",
        "modelled",
        "bytes for KV blocks on each device, in place of a share of its memory",
        _CACHE,
    ),
    Setting(
        "performance_mode",
        "str",
        "modelled",
        "'throughput' doubles the limits that nobody states",
        default=since((0, 17), "balanced", None, "config/vllm.py: VllmConfig"),
    ),
    Setting(
        "quantization",
        "str",
        "modelled",
        "method of quantized weights; nobody states it: the checkpoint's",
        _MODEL,
        flags=("q",),
        values=known_methods(),
        refused="quantized weights of this method are",
    ),
    Setting(
        "kv_cache_dtype",
        "str",
        "modelled",
        "of the KV cache; auto: the checkpoint's, else the model's",
        _CACHE,
        others=("cache_dtype",),
        mirrored=True,
        values=("fp8", "fp8_e4m3", *PLAIN_DTYPES),
        refused="quantized KV cache of this dtype is",
    ),
    Setting(
        "enable_expert_parallel",
        "bool",
        "modelled",
        "whether whole experts are dealt out to the devices, instead of a share of each",
        _PARALLEL,
        flags=("ep",),
        mirrored=True,
        default=always(False, "config/parallel.py: ParallelConfig"),
    ),
)


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


_REFUSED = (
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

SETTINGS: tuple[Setting, ...] = (
    *MODELLED,
    *_REFUSED,
    Setting("disable_sliding_window", "bool", "ignored", "see sliding_window", _MODEL),
    *(Setting(name, "any", "profiled", words) for words, names in PROFILED for name in names),
    *(Setting(name, "any", "ignored", words) for words, names in IGNORED for name in names),
)
"""All settings, the modelled ones first."""
