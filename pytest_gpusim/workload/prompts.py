"""Prompts: what they are made of (``prompts.jsonl``)."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_gpusim.errors import InputError
from pytest_gpusim.json_documents import parse_json, plain_json
from pytest_gpusim.limits import DOCUMENT_BYTES
from pytest_gpusim.texts import lines_within, open_text


@dataclass(frozen=True)
class Prompt:
    """One prompt; exactly one of the four forms is set.

    ``seed`` with ``num_tokens``: ids drawn from the seed, the first ``prefix_tokens`` of them taken
    from prompt ``prefix_of``; where those are more than that prompt has, it goes on with the answer
    to it, as the next turn of a conversation does. ``block_hashes`` with ``block_tokens``:
    Mooncake's content hashes, of which the last block may be partly filled (the request says how
    far).
    """

    prompt_id: int
    text: str | None = None
    token_ids: tuple[int, ...] | None = None
    block_hashes: tuple[int, ...] | None = None
    block_tokens: int | None = None
    seed: int | None = None
    num_tokens: int | None = None
    prefix_of: int | None = None
    prefix_tokens: int | None = None

    def length(self) -> int | None:
        """Tokens, where the prompt itself tells (text needs a tokenizer, blocks the request)."""
        if self.token_ids is not None:
            return len(self.token_ids)
        return self.num_tokens

    def size(self) -> str:
        """Its length in words, for messages."""
        if self.block_hashes is not None and self.block_tokens is not None:
            return f"at most {len(self.block_hashes) * self.block_tokens}"
        return str(self.length())

    def fits(self, num_prefill_tokens: int) -> bool:
        """Whether a request with this prompt can have so many tokens."""
        if self.block_hashes is not None and self.block_tokens is not None:
            return num_prefill_tokens <= len(self.block_hashes) * self.block_tokens
        return self.length() in (None, num_prefill_tokens)

    def tokens_of_answer(self, prompts: Mapping[int, Prompt]) -> int:
        """How many of its prefix's tokens are of the answer to prompt ``prefix_of``."""
        if self.prefix_of is None or self.prefix_tokens is None:
            return 0
        return max(0, self.prefix_tokens - (prompts[self.prefix_of].num_tokens or 0))

    def to_json(self) -> dict[str, Any]:
        """The set fields only."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in vars(self).items()
            if value is not None
        }


_MOST_ID = 2**31
"""Token ids are int32 in engines and tokenizers."""
_FORMS = {"text", "token_ids", "block_hashes", "seed"}
_FIELDS = set(Prompt.__dataclass_fields__)


def write_prompts(path: Path, prompts: Mapping[int, Prompt]) -> None:
    """Write ``prompts.jsonl``, in order of prompt id."""
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        for prompt_id in sorted(prompts):
            document = prompts[prompt_id].to_json()
            if document["prompt_id"] != prompt_id or len(_FORMS & document.keys()) != 1:
                raise ValueError(f"prompt {prompt_id} has not exactly one of {sorted(_FORMS)}")
            stream.write(json.dumps(document, separators=(",", ":")) + "\n")


def read_prompts(path: Path) -> dict[int, Prompt]:
    """Read ``prompts.jsonl``; raises `InputError` with line and field."""
    prompts: dict[int, Prompt] = {}
    with open_text(path) as stream:
        for number, line in enumerate(lines_within(path, stream, DOCUMENT_BYTES), start=1):
            if line.strip():
                prompt = _read_prompt(path, f"line {number}", line)
                if prompt.prompt_id in prompts:
                    raise InputError(
                        path, f"line {number}, prompt_id", f"{prompt.prompt_id} comes twice"
                    )
                prompts[prompt.prompt_id] = prompt
    check_prefixes(path, prompts)
    return prompts


def check_prefixes(path: Path, prompts: Mapping[int, Prompt]) -> None:
    """Raise `InputError`, naming ``path``, where a prompt begins like none that it could."""
    for prompt in prompts.values():
        _check_prefix(path, prompt, prompts)


def _read_prompt(path: Path, where: str, line: str) -> Prompt:
    document = parse_json(line, path, where)
    if not isinstance(document, dict):
        raise InputError(path, where, "expected a JSON object")
    forms = _FORMS & document.keys()
    if len(forms) != 1:
        raise InputError(path, where, f"expected exactly one of {', '.join(sorted(_FORMS))}")
    values: dict[str, Any] = {}
    for key in _FIELDS & document.keys():
        value = document[key]
        if key == "text":
            good = isinstance(value, str) and plain_json(value) == value
        elif key in ("token_ids", "block_hashes"):
            good = isinstance(value, list) and all(
                type(item) is int and (0 <= item < _MOST_ID or key == "block_hashes")
                for item in value
            )
            value = tuple(value) if good else value
        else:
            good = type(value) is int and (value >= 0 or key == "seed")
        if not good:
            raise InputError(path, f"{where}, {key}", f"is not a valid {key}")
        values[key] = value
    if "prompt_id" not in values:
        raise InputError(path, f"{where}, prompt_id", "is missing")
    for form, companion in (("seed", "num_tokens"), ("block_hashes", "block_tokens")):
        if form in forms and not values.get(companion):
            raise InputError(path, f"{where}, {companion}", f"is needed with {form}")
    return Prompt(**values)


def _check_prefix(path: Path, prompt: Prompt, prompts: Mapping[int, Prompt]) -> None:
    if prompt.prefix_of is None and prompt.prefix_tokens is None:
        return
    where = f"prompt_id {prompt.prompt_id}"
    parent = prompts.get(prompt.prefix_of) if prompt.prefix_of is not None else None
    if parent is None or prompt.prefix_tokens is None or prompt.num_tokens is None:
        raise InputError(
            path, where, "prefix_of and prefix_tokens go together, with the id of another prompt"
        )
    # A parent that comes later could close a circle.
    if parent.prompt_id >= prompt.prompt_id or parent.num_tokens is None:
        raise InputError(path, where, "prefix_of must name an earlier prompt made from a seed")
    if prompt.prefix_tokens > prompt.num_tokens:
        raise InputError(path, where, "prefix_tokens is longer than the prompt")


def unique_prompts(lengths: Sequence[int], seed: int) -> dict[int, Prompt]:
    """Prompts of the given lengths that share nothing, drawn from ``seed``."""
    stream = random.Random(f"prompts:{seed}")
    return {
        number: Prompt(number, seed=stream.getrandbits(48), num_tokens=length)
        for number, length in enumerate(lengths)
    }
