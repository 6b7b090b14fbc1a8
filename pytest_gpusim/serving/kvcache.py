"""Slots in the KV cache for a request's tokens (``vllm/v1/core/kv_cache_manager.py``)."""

from __future__ import annotations

from pytest_gpusim.serving.blocks import BlockPool
from pytest_gpusim.serving.request import Request
from pytest_gpusim.serving.rules import SchedulingRules


class KVCache:
    """Gives requests blocks and takes them back; names the content of full ones."""

    def __init__(self, rules: SchedulingRules) -> None:
        self._block_size = rules.block_size
        self._caching = rules.enable_prefix_caching
        self._reserve_full_sequence = rules.reserve_full_sequence
        self.pool = BlockPool(
            rules.num_blocks, reuse_blank_first=rules.release.reuse_blank_blocks_first
        )

    def find(self, request: Request) -> list[int]:
        """Blocks that hold the request's tokens already (``KVCacheManager.get_computed_blocks``).

        At least its last known token is left to compute, for there must be something to sample
        from.
        """
        if not request.keys:
            return []
        return self.pool.find(request.keys, (request.target - 1) // self._block_size)

    def admit(self, request: Request, hits: list[int], num_tokens: int) -> bool:
        """Give a waiting request the blocks found for it, and slots for ``num_tokens`` more.

        ``KVCacheManager.allocate_slots``, ``full_sequence_must_fit`` included. A found block that
        nobody holds counts as taken from the free ones. Returns False where blocks are lacking.
        """
        size = self._block_size
        free = self.pool.num_free - self.pool.count_free(hits)
        if self._reserve_full_sequence and -(-request.target // size) - len(hits) > free:
            return False
        needed = -(-num_tokens // size)
        if needed > free:
            return False
        self.pool.hold(hits)
        request.blocks = hits + self.pool.take(needed)
        request.num_published = len(hits)
        return True

    def grow(self, request: Request, num_tokens: int) -> bool:
        """Give a running request slots for ``num_tokens`` in all; False where blocks lack."""
        blocks = request.blocks
        needed = -(-num_tokens // self._block_size) - len(blocks)
        if needed > 0:
            if needed > self.pool.num_free:
                return False
            if needed == 1:  # nearly always
                blocks.append(self.pool.take_one())
            else:
                blocks += self.pool.take(needed)
        return True

    def publish(self, request: Request, num_tokens: int) -> None:
        """Make the blocks that its first ``num_tokens`` fill findable, where content is named.

        ``KVCacheManager.cache_blocks``.
        """
        keys = request.keys
        for index in range(request.num_published, min(num_tokens // self._block_size, len(keys))):
            self.pool.publish(request.blocks[index], keys[index])
            request.num_published = index + 1

    def free(self, request: Request, num_tokens: int, *, resumes: bool) -> None:
        """Take a request's blocks; those that its first ``num_tokens`` fill keep their content.

        One that ``resumes`` looks for them again, so content that had no name gets one.
        ``KVCacheManager.free``.
        """
        num_full = num_tokens // self._block_size if self._caching else 0
        if resumes:
            request.keys.extend(object() for _ in range(len(request.keys), num_full))
        self.publish(request, num_full * self._block_size)
        self.pool.release(request.blocks, num_full)
        request.blocks = []
        request.num_published = 0
