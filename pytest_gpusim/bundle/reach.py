"""The sizes that a workload's steps can have under an engine's limits."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from pytest_gpusim.deployment import EngineSettings
    from pytest_gpusim.workload import Workload


_ALL = 1 << 40  # more blocks than any prompt has


@dataclass(frozen=True)
class Reach:
    """A bound on what the steps of a workload can be; arrivals are not played through.

    Attributes:
        tokens: Most tokens of a step.
        chunk: Most prefill tokens of a step.
        sequences: Most requests in a step.
        context: Per request, the most tokens that its KV cache can hold before a step; ascending.
        kv_tokens: Most tokens in the KV cache, all requests together; None where blocks are shared
            or not limited.
    """

    tokens: int
    chunk: int
    sequences: int
    context: np.ndarray
    kv_tokens: int | None = None

    @property
    def longest(self) -> int:
        """The longest context."""
        return int(self.context[-1])

    def mean_context(self, sequences: int) -> float:
        """The longest mean context that a batch of so many requests can have."""
        longest = self.context[-sequences:]
        mean = float(longest.mean())
        return mean if self.kv_tokens is None else min(mean, self.kv_tokens / len(longest))


def reach_of(workload: Workload, engine: EngineSettings) -> Reach:
    """What the steps of a workload can be, given complete engine settings."""
    import numpy as np

    requests = np.asarray(workload.requests, dtype="int64")
    prefill, decode = requests[:, 2], requests[:, 3]
    max_tokens, block_size = engine.max_num_batched_tokens or 1, engine.block_size or 1
    context = np.sort(prefill + decode - 1)
    sequences = min(engine.max_num_seqs or 1, len(requests))
    kv_tokens = None
    if engine.num_gpu_blocks is not None:
        own = blocks = -(-prefill // block_size)
        if engine.enable_prefix_caching is not False:
            own = np.maximum(1, blocks - _shared_blocks(workload, block_size))
        # Each running request holds at least the blocks that it does not share; the smallest fit
        # most often. One of the blocks is vLLM's null block.
        fitting = np.searchsorted(np.cumsum(np.sort(own)), engine.num_gpu_blocks - 1, side="right")
        sequences = min(sequences, max(1, int(fitting)))
        if (own == blocks).all():
            kv_tokens = (engine.num_gpu_blocks - 1) * block_size
    # Recomputed after a preemption, what was generated is prefilled like a prompt.
    chunk = int(min(max_tokens, context[-sequences:].sum()))
    if engine.long_prefill_token_threshold:
        chunk = min(chunk, engine.long_prefill_token_threshold * sequences)
    tokens = min(max_tokens, chunk + sequences - 1)
    return Reach(max(tokens, sequences), chunk, sequences, context, kv_tokens)


def _shared_blocks(workload: Workload, block_size: int) -> np.ndarray:
    """Per request, at most how many of its prompt's blocks an earlier prompt holds already.

    Every block counts for the first prompt that has it, so that the rest are distinct.
    """
    import numpy as np

    uses: Counter[int] = Counter()
    shared = np.zeros(len(workload.requests), dtype="int64")
    prompts = workload.prompts
    by_prompt = _shared_by_prompt(workload, block_size) if prompts is not None else {}
    for place, (_, prompt_id, prefill, _, _) in enumerate(workload.requests):
        whole = prefill // block_size
        shared[place] = whole if uses[prompt_id] else min(whole, by_prompt.get(prompt_id, 0))
        uses[prompt_id] += 1
    return shared


def _shared_by_prompt(workload: Workload, block_size: int) -> dict[int, int]:
    """Blocks that earlier prompts have, by prompt; prompts that share nothing are left out.

    Texts and token ids may all be alike.
    """
    shared: dict[int, int] = {}
    seeds: set[int] = set()
    hashes: set[int] = set()
    for prompt_id, prompt in sorted((workload.prompts or {}).items()):
        if prompt.block_hashes is not None:
            known = sum(each in hashes for each in prompt.block_hashes)
            hashes.update(prompt.block_hashes)
            # A block that only begins or ends in a known one is shared too, at most.
            tokens = known * (prompt.block_tokens or 1)
            if known:
                shared[prompt_id] = -(-tokens // block_size)
        elif prompt.seed is None or prompt.seed in seeds:
            shared[prompt_id] = _ALL
        elif prompt.prefix_tokens:
            shared[prompt_id] = prompt.prefix_tokens // block_size
        if prompt.seed is not None:
            seeds.add(prompt.seed)
    return shared
