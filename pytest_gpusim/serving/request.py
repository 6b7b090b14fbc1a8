"""A request as the scheduler sees it: its tokens so far, its KV blocks, its place."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from enum import IntEnum

_OPEN = -1  # end of a run of tokens that goes on


class RequestState(IntEnum):
    """Where a request stands (``vllm/v1/request.py: RequestStatus`` splits RUNNING less finely)."""

    WAITING = 0  # in the queue, new or preempted
    PREFILL = 1  # running, its known tokens are not all computed
    DECODE = 2  # running, one token a step
    DRAINING = 3  # running, its last token is planned and not yet delivered
    FINISHED = 4


class Request:
    """One request in a `Scheduler`; made by `Scheduler.add_request`, read-only for its users.

    Attributes:
        request_id: The caller's name for it.
        num_prompt_tokens: Tokens of the prompt.
        num_output_tokens: Tokens that it will produce: ``max_tokens``, cut by ``max_model_len``.
        num_cached_tokens: Prompt tokens that the prefix cache had when it was first admitted;
            -1 before.
        num_preemptions: How often it lost its blocks.
        first_step: Index of the step that first scheduled it; -1 before.
        state: Where it stands.
    """

    __slots__ = (
        "blocks",
        "computed",
        "due",
        "first_step",
        "keys",
        "keys_continue",
        "last_computed",
        "num_cached_tokens",
        "num_output_tokens",
        "num_preemptions",
        "num_prompt_tokens",
        "num_published",
        "offset",
        "request_id",
        "seat",
        "state",
        "target",
        "token_runs",
    )

    def __init__(
        self,
        request_id: Hashable,
        num_prompt_tokens: int,
        num_output_tokens: int,
        keys: list[Hashable],
        *,
        keys_continue: bool,
    ) -> None:
        self.request_id = request_id
        self.num_prompt_tokens = num_prompt_tokens
        self.num_output_tokens = num_output_tokens
        self.num_cached_tokens = -1
        self.num_preemptions = 0
        self.first_step = -1
        self.state = RequestState.WAITING
        # The scheduler's bookkeeping. A decoding request is computed up to offset + the current
        # step's index, so that a step in which nothing else happens to it costs nothing.
        self.computed = 0
        self.offset = 0
        self.target = num_prompt_tokens  # known tokens, all to be computed before the next one
        self.last_computed = num_prompt_tokens + num_output_tokens - 1
        self.due = -1  # the step in which a decoding request wants attention next
        self.seat = -1  # its place among the running ones, ascending
        self.blocks: list[int] = []
        self.keys = keys
        self.keys_continue = keys_continue  # whether keys go on over the output
        self.num_published = 0
        self.token_runs: list[list[int]] = []

    def start_tokens(self, step: int) -> None:
        """Note that each step from ``step`` on yields a token."""
        self.token_runs.append([step, _OPEN])

    def end_tokens(self, step: int) -> None:
        """Note that step ``step`` and those after it yield no token."""
        run = self.token_runs[-1]
        if run[0] == step:
            self.token_runs.pop()
        else:
            run[1] = step

    def token_spans(self) -> Iterator[tuple[int, int]]:
        """Ranges of the steps that produced its tokens, one token a step, the first token's first.

        Steps that are planned but not yet completed are included; for a request that still
        decodes, the last run is open and left out from where it began.
        """
        return ((first, end) for first, end in self.token_runs if end != _OPEN)

    def token_steps(self) -> Iterator[int]:
        """Indices of the steps of `token_spans`."""
        for first, end in self.token_spans():
            yield from range(first, end)

    def __repr__(self) -> str:
        return (
            f"<Request {self.request_id!r} {self.state.name} prompt={self.num_prompt_tokens} "
            f"output={self.num_output_tokens}>"
        )
