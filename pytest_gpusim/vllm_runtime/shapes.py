"""Making an engine run steps of a wanted shape, and timing them.

The requests are ordinary ones. What they should find in the KV cache is put there without being
computed: the cache manager allocates a sequence's blocks and frees them again, as if a request had
run and gone, so that the next one with these tokens hits them. Their content does not matter to the
time.
"""

from __future__ import annotations

import gc
import random
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

from pytest_gpusim.vllm_runtime.driver import Driver, StepResult
from pytest_gpusim.vllm_runtime.engine import core
from pytest_gpusim.vllm_runtime.operators import OperatorClock

_MANY_TOKENS = 1 << 30


class ShapeError(RuntimeError):
    """The engine did not form the batch that was wanted."""


def run_shape(driver: Driver, command: Mapping[str, Any], device: str) -> list[dict[str, Any]]:
    """Time steps of one shape.

    ``command``: ``prefills``, (tokens, context) of each chunk; ``decodes``, the context of each
    decoding sequence; ``steps``, how many in a row; ``hooks``, whether to time operators.
    Contexts of prefills are multiples of the block size; decodes begin at their context (at
    least 1, cheapest one above a multiple) and grow by one token a step.

    Returns:
        Per step ``wall_ns`` (of the step as a run sees it, less what the hooks took),
        ``cpu_ns`` (what the process computed),
        ``prefills``, ``decodes`` (contexts as they were) and ``operators`` (ns, all layers
        together; empty without hooks).
    """
    # What earlier shapes left behind is not collected in the middle of a step.
    gc.collect()
    gc.freeze()
    clock = OperatorClock(driver.engine, device) if command["hooks"] else None
    maker = _ShapeMaker(driver, clock)
    prefills = [(int(tokens), int(context)) for tokens, context in command["prefills"]]
    with clock or nullcontext():
        maker.start_decodes([int(context) for context in command["decodes"]], command["steps"])
        tokens = sum(size for size, _ in prefills) + len(command["decodes"])
        if prefills and tokens not in driver.tokens_seen:
            # The first step of a size pays for kernels that are chosen or compiled on first use.
            maker.step(prefills)
        driver.tokens_seen.add(tokens)
        return [maker.step(prefills) for _ in range(command["steps"])]


class _ShapeMaker:
    def __init__(self, driver: Driver, clock: OperatorClock | None) -> None:
        self._clock = clock
        if not driver.reset_prefix_cache():
            raise ShapeError("the prefix cache could not be reset")
        self._driver = driver
        self._core = core(driver.engine)
        config = driver.engine.vllm_config
        self._vocab = config.model_config.get_vocab_size()
        self._block = self._core.scheduler.block_size
        self._limit = config.model_config.max_model_len
        self._draw = random.Random(driver.next_serial())
        self._decoding: dict[int, int] = {}

    def start_decodes(self, contexts: Sequence[int], steps: int) -> None:
        """Bring sequences to where the next step decodes each at its context."""
        for number, context in enumerate(contexts):
            # The step before the wanted one computes the last token of the prompt.
            self._add(number, context, context - 1, steps + 2)
        waiting = set(range(len(contexts)))
        while waiting:
            result = self._driver.step()
            waiting -= {request_id for request_id, _ in result.tokens}

    def step(self, prefills: Sequence[tuple[int, int]]) -> dict[str, Any]:
        """One step of the decodes, and of these prefills where there are any."""
        for tokens, context in prefills:
            self._add(self._driver.next_serial() + _MANY_TOKENS, tokens + context, context, 1)
        if self._clock is not None:
            self._clock.take()
        result = self._driver.step()
        while not result.steps:  # asynchronous engines answer a call later
            result = self._driver.step()
        operators, cost = self._clock.take() if self._clock is not None else ({}, 0)
        row = self._row(prefills, result)
        row["operators"] = operators
        row["wall_ns"] -= cost
        return row

    def _row(self, prefills: Sequence[tuple[int, int]], result: StepResult) -> dict[str, Any]:
        batch = result.steps[0].batch
        chunks = sorted((s.num_tokens, s.context) for s in batch if not s.is_decode)
        if len(result.steps) != 1 or chunks != sorted(prefills):
            raise ShapeError(f"wanted prefills {sorted(prefills)}, the engine made {chunks}")
        return {
            "wall_ns": result.end_ns - result.start_ns,
            "cpu_ns": result.cpu_ns,
            "prefills": chunks,
            "decodes": [s.context for s in batch if s.is_decode],
        }

    def _add(self, request_id: int, num_tokens: int, cached: int, max_tokens: int) -> None:
        ids = [self._draw.randrange(self._vocab) for _ in range(num_tokens)]
        whole = cached // self._block * self._block
        if whole:
            self._pretend_cached(ids[:whole])
        self._driver.add(request_id, ids, min(max_tokens, self._limit - num_tokens))

    def _pretend_cached(self, ids: list[int]) -> None:
        from vllm import SamplingParams
        from vllm.v1.request import Request

        gone = Request(
            f"gone-{self._driver.next_serial()}",
            ids,
            SamplingParams(max_tokens=1),
            None,
            block_hasher=self._core.request_block_hasher,
        )
        manager = self._core.scheduler.kv_cache_manager
        if manager.allocate_slots(gone, len(ids)) is None:
            raise ShapeError("the KV cache is too small for this shape")
        manager.free(gone)
