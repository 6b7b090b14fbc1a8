"""Local tokenizers, for workloads whose prompts are texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pytest_gpusim.errors import InputError, UsageError


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
