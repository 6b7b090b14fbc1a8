"""vLLM v1's scheduler, re-enacted: which requests a step computes, and how many tokens of each.

First come, first served, one group of full-attention layers, chunked prefill, no speculation.
References are to ``vllm/v1/core/sched/scheduler.py`` (``AsyncScheduler``: ``async_scheduler.py``)
and ``vllm/v1/core/kv_cache_manager.py``; `pytest_gpusim.serving.rules` holds what differs between
releases. ``docs/scheduler-equivalence.md`` tells how equality with vLLM's own is proven.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Sequence

from pytest_gpusim.errors import UsageError
from pytest_gpusim.serving.decoding import Decoding
from pytest_gpusim.serving.kvcache import KVCache
from pytest_gpusim.serving.request import Request, RequestState
from pytest_gpusim.serving.rules import SchedulingRules
from pytest_gpusim.serving.step import Admission, Completion, PrefillChunk, Step

# Bound once: an enum member looked up in a hot loop costs more than the loop's own work.
_WAITING = RequestState.WAITING
_PREFILL = RequestState.PREFILL
_DECODE = RequestState.DECODE
_DRAINING = RequestState.DRAINING
_FINISHED = RequestState.FINISHED


class Scheduler:
    """Plans the steps of one engine.

    Synchronous: ``schedule``, ``complete``, ``schedule``, … Asynchronous: a step is planned when
    the one before it starts, so at most two planned steps are not completed. Every planned step is
    completed, in order; an empty one takes no time. That is ``EngineCore.step`` and
    ``step_with_batch_queue`` (``vllm/v1/engine/core.py``).

    A step in which all running requests decode costs by what changes in it (a KV block is full, a
    request ends), not by the number of requests.
    """

    def __init__(self, rules: SchedulingRules) -> None:
        self.rules = rules
        self._cache = KVCache(rules)
        self.blocks = self._cache.pool
        self._waiting: deque[Request] = deque()
        self._running: list[Request] = []
        self._pending: deque[Step] = deque()
        self._clock = 0  # index of the step being planned
        self._seats = 0
        self._decoding = Decoding(rules.block_size)
        self._num_prefilling = 0
        self._num_draining = 0
        self._batch: list[Request] | None = None  # the running requests, while nothing changes

    @property
    def num_waiting(self) -> int:
        """Requests in the queue."""
        return len(self._waiting)

    @property
    def num_running(self) -> int:
        """Requests that hold a seat."""
        return len(self._running)

    @property
    def num_unfinished(self) -> int:
        """Requests that were added and have not finished."""
        return len(self._running) + len(self._waiting)

    @property
    def pending(self) -> tuple[Step, ...]:
        """Planned steps that are not completed, the oldest first."""
        return tuple(self._pending)

    def add_request(
        self,
        request_id: Hashable,
        num_prompt_tokens: int,
        max_tokens: int,
        block_keys: Sequence[Hashable] | None = None,
    ) -> Request:
        """Put a request at the end of the queue.

        Args:
            request_id: The caller's name for it.
            num_prompt_tokens: Tokens of the prompt, at least 1.
            max_tokens: Output tokens, at least 1.
            block_keys: The content of its full blocks, chained from the start (`BlockKeys.chain`
                over the prompt's token ids). Keys that go on past the prompt say that the output
                is known, and others may find it. None: the prompt shares nothing. Generated
                tokens without keys are this request's own; it finds them when it resumes.

        Raises:
            UsageError: It can never run: too long for ``max_model_len`` or for the KV cache.
        """
        rules = self.rules
        num_output_tokens = _output_tokens(rules, request_id, num_prompt_tokens, max_tokens)
        keys = list(block_keys or ()) if rules.enable_prefix_caching else []
        request = Request(
            request_id,
            num_prompt_tokens,
            num_output_tokens,
            keys,
            keys_continue=len(keys) > num_prompt_tokens // rules.block_size,
        )
        self._waiting.append(request)
        return request

    def schedule(self) -> Step:
        """Plan a step (``Scheduler.schedule``): the running requests in order, then waiting ones.

        Raises:
            RuntimeError: As many planned steps as the engine allows are not completed.
        """
        rules = self.rules
        if len(self._pending) > rules.async_scheduling:
            raise RuntimeError("complete the oldest planned step before planning another")
        clock = self._clock
        step = Step(clock)
        step.plans_ahead = bool(self._pending) and self._pending[0].num_tokens > 0
        budget = rules.max_num_batched_tokens
        threshold = rules.long_prefill_token_threshold
        if rules.release.lone_prefill_uncapped and self.num_unfinished <= 1:
            threshold = 0

        if self._num_prefilling:
            budget = self._plan_in_order(step, budget, threshold)
            self._batch = None
        else:
            for request in self._decoding.take_due(clock):
                # An earlier one may have preempted this one and all behind it.
                if request.state is not _DECODE or not self._advance(request, step):
                    break
            budget -= len(self._decoding)
        decodes = self._decoding.contexts(clock)
        step.num_decodes, step.sum_decode_context, step.max_decode_context = decodes
        requests = self._batch
        if requests is None or self._num_draining or step.preempted:
            requests = [request for request in self._running if request.state is not _DRAINING]
            self._batch = None if self._num_draining or self._num_prefilling else requests
        if not step.preempted and self._waiting:
            self._admit(step, budget, threshold)
            if step.admitted:
                requests = [*requests, *(admission.request for admission in step.admitted)]
                self._batch = None
        step.requests = requests
        self._settle(step)
        self._pending.append(step)
        self._clock = clock + 1
        return step

    def complete(self, step: Step) -> Completion:
        """Deliver a step's tokens (``Scheduler.update_from_output``); the oldest planned one.

        A request whose last token it brings leaves, and its blocks are freed; so does one that
        was preempted while that token was computed.
        """
        if not self._pending or self._pending[0] is not step:
            raise RuntimeError("steps are completed once each, in the order of planning")
        self._pending.popleft()
        for request in step.last:
            if request.state is _DRAINING:
                self._running.remove(request)
                self._num_draining -= 1
                self._batch = None
                self._cache.free(request, request.last_computed, resumes=False)
            else:
                self._waiting.remove(request)
            request.state = _FINISHED
        return Completion(step.sampled(), step.last)

    def _plan_in_order(self, step: Step, budget: int, threshold: int) -> int:
        """Plan the running requests one by one, with a prefill among them; return the budget left.

        The budget cannot end before the last of them: all but the last got what they wanted in the
        step before, a request never wants more than it did then, and only the last can have been
        cut short.
        """
        running = self._running
        clock = step.index
        self._decoding.take_due(clock)
        index = 0
        while index < len(running):
            request = running[index]
            index += 1
            if request.state is _DECODE:
                if request.due == clock and not self._advance(request, step):
                    break
                budget -= 1
            elif request.state is _PREFILL:
                num_tokens = request.target - request.computed
                if 0 < threshold < num_tokens:
                    num_tokens = threshold
                num_tokens = min(num_tokens, budget)
                if not self._grow(request, request.computed + num_tokens, step):
                    break
                self._add_chunk(step, request, num_tokens)
                budget -= num_tokens
        return budget

    def _advance(self, request: Request, step: Step) -> bool:
        """Give a decoding request the block that its next token may need; see to its end.

        Returns False where it was preempted for want of a block.
        """
        clock = step.index
        computed = clock + request.offset
        # Most often there is a free block.
        if not (self._cache.grow(request, computed + 1) or self._grow(request, computed + 1, step)):
            return False
        if request.keys_continue:
            self._cache.publish(request, computed + 1 - step.plans_ahead)
        if computed + 1 == request.last_computed:
            step.last.append(request)
        else:
            self._decoding.note(request, clock + 1)
        return True

    def _grow(self, request: Request, num_tokens: int, step: Step) -> bool:
        """Give a running request slots for ``num_tokens`` (``KVCacheManager.allocate_slots``).

        Without enough free blocks the last running request is preempted, perhaps this one, until
        there are (``Scheduler.schedule``, first loop). Returns False where it was this one.
        """
        while not self._cache.grow(request, num_tokens):
            victim = self._running.pop()
            self._preempt(victim, step)
            if victim is request:
                return False
        return True

    def _preempt(self, request: Request, step: Step) -> None:
        """Send a running request to the head of the queue (``Scheduler._preempt_request``).

        It loses its blocks, which stay findable until reused, and keeps what it generated; a
        token in flight is delivered before the next step is planned.
        """
        clock = step.index
        if request.state is _PREFILL:
            findable = request.computed
            self._num_prefilling -= 1
        else:
            if request.state is _DECODE:
                request.computed = clock + request.offset
                self._decoding.leave(request)
                request.end_tokens(clock)
            else:
                self._num_draining -= 1
            # Its newest token is in the step in flight, if there is one; its block is findable
            # only if that token was known when it was planned.
            unknown = step.plans_ahead and self._pending[0].plans_ahead
            findable = max(request.target, request.computed - unknown)
            request.target = request.computed + 1
        self._cache.free(request, findable, resumes=True)
        request.num_preemptions += 1
        request.state = _WAITING
        self._waiting.appendleft(request)
        step.preempted.append(request)

    def _admit(self, step: Step, budget: int, threshold: int) -> None:
        """Take requests from the queue until one fails (``Scheduler.schedule``, second loop)."""
        cache, waiting, running = self._cache, self._waiting, self._running
        while waiting and budget > 0 and len(running) < self.rules.max_num_seqs:
            request = waiting[0]
            hits = cache.find(request)
            computed = len(hits) * self.rules.block_size
            num_tokens = request.target - computed
            if 0 < threshold < num_tokens:
                num_tokens = threshold
            num_tokens = min(num_tokens, budget)
            if not cache.admit(request, hits, num_tokens):
                break
            waiting.popleft()
            running.append(request)
            request.computed = computed
            request.state = _PREFILL
            request.seat = self._seats
            self._seats += 1
            self._num_prefilling += 1
            if request.first_step < 0:
                request.first_step = step.index
                request.num_cached_tokens = computed
            step.admitted.append(Admission(request, computed))
            self._add_chunk(step, request, num_tokens)
            budget -= num_tokens

    def _add_chunk(self, step: Step, request: Request, num_tokens: int) -> None:
        """Plan prefill tokens; the blocks that they fill are findable from here on."""
        end = request.computed + num_tokens
        is_last = end == request.target
        step.prefills.append(PrefillChunk(request, num_tokens, request.computed, is_last))
        self._cache.publish(request, end)
        if end == request.last_computed:
            step.last.append(request)

    def _settle(self, step: Step) -> None:
        """Advance what the step planned (``Scheduler._update_after_schedule``), and sum it up."""
        clock = step.index
        num_partial = 0
        for request, num_tokens, context, is_last in step.prefills:
            step.num_prefill_tokens += num_tokens
            step.sum_prefill_context += context
            request.computed += num_tokens
            if is_last:
                request.start_tokens(clock)
                self._num_prefilling -= 1
                self._decoding.start(request, clock + 1)
            else:
                num_partial += 1
        for request in step.last:
            self._decoding.leave(request)
            request.end_tokens(clock + 1)
            request.computed = request.last_computed
            request.state = _DRAINING
            self._num_draining += 1
        step.num_sampled = len(step.requests) - num_partial
        step.num_running = len(self._running)
        step.num_waiting = len(self._waiting)
        step.num_blocks_used = self.blocks.num_used


def _output_tokens(
    rules: SchedulingRules, request_id: Hashable, num_prompt_tokens: int, max_tokens: int
) -> int:
    """The output that a request can have, or UsageError where the engine can never run it."""
    if num_prompt_tokens < 1 or max_tokens < 1:
        raise UsageError(
            f"request {request_id}: {num_prompt_tokens} prompt and {max_tokens} output tokens, "
            "expected at least one of each"
        )
    num_output_tokens = max_tokens
    if rules.max_model_len is not None:
        num_output_tokens = min(max_tokens, rules.max_model_len - num_prompt_tokens)
        if num_output_tokens < 1:
            raise UsageError(
                f"request {request_id}: a prompt of {num_prompt_tokens} tokens leaves no room for "
                f"output in max_model_len {rules.max_model_len}"
            )
    # The last token is never computed, so it needs no slot.
    needed = -(-(num_prompt_tokens + num_output_tokens - 1) // rules.block_size)
    if needed >= rules.num_blocks:
        raise UsageError(
            f"request {request_id}: {num_prompt_tokens} prompt and {num_output_tokens} output "
            f"tokens need {needed} KV blocks of {rules.block_size}, the cache has "
            f"{rules.num_blocks - 1} (num_gpu_blocks less the null block)"
        )
    return num_output_tokens
