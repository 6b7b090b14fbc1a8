"""Local tokenizers, for workloads whose prompts are texts."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pytest_gpusim.errors import InputError, UsageError
from pytest_gpusim.progress import ticked


class LocalTokenizer:
    """A ``tokenizer.json``, whose own faults are the file's: it may load and then fail at a text.

    Args:
        path: The file.

    Raises:
        InputError: It is no tokenizer; from the methods, it fails at what is asked.
    """

    def __init__(self, path: Path) -> None:
        try:
            from tokenizers import Tokenizer
        except ImportError:
            raise UsageError("text prompts need the package 'tokenizers': pip install it") from None
        self._path = path
        self._tokenizer = self._done("not a tokenizer.json", Tokenizer.from_file, str(path))

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        """Token ids of a text, with the special tokens around it or without."""
        work = self._tokenizer.encode
        return list(self._done("fails at a text", work, text, add_special_tokens=special).ids)

    def decode(self, ids: Sequence[int], *, special: bool = False) -> str:
        """The text of token ids, special tokens shown or left out."""
        work = self._tokenizer.decode
        return str(self._done("fails at ids", work, list(ids), skip_special_tokens=not special))

    def vocabulary(self) -> list[str]:
        """Its tokens, sorted."""
        return sorted(self._tokenizer.get_vocab())

    def save(self, path: Path) -> None:
        """Write it as a file of its own."""
        self._tokenizer.save(str(path))

    def _done(self, problem: str, work: Callable[..., Any], *given: Any, **options: Any) -> Any:
        try:
            return work(*given, **options)
        # The library raises bare Exceptions, and BaseExceptions where its Rust code panics.
        except BaseException as error:
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            raise InputError(self._path, "", f"{problem}: {error}") from None


def load_tokenizer(reference: str | None) -> LocalTokenizer:
    """A local tokenizer (``tokenizer.json`` or its directory); never from a hub."""
    if reference is None:
        raise UsageError("text prompts need a tokenizer: give --tokenizer DIR")
    path = Path(reference)
    path = path / "tokenizer.json" if path.is_dir() else path
    if not path.is_file():
        raise InputError(path, "", "no such tokenizer", "give the directory of a tokenizer.json")
    return LocalTokenizer(path)


def exact_texts(reference: str, lengths: Sequence[int], seed: int) -> list[str]:
    """Texts that the tokenizer cuts into exactly so many tokens, drawn from ``seed``.

    Raises:
        UsageError: The tokenizer has no plain words, or finds no such text.
    """
    tokenizer = load_tokenizer(reference)
    words = [w for w in tokenizer.vocabulary() if w.isascii() and w.isalpha()]
    if not words:
        raise UsageError(f"--tokenizer {reference}: its vocabulary has no plain words")
    stream = random.Random(f"texts:{seed}")
    wanted = ticked(lengths, "make prompts", len(lengths), "prompts")
    return [_text_of(tokenizer, words, stream, length, reference) for length in wanted]


def _text_of(
    tokenizer: LocalTokenizer, words: list[str], stream: random.Random, length: int, reference: str
) -> str:
    encode = tokenizer.encode
    text: list[str] = []
    found = len(encode(""))
    for _ in range(20 * length + 100):
        if found == length:
            return " ".join(text)
        if found < length:
            text.extend(stream.choice(words) for _ in range(max(1, (length - found) // 2)))
        elif text:
            text.pop()
        else:
            break  # the tokenizer adds more special tokens than were asked for
        found = len(encode(" ".join(text)))
    raise UsageError(
        f"--tokenizer {reference}: found no text of exactly {length} tokens; use token ids"
    )
