"""What vLLM takes for a setting that nobody states, by release.

Read from the sources of the releases 0.8.5, 0.9.2, 0.10.0, 0.10.2, 0.11.0, 0.11.2 and 0.12.0 to
0.32.0, the first patch of each: ``vllm/engine/arg_utils.py`` (``get_batch_defaults`` and what it
was called before), ``vllm/config/{cache,scheduler,vllm}.py``, ``vllm/platforms/{cpu,cuda}.py``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Release = tuple[int, int]
EntryPoint = Literal["serve", "LLM"]
OLDEST, NEWEST = (0, 8), (0, 32)
_LARGE_GIB, _LARGEST_GIB = 70, 160
_V1_BY_DEFAULT = (0, 8)


@dataclass(frozen=True)
class Deployment:
    """What vLLM's defaults depend on.

    Attributes:
        release: Of vLLM; None where it is not known: then the newest that is stated here counts.
        device: ``cuda`` or ``cpu``.
        memory_gib: Memory of one device as its driver states it, in GiB.
        device_name: What the device calls itself.
        entry_point: ``serve``, the server; ``LLM``, the class.
        world_size: Devices of one engine.
        performance_mode: vLLM's option of that name.
        max_model_len: Resolved; it bounds the tokens of a batch.
        max_num_seqs: As stated, since it bounds the tokens of a batch too.
        max_num_batched_tokens: As stated.
    """

    release: Release | None = None
    device: str = "cuda"
    memory_gib: float = 0.0
    device_name: str = ""
    entry_point: EntryPoint = "serve"
    world_size: int = 1
    performance_mode: str | None = None
    max_model_len: int | None = None
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None

    @property
    def known_release(self) -> Release:
        """The release, brought to those that are stated here."""
        return min(max(self.release or NEWEST, OLDEST), NEWEST)


@dataclass(frozen=True)
class Default:
    """A default of vLLM's.

    Attributes:
        value: Of a deployment; None where vLLM has none (the model or the device decides).
        words: The same for people.
        source: Where it stands in vLLM's sources.
    """

    value: Callable[[Deployment], Any]
    words: str
    source: str


def always(value: Any, source: str) -> Default:
    """The same in all releases."""
    return Default(lambda _: value, _word(value), source)


def since(release: Release, value: Any, before: Any, source: str) -> Default:
    """``value`` from ``release`` on, ``before`` until then."""
    number = ".".join(map(str, release))
    return Default(
        lambda deployment: value if deployment.known_release >= release else before,
        f"{_word(value)} since {number}, {_word(before)} before",
        source,
    )


def _word(value: Any) -> str:
    return {True: "on", False: "off"}.get(value, str(value)) if type(value) is bool else str(value)


def release_of(version: str | None) -> Release | None:
    """(major, minor) of vLLM's ``version``; None for no version, and for a build without a tag."""
    # What a build from a checkout without tags calls itself; it is newer than any release.
    if re.match(r"v?0\.[01]\.(0\.)?dev", version or ""):
        return None
    match = re.match(r"v?(\d{1,6})\.(\d{1,6})", version or "")
    return (int(match[1]), int(match[2])) if match else None


def is_first_engine(version: Any, *, v1_asked: bool) -> bool:
    """Whether a release runs vLLM's first engine: up to 0.7, unless ``VLLM_USE_V1=1``."""
    release = release_of(version) if isinstance(version, str) else None
    return release is not None and release < _V1_BY_DEFAULT and not v1_asked


def _is_large(deployment: Deployment) -> bool:
    # The A100 was taken out in 0.9.
    spared = deployment.known_release >= (0, 9) and "a100" in deployment.device_name.lower()
    return deployment.memory_gib >= _LARGE_GIB and not spared


def _is_largest(deployment: Deployment) -> bool:
    return deployment.known_release >= (0, 28) and deployment.memory_gib >= _LARGEST_GIB


def _doubled(deployment: Deployment) -> int:
    return 2 if deployment.performance_mode == "throughput" else 1


def _seats(deployment: Deployment) -> int:
    """``max_num_seqs`` before it is held against the tokens of a batch."""
    serves = deployment.entry_point == "serve"
    if deployment.device == "cpu":
        if deployment.known_release < (0, 10):
            seats = 32 if serves else 128
        else:
            seats = (128 if serves else 256) * deployment.world_size
    else:
        seats = 1024 if _is_large(deployment) or _is_largest(deployment) else 256
    return seats * _doubled(deployment)


def _max_num_seqs(deployment: Deployment) -> int:
    return min(_seats(deployment), _max_num_batched_tokens(deployment))


def _max_num_batched_tokens(deployment: Deployment) -> int:
    if deployment.max_num_batched_tokens is not None:
        return deployment.max_num_batched_tokens
    serves = deployment.entry_point == "serve"
    if deployment.device == "cpu":
        size = deployment.world_size if deployment.known_release >= (0, 10) else 1
        tokens = (2048 if serves else 4096) * size
    elif _is_largest(deployment):
        tokens = 16384
    elif _is_large(deployment):
        tokens = 8192 if serves else 16384
    else:
        tokens = 2048 if serves else 8192
    tokens *= _doubled(deployment)
    if deployment.max_model_len is not None and deployment.known_release >= (0, 11):
        seats = deployment.max_num_seqs or _seats(deployment)
        tokens = min(tokens, seats * deployment.max_model_len)
    return tokens


_BATCH = "arg_utils.py: EngineArgs.get_batch_defaults"
MAX_NUM_SEQS = Default(
    _max_num_seqs,
    "1024 on devices of 70 GiB and more but the A100, else 256; a CPU 128 (LLM: 256) per rank",
    _BATCH,
)
MAX_NUM_BATCHED_TOKENS = Default(
    _max_num_batched_tokens,
    "8192 (LLM: 16384) on devices of 70 GiB and more but the A100, 16384 of 160 GiB and more since "
    "0.28, else 2048 (LLM: 8192); a CPU 2048 (LLM: 4096) per rank",
    _BATCH,
)
ASYNC_SCHEDULING = Default(
    lambda deployment: deployment.device != "cpu" and deployment.known_release >= (0, 14),
    "on since 0.14, off before; never on a CPU",
    "config/vllm.py: VllmConfig.__post_init__; platforms/cpu.py",
)
BLOCK_SIZE = Default(
    lambda deployment: 128 if deployment.device == "cpu" else 16,
    "16; a CPU 128",
    "config/cache.py: CacheConfig.DEFAULT_BLOCK_SIZE; platforms/{cpu,cuda}.py",
)
MAX_MODEL_LEN = Default(
    lambda deployment: deployment.max_model_len, "the model's positions", "config/model.py"
)
