"""What decides a schedule: an engine's limits, and what differs between vLLM's releases."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_gpusim.deployment import EngineSettings
from pytest_gpusim.deployment.settings import release_of
from pytest_gpusim.errors import UsageError


@dataclass(frozen=True)
class ReleaseRules:
    """Where vLLM's releases schedule differently.

    Attributes:
        reuse_blank_blocks_first: A freed block without findable content is reused before all
            others; else it waits behind them (``block_pool.py: BlockPool.free_blocks``).
        lone_prefill_uncapped: ``long_prefill_token_threshold`` does not bind while the request is
            the only one in the engine (``scheduler.py: Scheduler.schedule``).
    """

    reuse_blank_blocks_first: bool
    lone_prefill_uncapped: bool


# First release with these rules, ascending; each holds until the next one.
_RELEASES: tuple[tuple[tuple[int, int], ReleaseRules], ...] = (
    ((0, 19), ReleaseRules(reuse_blank_blocks_first=False, lone_prefill_uncapped=False)),
    ((0, 24), ReleaseRules(reuse_blank_blocks_first=True, lone_prefill_uncapped=False)),
    ((0, 31), ReleaseRules(reuse_blank_blocks_first=True, lone_prefill_uncapped=True)),
)
_OLDEST, _NEWEST = (0, 19), (0, 32)


def release_is_known(version: str | None) -> bool:
    """Whether the scheduling rules of vLLM ``version`` ("0.19.0", "0.32.1+cpu", …) are stated here.

    None, what cannot be read as a release ("0.1.dev1+g…" too), and releases outside 0.19 … 0.32
    are not: they are scheduled by the newest rules, or the oldest where the release is older.
    """
    release = release_of(version)
    return release is not None and _OLDEST <= release <= _NEWEST


def release_rules(version: str | None) -> ReleaseRules:
    """The rules of vLLM ``version``; the nearest known ones where `release_is_known` is false."""
    release = release_of(version) or _NEWEST
    rules = _RELEASES[0][1]
    for first, candidate in _RELEASES:
        if release >= first:
            rules = candidate
    return rules


@dataclass(frozen=True)
class SchedulingRules:
    """All that `pytest_gpusim.serving.Scheduler` needs to know of an engine.

    Attributes:
        max_num_seqs: Most requests that run at once.
        max_num_batched_tokens: Most tokens of one step; at least ``max_num_seqs``, as in vLLM.
        block_size: Tokens of one KV block.
        num_blocks: vLLM's ``num_gpu_blocks``, its null block included.
        max_model_len: Most tokens of a request, prompt and output; None: no limit.
        enable_prefix_caching: Whether requests find blocks by their content.
        async_scheduling: Whether a step is planned before the previous one's tokens are known.
        long_prefill_token_threshold: Most prefill tokens of one request in a step; 0: no limit.
        reserve_full_sequence: vLLM's ``scheduler_reserve_full_isl``: a request is admitted only
            when all its tokens so far fit, not just its first chunk.
        release: What the engine's release does differently.
    """

    max_num_seqs: int
    max_num_batched_tokens: int
    block_size: int
    num_blocks: int
    max_model_len: int | None = None
    enable_prefix_caching: bool = True
    async_scheduling: bool = False
    long_prefill_token_threshold: int = 0
    reserve_full_sequence: bool = True
    release: ReleaseRules = _RELEASES[-1][1]

    def __post_init__(self) -> None:
        for name, least in (("max_num_seqs", 1), ("block_size", 1), ("num_blocks", 2)):
            if getattr(self, name) < least:
                raise UsageError(f"{name} is {getattr(self, name)}, expected at least {least}")
        if self.max_num_batched_tokens < self.max_num_seqs:
            raise UsageError(
                f"max_num_batched_tokens ({self.max_num_batched_tokens}) is below max_num_seqs "
                f"({self.max_num_seqs}), which vLLM refuses"
            )

    @classmethod
    def for_release(cls, version: str | None, settings: EngineSettings) -> SchedulingRules:
        """The rules of an engine with these settings under vLLM ``version``.

        Args:
            version: vLLM's release, None where unknown (`release_is_known` tells).
            settings: Resolved engine settings; flags that are not stated take vLLM's defaults,
                asynchronous scheduling is then off.

        Raises:
            UsageError: A limit is missing, or the limits contradict each other.
        """
        limits = {
            "max_num_seqs": settings.max_num_seqs,
            "max_num_batched_tokens": settings.max_num_batched_tokens,
            "block_size": settings.block_size,
            "num_gpu_blocks": settings.num_gpu_blocks,
        }
        stated = {name: value for name, value in limits.items() if value is not None}
        if len(stated) < len(limits):
            missing = ", ".join(name for name in limits if name not in stated)
            raise UsageError(f"engine settings lack {missing}: state them in the file of --engine")
        return cls(
            max_num_seqs=stated["max_num_seqs"],
            max_num_batched_tokens=stated["max_num_batched_tokens"],
            block_size=stated["block_size"],
            num_blocks=stated["num_gpu_blocks"],
            max_model_len=settings.max_model_len,
            enable_prefix_caching=settings.enable_prefix_caching is not False,
            async_scheduling=settings.async_scheduling is True,
            long_prefill_token_threshold=settings.long_prefill_token_threshold or 0,
            reserve_full_sequence=settings.scheduler_reserve_full_isl is not False,
            release=release_rules(version),
        )
