"""KV-cache blocks: who holds them, which are findable by content, which is reused first.

Plain-Python re-enactment of vLLM v1's block pool for one group of full-attention layers
(``vllm/v1/core/block_pool.py``, ``vllm/v1/core/kv_cache_utils.py``,
``vllm/v1/core/single_type_kv_cache_manager.py``). Blocks are bare integers.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable, Sequence


class BlockKeys:
    """Names the content of KV blocks: equal keys, equal tokens from the start of the sequence.

    A block's key stands for its own tokens and all before them, as vLLM's chained hashes do
    (``kv_cache_utils.py: get_request_block_hasher, hash_block_tokens``), but without hashing: keys
    are small integers, handed out in order of first appearance, so two contents never collide.
    Use one instance for all prompts of a simulation.
    """

    def __init__(self, block_size: int) -> None:
        self._block_size = block_size
        self._known: dict[tuple[int, tuple[int, ...]], int] = {}

    def chain(self, token_ids: Sequence[int]) -> tuple[int, ...]:
        """Keys of the full blocks of ``token_ids``; a partial last block has none."""
        size = self._block_size
        known = self._known
        keys = []
        parent = -1
        for start in range(0, len(token_ids) - size + 1, size):
            content = (parent, tuple(token_ids[start : start + size]))
            parent = known.setdefault(content, len(known))
            keys.append(parent)
        return tuple(keys)


class BlockPool:
    """Blocks 1 … ``num_blocks`` - 1 of a KV cache; block 0 is vLLM's null block, never handed out.

    A free block that still has content stays findable until it is reused, least recently freed
    first (``block_pool.py: BlockPool.free_blocks, get_new_blocks``). ``reuse_blank_first`` says
    where a freed block without findable content goes: in front of all others, or behind them.
    """

    def __init__(self, num_blocks: int, *, reuse_blank_first: bool) -> None:
        self.num_blocks = num_blocks
        self._reuse_blank_first = reuse_blank_first
        self._holders = [0] * num_blocks
        self._key: list[Hashable | None] = [None] * num_blocks
        # Blocks of one content in order of publication: the first is the one that is found, and
        # reusing it leaves the others (``BlockHashToBlockMap``).
        self._by_key: dict[Hashable, list[int]] = {}
        self._blank = list(range(num_blocks - 1, 0, -1))
        self._queue: OrderedDict[int, None] = OrderedDict()

    @property
    def num_free(self) -> int:
        """Blocks that nobody holds, findable ones included."""
        return len(self._blank) + len(self._queue)

    @property
    def num_used(self) -> int:
        """Blocks that some request holds."""
        return self.num_blocks - 1 - len(self._blank) - len(self._queue)

    def find(self, keys: Sequence[Hashable], limit: int) -> list[int]:
        """The blocks of the longest findable prefix of ``keys``, ``limit`` blocks at most.

        ``single_type_kv_cache_manager.py: FullAttentionManager.find_longest_cache_hit``.
        """
        found = []
        by_key = self._by_key
        for key in keys[:limit]:
            blocks = by_key.get(key)
            if blocks is None:
                break
            found.append(blocks[0])
        return found

    def count_free(self, blocks: Iterable[int]) -> int:
        """How many of ``blocks`` nobody holds: holding them takes them from the free ones."""
        holders = self._holders
        return sum(1 for block in blocks if not holders[block])

    def hold(self, blocks: Iterable[int]) -> None:
        """Add a holder to blocks that were found (``block_pool.py: BlockPool.touch``)."""
        holders = self._holders
        for block in blocks:
            if not holders[block]:
                del self._queue[block]
            holders[block] += 1

    def take(self, count: int) -> list[int]:
        """Hand out ``count`` blocks, which lose their content; there must be that many free."""
        return [self.take_one() for _ in range(count)]

    def take_one(self) -> int:
        """Hand out a block, which loses its content; there must be a free one."""
        if self._blank:
            block = self._blank.pop()
        else:
            block, _ = self._queue.popitem(last=False)
            key = self._key[block]
            if key is not None:
                self._forget(block, key)
        self._holders[block] = 1
        return block

    def publish(self, block: int, key: Hashable) -> None:
        """Make a full block findable (``block_pool.py: BlockPool.cache_full_blocks``)."""
        self._key[block] = key
        self._by_key.setdefault(key, []).append(block)

    def release(self, blocks: Sequence[int], num_full: int) -> None:
        """Give up a request's blocks, the tail first; the first ``num_full`` have content.

        ``single_type_kv_cache_manager.py: free``, ``block_pool.py: free_blocks``. A block with
        content that nobody can ever look for needs no key: it only takes its turn in the queue.
        """
        holders, queue = self._holders, self._queue
        for index in range(len(blocks) - 1, -1, -1):
            block = blocks[index]
            holders[block] -= 1
            if not holders[block]:
                if index >= num_full and self._reuse_blank_first:
                    self._blank.append(block)
                else:
                    queue[block] = None

    def _forget(self, block: int, key: Hashable) -> None:
        same = self._by_key[key]
        if len(same) == 1:
            del self._by_key[key]
        else:
            same.remove(block)
        self._key[block] = None
