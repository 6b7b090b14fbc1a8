"""Prompts: what they are made of, and the token ids that an engine is given for them."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_gpusim.artifacts import parse_json, plain_json
from pytest_gpusim.errors import InputError, UsageError
from pytest_gpusim.tables import open_text

if TYPE_CHECKING:
    from pytest_gpusim.workload.trace import Workload


@dataclass(frozen=True)
class Prompt:
    """One prompt; exactly one of the four forms is set.

    ``seed`` with ``num_tokens``: ids drawn from the seed, the first ``prefix_tokens`` of them taken
    from prompt ``prefix_of``. ``block_hashes`` with ``block_tokens``: Mooncake's content hashes, of
    which the last block may be partly filled (the request says how far).
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

    def to_json(self) -> dict[str, Any]:
        """The set fields only."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in vars(self).items()
            if value is not None
        }


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
        for number, line in enumerate(stream, start=1):
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
                type(item) is int and (item >= 0 or key == "block_hashes") for item in value
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
    if prompt.prefix_tokens > min(prompt.num_tokens, parent.num_tokens):
        raise InputError(path, where, "prefix_tokens is longer than one of the two prompts")


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
        self._tokenizer: Any = None

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

    def _expand(self, prompt: Prompt) -> list[int]:
        if prompt.token_ids is not None:
            return self._shifted(prompt.prompt_id, prompt.token_ids)
        if prompt.text is not None:
            if self._tokenizer is None:
                self._tokenizer = tokenizer_of(self._workload)
            ids = self._tokenizer.encode(prompt.text).ids
            expected = self._lengths.get(prompt.prompt_id, len(ids))
            if len(ids) != expected:
                raise InputError(
                    self._workload.path / "prompts.jsonl",
                    f"prompt {prompt.prompt_id}",
                    f"has {len(ids)} tokens by this tokenizer, {expected} by the workload",
                    "give the tokenizer that it was made with",
                )
            return self._shifted(prompt.prompt_id, ids)
        if prompt.block_hashes is not None:
            ids = [token for block in prompt.block_hashes for token in self._block(prompt, block)]
            return ids[: self._lengths.get(prompt.prompt_id, len(ids))]
        assert prompt.num_tokens is not None
        shared = prompt.prefix_tokens or 0
        prefix = self._done[prompt.prefix_of][:shared] if prompt.prefix_of is not None else []
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
    uses = Counter(request.prompt_id for request in workload.requests)
    if workload.prompts is None:
        again = [prompt_id for prompt_id, count in uses.items() if count > 1]
        return token_ids(workload, vocab_size, only=again) if again else {}
    seeds = Counter(p.seed for p in workload.prompts.values() if p.seed is not None)
    parents = {p.prefix_of for p in workload.prompts.values()}
    sharing = [
        prompt.prompt_id
        for prompt in workload.prompts.values()
        if prompt.seed is None
        or prompt.prefix_of is not None
        or prompt.prompt_id in parents
        or uses[prompt.prompt_id] > 1
        or seeds[prompt.seed] > 1
    ]
    return token_ids(workload, vocab_size, only=sharing) if sharing else {}


def unique_prompts(lengths: Sequence[int], seed: int) -> dict[int, Prompt]:
    """Prompts of the given lengths that share nothing, drawn from ``seed``."""
    stream = random.Random(f"prompts:{seed}")
    return {
        number: Prompt(number, seed=stream.getrandbits(48), num_tokens=length)
        for number, length in enumerate(lengths)
    }


def tokenizer_of(workload: Workload) -> Any:
    """The tokenizer of a workload's text prompts; a relative place may be one inside of it."""
    reference = workload.meta.get("tokenizer_ref")
    if reference is not None and (workload.path / reference).exists():
        reference = str(workload.path / reference)
    return load_tokenizer(reference)


def load_tokenizer(reference: str | None) -> Any:
    """A local tokenizer (``tokenizer.json`` or its directory); never from a hub."""
    if reference is None:
        raise UsageError("text prompts need a tokenizer: give --tokenizer DIR")
    path = Path(reference)
    path = path / "tokenizer.json" if path.is_dir() else path
    if not path.is_file():
        raise InputError(path, "", "no such tokenizer", "give the directory of a tokenizer.json")
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise UsageError("text prompts need the package 'tokenizers': pip install it") from None
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # what the library raises for a file that is no tokenizer
        raise InputError(path, "", f"not a tokenizer.json: {error}") from None
