"""One engine step: what it computes, in the figures that a step-time model needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from pytest_gpusim.serving.request import Request


class PrefillChunk(NamedTuple):
    """Tokens of one request's prompt (or of a resumed request's sequence) in one step.

    Attributes:
        request: Whose.
        num_tokens: Tokens computed in this step.
        context: Tokens of it that the KV cache held before, prefix hits included.
        is_last: Whether the chunk completes the prefill, so that the step yields a token.
    """

    request: Request
    num_tokens: int
    context: int
    is_last: bool


class Admission(NamedTuple):
    """A request that this step took from the queue, new or resumed after a preemption."""

    request: Request
    num_cached_tokens: int


class Completion(NamedTuple):
    """What a completed step brought: requests that got a token, and those of them that finished.

    Both in batch order; ``sampled`` may be the step's own list, so do not change it.
    """

    sampled: list[Request]
    finished: list[Request]


@dataclass(slots=True)
class Step:
    """A planned step. Contexts are tokens in the KV cache before the step.

    Attributes:
        index: Counts the planned steps, empty ones included.
        requests: The batch, in vLLM's order; shared between steps, so do not change it.
        prefills: The requests that prefill, in batch order; the others decode one token each.
        admitted: Requests that left the queue in this step.
        preempted: Requests that lost their blocks in this step.
        num_prefill_tokens: Sum over ``prefills``.
        sum_prefill_context: Sum of their contexts.
        num_decodes: Requests that decode.
        sum_decode_context: Sum of their contexts.
        max_decode_context: The largest of their contexts; 0 without decodes.
        num_sampled: Requests that get a token from this step.
        num_running: Requests that hold a seat.
        num_waiting: Requests in the queue after planning.
        num_blocks_used: KV blocks held after planning.
    """

    index: int
    requests: list[Request] = field(default_factory=list)
    prefills: list[PrefillChunk] = field(default_factory=list)
    admitted: list[Admission] = field(default_factory=list)
    preempted: list[Request] = field(default_factory=list)
    num_prefill_tokens: int = 0
    sum_prefill_context: int = 0
    num_decodes: int = 0
    sum_decode_context: int = 0
    max_decode_context: int = 0
    num_sampled: int = 0
    num_running: int = 0
    num_waiting: int = 0
    num_blocks_used: int = 0
    # Whether a step was in flight when this one was planned; its tokens were not known then.
    plans_ahead: bool = field(default=False, repr=False)
    # Requests whose last token this step yields, in batch order.
    last: list[Request] = field(default_factory=list, repr=False)

    @property
    def num_tokens(self) -> int:
        """Tokens that the step computes; 0 for an empty step, which takes no time."""
        return self.num_prefill_tokens + self.num_decodes

    def batch(self) -> list[tuple[Request, int]]:
        """Each scheduled request with its tokens, in vLLM's order."""
        chunks = {id(chunk.request): chunk.num_tokens for chunk in self.prefills}
        return [(request, chunks.get(id(request), 1)) for request in self.requests]

    def spans(self) -> list[tuple[int, int]]:
        """(tokens, context) of each scheduled request. Ask before planning another step."""
        chunks = {id(chunk.request): chunk for chunk in self.prefills}
        spans = []
        for request in self.requests:
            chunk = chunks.get(id(request))
            if chunk is None:
                spans.append((1, request.offset + self.index))
            else:
                spans.append((chunk.num_tokens, chunk.context))
        return spans

    def min_decode_context(self) -> int:
        """The smallest context of its decodes; 0 without any. Ask before planning another step."""
        chunks = {id(chunk.request) for chunk in self.prefills}
        return min(
            (request.offset + self.index for request in self.requests if id(request) not in chunks),
            default=0,
        )

    def sampled(self) -> list[Request]:
        """The requests that get a token from this step, in batch order."""
        if not self.prefills:
            return self.requests
        partial = {id(chunk.request) for chunk in self.prefills if not chunk.is_last}
        if not partial:
            return self.requests
        return [request for request in self.requests if id(request) not in partial]
