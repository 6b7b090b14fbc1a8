"""Local tokenizers, for workloads whose prompts are texts."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytest_gpusim.errors import InputError, UsageError
from pytest_gpusim.progress import ticked


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


def exact_texts(reference: str, lengths: Sequence[int], seed: int) -> list[str]:
    """Texts that the tokenizer cuts into exactly so many tokens, drawn from ``seed``.

    Raises:
        UsageError: The tokenizer has no plain words, or finds no such text.
    """
    tokenizer = load_tokenizer(reference)
    words = sorted(w for w in tokenizer.get_vocab() if w.isascii() and w.isalpha())
    if not words:
        raise UsageError(f"--tokenizer {reference}: its vocabulary has no plain words")
    stream = random.Random(f"texts:{seed}")
    wanted = ticked(lengths, "make prompts", len(lengths), "prompts")
    return [_text_of(tokenizer, words, stream, length, reference) for length in wanted]


def _text_of(
    tokenizer: Any, words: list[str], stream: random.Random, length: int, reference: str
) -> str:
    encode = tokenizer.encode
    text: list[str] = []
    found = len(encode("").ids)
    for _ in range(20 * length + 100):
        if found == length:
            return " ".join(text)
        if found < length:
            text.extend(stream.choice(words) for _ in range(max(1, (length - found) // 2)))
        elif text:
            text.pop()
        else:
            break  # the tokenizer adds more special tokens than were asked for
        found = len(encode(" ".join(text)).ids)
    raise UsageError(
        f"--tokenizer {reference}: found no text of exactly {length} tokens; use token ids"
    )
