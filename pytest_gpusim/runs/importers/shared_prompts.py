"""What the prompts of an imported run share, from the requests as they were sent."""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_gpusim.workload.messages import parts_as_text
from pytest_gpusim.workload.prompts import Prompt
from pytest_gpusim.workload.tokenizer import LocalTokenizer

_WORD = re.compile(r"\s*\S+")


@dataclass(frozen=True)
class SentPrompt:
    """A prompt as it was sent: a text, or token ids.

    ``answered`` is the text up to the end of its answer, where the file has that, as a later turn
    that goes on from it begins.
    """

    text: str | None = None
    token_ids: tuple[int, ...] | None = None
    answered: str | None = None

    @classmethod
    def of_body(cls, body: Any, answer: Any = None) -> SentPrompt | None:
        """The prompt of an OpenAI request; None where it has none that can be compared.

        The messages of a chat are one text after another, with their roles, behind its tools.

        Args:
            body: The request's.
            answer: The text that came, where the file has it.
        """
        if not isinstance(body, Mapping):
            return None
        prompt = body.get("prompt")
        if isinstance(prompt, list) and len(prompt) == 1:
            prompt = prompt[0]
        if isinstance(prompt, str) and prompt:
            return cls(text=prompt, answered=prompt + answer if _is_text(answer) else None)
        if isinstance(prompt, list) and prompt and all(type(token) is int for token in prompt):
            return cls(token_ids=tuple(prompt))
        messages = body.get("messages")
        if isinstance(messages, list) and messages:
            tools = [json.dumps(body["tools"], sort_keys=True)] if body.get("tools") else []
            text = "\n".join([*tools, *map(_message, messages)])
            said = _message({"role": "assistant", "content": answer})
            return cls(text=text, answered=f"{text}\n{said}" if _is_text(answer) else None)
        return None


def _is_text(answer: Any) -> bool:
    return isinstance(answer, str) and bool(answer.strip())


def _message(message: Any) -> str:
    if not isinstance(message, Mapping):
        return ""
    content = parts_as_text(message.get("content"), pictures=True) or ""
    return f"{message.get('role', '')}: {content}"


def shared_prompts(
    prompts: Sequence[SentPrompt | None],
    lengths: Sequence[int],
    tokenizer: LocalTokenizer | None = None,
    *,
    before: Mapping[int, int] | None = None,
    produced: Sequence[int] = (),
) -> tuple[dict[int, Prompt], str] | None:
    """Prompts by request that begin with each other as the sent ones do, and how that was counted.

    Each prompt names the earlier one that it shares most with. Tokens are counted by the tokenizer,
    else by words where a text has as many of them as the server counted tokens, else in proportion
    to words.

    Args:
        prompts: As sent, None where unknown.
        lengths: Tokens of each, by the server or the tool.
        tokenizer: A `tokenizers.Tokenizer`.
        before: Of a conversation's later turns, the turn before; it may go on with its answer.
        produced: Tokens of each answer.

    Returns:
        None where no prompt shares anything, or none is known.
    """
    pieces = [_pieces(prompt, tokenizer) for prompt in prompts]
    exact = all(
        len(found) == length for found, length in zip(pieces, lengths, strict=True) if found
    )
    nodes: dict[tuple[int, Hashable], int] = {}
    owners: list[int] = []
    made: dict[int, Prompt] = {}
    shares = False
    for number, (found, length) in enumerate(zip(pieces, lengths, strict=True)):
        size = max(length, 1)
        node, depth, parent = -1, 0, None
        for piece in found:
            known = nodes.get((node, piece))
            if known is None:
                break
            node, depth, parent = known, depth + 1, owners[known]
        for piece in found[depth:]:
            nodes[node, piece] = node = len(owners)
            owners.append(number)
        tokens = 0
        if parent is not None:
            tokens = min(_tokens(depth, len(found), size), max(lengths[parent], 1))
        turn = (before or {}).get(number)
        if turn is not None:
            whole = _pieces(_answered(prompts[turn]), tokenizer)
            behind = len(whole) - len(pieces[turn])
            more = _alike(whole, found) - len(pieces[turn])
            taken = min(size, lengths[turn] + (more * produced[turn] // behind if more > 0 else 0))
            if more > 0 and taken > tokens:
                parent, tokens = turn, taken
        shares = shares or tokens > 0
        made[number] = (
            Prompt(number, seed=number, num_tokens=size, prefix_of=parent, prefix_tokens=tokens)
            if tokens
            else Prompt(number, seed=number, num_tokens=size)
        )
    if not shares:
        return None
    counted = "counted by the tokenizer" if tokenizer is not None else "of as many words as tokens"
    if not exact:
        counted = "in proportion to " + ("the tokenizer's tokens" if tokenizer else "words")
        counted += "" if tokenizer is not None else "; --tokenizer DIR counts them"
    return made, f"prompts begin with each other as their texts do, {counted}"


def _answered(prompt: SentPrompt | None) -> SentPrompt | None:
    known = prompt is not None and prompt.answered is not None
    return SentPrompt(text=prompt.answered) if prompt is not None and known else None


def _alike(one: Sequence[Hashable], other: Sequence[Hashable]) -> int:
    """With how many equal pieces both begin."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((n for n, (a, b) in pairs if a != b), min(len(one), len(other)))


def _tokens(depth: int, pieces: int, length: int) -> int:
    return min(length, depth if pieces == length else depth * length // pieces)


def _pieces(prompt: SentPrompt | None, tokenizer: LocalTokenizer | None) -> Sequence[Hashable]:
    if prompt is None:
        return ()
    if prompt.token_ids is not None:
        return prompt.token_ids
    text = prompt.text or ""
    if tokenizer is not None:
        return tuple(tokenizer.encode(text))
    return tuple(_WORD.findall(text.rstrip()))
