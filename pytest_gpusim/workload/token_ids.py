"""The token ids that an engine is given for a workload's prompts."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from pytest_gpusim.errors import InputError, UsageError
from pytest_gpusim.limits import REQUEST_TOKENS
from pytest_gpusim.workload.prompts import Prompt
from pytest_gpusim.workload.tokenizer import LocalTokenizer, load_tokenizer
from pytest_gpusim.workload.trace import PROMPTS, Workload


def token_ids(
    workload: Workload,
    vocab_size: int,
    *,
    salt: int = 0,
    only: Iterable[int] | None = None,
) -> dict[int, list[int]]:
    """Token ids of each prompt, by prompt id; the same on every machine.

    Args:
        workload: The workload.
        vocab_size: Ids are below it.
        salt: Another salt gives other ids with the same lengths and the same sharing (warm-up).
        only: Expand these prompts only.
    """
    lengths = {request.prompt_id: request.num_prefill_tokens for request in workload.requests}
    prompts = workload.prompts or {i: Prompt(i, seed=i, num_tokens=n) for i, n in lengths.items()}
    expander = _Expander(workload, prompts, lengths, vocab_size, salt)
    wanted = prompts if only is None else set(only)
    return {prompt_id: expander.ids(prompt_id) for prompt_id in sorted(wanted)}


class _Expander:
    """Token ids of one workload's prompts; blocks and ancestors are drawn once."""

    def __init__(
        self,
        workload: Workload,
        prompts: Mapping[int, Prompt],
        lengths: Mapping[int, int],
        vocab_size: int,
        salt: int,
    ) -> None:
        self._workload = workload
        self._prompts = prompts
        self._lengths = lengths
        self._vocab_size = vocab_size
        self._salt = salt
        self._done: dict[int, list[int]] = {}
        self._blocks: dict[tuple[int, int], list[int]] = {}
        self._tokenizer: LocalTokenizer | None = None

    def ids(self, prompt_id: int) -> list[int]:
        # Ancestors first, without recursion: a chat may be a chain of thousands of turns.
        chain = [prompt_id]
        while (parent := self._prompts[chain[-1]].prefix_of) is not None:
            if parent in self._done:
                break
            chain.append(parent)
        for each in reversed(chain):
            if each not in self._done:
                self._done[each] = self._expand(self._prompts[each])
        return self._done[prompt_id]

    def answer(self, prompt_id: int, num_tokens: int) -> list[int]:
        """The first tokens of what stands for the answer to a prompt that others go on from."""
        return self._draw(f"answer:{self._prompts[prompt_id].seed}", num_tokens)

    def _expand(self, prompt: Prompt) -> list[int]:
        # Lengths alone cost nothing; tokens do.
        length = self._lengths.get(prompt.prompt_id, prompt.num_tokens or 0)
        REQUEST_TOKENS.check(self._workload.path, f"prompt {prompt.prompt_id}", length)
        if prompt.token_ids is not None:
            return self._shifted(prompt.prompt_id, prompt.token_ids)
        if prompt.text is not None:
            if self._tokenizer is None:
                self._tokenizer = tokenizer_of(self._workload)
            ids = self._tokenizer.encode(prompt.text)
            expected = self._lengths.get(prompt.prompt_id, len(ids))
            if len(ids) != expected:
                raise InputError(
                    self._workload.path / PROMPTS,
                    f"prompt {prompt.prompt_id}",
                    f"has {len(ids)} tokens by this tokenizer, {expected} by the workload",
                    "give the tokenizer that it was made with",
                )
            return self._shifted(prompt.prompt_id, ids)
        if prompt.block_hashes is not None:
            ids = [token for block in prompt.block_hashes for token in self._block(prompt, block)]
            return ids[: self._lengths.get(prompt.prompt_id, len(ids))]
        assert prompt.num_tokens is not None
        prefix: list[int] = []
        if prompt.prefix_of is not None:
            answer = self.answer(prompt.prefix_of, prompt.tokens_of_answer(self._prompts))
            prefix = (self._done[prompt.prefix_of] + answer)[: prompt.prefix_tokens]
        return prefix + self._draw(f"seed:{prompt.seed}", prompt.num_tokens - len(prefix))

    def _block(self, prompt: Prompt, block: int) -> list[int]:
        size = prompt.block_tokens or 1
        if (block, size) not in self._blocks:
            self._blocks[block, size] = self._draw(f"block:{block}", size)
        return self._blocks[block, size]

    def _shifted(self, prompt_id: int, ids: Sequence[int]) -> list[int]:
        size = self._vocab_size
        if max(ids, default=0) >= size:
            raise UsageError(
                f"{self._workload.path}: prompt {prompt_id} has a token id outside the vocabulary "
                f"of {size}"
            )
        # A shift by the same number everywhere keeps what prompts share; never by 0 for a salt.
        shift = 1 + self._salt * 7919 % max(1, size - 1) if self._salt else 0
        return [(token + shift) % size for token in ids]

    def _draw(self, key: str, count: int) -> list[int]:
        # A string seeds random.Random through SHA-512: promised, and the same everywhere.
        draw = random.Random(f"{self._salt}:{key}").random
        return [int(draw() * self._vocab_size) for _ in range(count)]


def sharing_token_ids(workload: Workload, vocab_size: int) -> dict[int, list[int]]:
    """Token ids of those prompts that can share a prefix with another request.

    A prompt that is absent here shares nothing; so a long trace of unrelated prompts costs nothing.
    """
    sharing = _sharing_prompts(workload)
    return token_ids(workload, vocab_size, only=sharing) if sharing else {}


def sharing_sequences(workload: Workload, vocab_size: int) -> dict[int, list[int]]:
    """As `sharing_token_ids`; a prompt that later turns go on from has the answer after it."""
    found = sharing_token_ids(workload, vocab_size)
    prompts = workload.prompts or {}
    for prompt in prompts.values():
        if prompt.prefix_of is not None and prompt.tokens_of_answer(prompts):
            answered = found[prompt.prefix_of]
            size = max(len(answered), prompt.prefix_tokens or 0)
            found[prompt.prefix_of] = answered + found[prompt.prompt_id][len(answered) : size]
    return found


def continuations(workload: Workload) -> dict[int, tuple[int, int]]:
    """Requests whose prompt goes on with the answer to an earlier turn of their session.

    By request id, (the earlier turn's request id, how many tokens of its prompt and answer).
    """
    prompts = workload.prompts or {}
    asked: dict[tuple[int, int], int] = {}
    found: dict[int, tuple[int, int]] = {}
    for request in workload.requests:
        turn = workload.sessions.get(request.request_id)
        prompt = prompts.get(request.prompt_id)
        if turn is None or prompt is None:
            continue
        if prompt.prefix_of is not None and prompt.tokens_of_answer(prompts):
            earlier = asked[turn.session_id, prompt.prefix_of]
            found[request.request_id] = (earlier, prompt.prefix_tokens or 0)
        asked[turn.session_id, request.prompt_id] = request.request_id
    return found


def _sharing_prompts(workload: Workload) -> list[int]:
    uses = Counter(request.prompt_id for request in workload.requests)
    if workload.prompts is None:
        return [prompt_id for prompt_id, count in uses.items() if count > 1]
    seeds = Counter(p.seed for p in workload.prompts.values() if p.seed is not None)
    parents = {p.prefix_of for p in workload.prompts.values()}
    return [
        prompt.prompt_id
        for prompt in workload.prompts.values()
        if prompt.seed is None
        or prompt.prefix_of is not None
        or prompt.prompt_id in parents
        or uses[prompt.prompt_id] > 1
        or seeds[prompt.seed] > 1
    ]


def tokenizer_of(workload: Workload) -> LocalTokenizer:
    """The tokenizer of a workload's text prompts; a relative place may be one inside of it."""
    reference = workload.meta.get("tokenizer_ref")
    if reference is not None and (workload.path / reference).exists():
        reference = str(workload.path / reference)
    return load_tokenizer(reference)
