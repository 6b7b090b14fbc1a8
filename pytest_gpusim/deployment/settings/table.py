"""The one table of engine settings: each of vLLM's, and what becomes of it here.

Names are those of ``EngineArgs`` and of ``vllm serve`` in 0.32, with what they are called in the
resolved configuration (``VllmConfig``) and were called in earlier releases. Every argument of the
installed release has a row; a test holds that. The rows that are refused stand in ``refused.py``,
those that no simulation needs to look at in ``names.py``.
"""

from __future__ import annotations

from pytest_gpusim.deployment.dtypes import PLAIN_DTYPES
from pytest_gpusim.deployment.quantization import known_methods
from pytest_gpusim.deployment.settings import defaults
from pytest_gpusim.deployment.settings.defaults import always, since
from pytest_gpusim.deployment.settings.names import IGNORED, PROFILED
from pytest_gpusim.deployment.settings.refused import REFUSED
from pytest_gpusim.deployment.settings.setting import SECTIONS, Setting

_SCHEDULER, _CACHE, _MODEL, _PARALLEL = SECTIONS
_CONFIG = "config/{cache,scheduler}.py"

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


SETTINGS: tuple[Setting, ...] = (
    *MODELLED,
    *REFUSED,
    Setting("disable_sliding_window", "bool", "ignored", "see sliding_window", _MODEL),
    *(Setting(name, "any", "profiled", words) for words, names in PROFILED for name in names),
    *(Setting(name, "any", "ignored", words) for words, names in IGNORED for name in names),
)
"""All settings, the modelled ones first."""
