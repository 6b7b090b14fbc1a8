"""The sizes that a workload's steps can have under an engine's limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from pytest_gpusim.deployment import EngineSettings
    from pytest_gpusim.workload import Workload


_ALL = 1 << 40  # more tokens than any prompt has


@dataclass(frozen=True)
class StepBounds:
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


def step_bounds(workload: Workload, engine: EngineSettings) -> StepBounds:
    """What the steps of a workload can be, given complete engine settings."""
    import numpy as np

    columns = list(zip(*workload.requests, strict=True))
    prefill, decode = (np.array(column, dtype="int64") for column in columns[2:4])
    max_tokens, block_size = engine.max_num_batched_tokens or 1, engine.block_size or 1
    context = np.sort(prefill + decode - 1)
    sequences = min(engine.max_num_seqs or 1, len(prefill))
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
    return StepBounds(max(tokens, sequences), chunk, sequences, context, kv_tokens)


def _shared_blocks(workload: Workload, block_size: int) -> np.ndarray:
    """Per request, at most how many of its prompt's blocks an earlier prompt holds already.

    Every block counts for the first prompt that has it, so that the rest are distinct.
    """
    import numpy as np

    by_prompt = _shared_by_prompt(workload)
    if not by_prompt and len({request[1] for request in workload.requests}) == len(
        workload.requests
    ):
        return np.zeros(len(workload.requests), dtype="int64")
    used: set[int] = set()
    shared: list[int] = []
    for request in workload.requests:
        prompt = request.prompt_id
        tokens = request.num_prefill_tokens if prompt in used else by_prompt.get(prompt, 0)
        shared.append(min(request.num_prefill_tokens, tokens) // block_size)
        used.add(prompt)
    return np.array(shared, dtype="int64")


def _shared_by_prompt(workload: Workload) -> dict[int, int]:
    """Tokens that earlier prompts have, at most, by prompt; those that share nothing are left out.

    Texts and token ids may all be alike.
    """
    shared: dict[int, int] = {}
    seeds: set[int] = set()
    hashes: set[int] = set()
    for prompt_id, prompt in (workload.prompts or {}).items():
        if prompt.block_hashes is not None:
            known = sum(each in hashes for each in prompt.block_hashes)
            hashes.update(prompt.block_hashes)
            shared[prompt_id] = known * (prompt.block_tokens or 1)
        elif prompt.seed is None or prompt.seed in seeds:
            shared[prompt_id] = _ALL
        elif prompt.prefix_tokens:
            shared[prompt_id] = prompt.prefix_tokens
        if prompt.seed is not None:
            seeds.add(prompt.seed)
    return shared
