"""Prompts as a client sends them: a later turn goes on from what was really answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from pytest_gpusim.workload.trace import WorkloadRequest


class Contexts:
    """A workload's prompts while it is replayed.

    Args:
        prompts: Token ids, or texts, by prompt id.
        continues: As of `continuations`, for prompts of token ids; the answers are put in the place
            of what stands for them. Empty: prompts go out as they are.
    """

    def __init__(
        self,
        prompts: Mapping[int, list[int] | str] | Mapping[int, list[int]],
        continues: Mapping[int, tuple[int, int]],
    ) -> None:
        self._prompts = prompts
        self._continues = continues
        # By request id, prompt and answer so far of those that others go on from.
        self._said: dict[int, list[int]] = {earlier: [] for earlier, _ in continues.values()}

    def needs_answer(self, request_id: int) -> bool:
        """Whether its prompt is known only when the turn before is answered."""
        return request_id in self._continues

    def is_continued(self, request_id: int) -> bool:
        """Whether another one's prompt takes its answer."""
        return request_id in self._said

    def prompt_of(self, request: WorkloadRequest) -> list[int] | str:
        """Its prompt, of as many tokens as the workload says."""
        prompt = self._prompts[request.prompt_id]
        return prompt if isinstance(prompt, str) else self.ids_of(request)

    def ids_of(self, request: WorkloadRequest) -> list[int]:
        """The token ids of a prompt that is no text."""
        ids = cast("list[int]", self._prompts[request.prompt_id])
        if request.request_id in self._continues:
            earlier, num_tokens = self._continues[request.request_id]
            context = self._said[earlier][:num_tokens]
            ids = context + ids[len(context) :]
        if request.request_id in self._said:
            self._said[request.request_id] = list(ids)
        return ids

    def heard(self, request_id: int, token_ids: Sequence[int]) -> None:
        """Note tokens of an answer."""
        if request_id in self._said:
            self._said[request_id] += token_ids
