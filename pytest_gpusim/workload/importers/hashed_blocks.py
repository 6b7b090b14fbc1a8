"""Prompts that a trace names by the hashes of their blocks: equal hashes, equal tokens."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from pytest_gpusim.errors import InputError
from pytest_gpusim.workload.importers.base import Trace
from pytest_gpusim.workload.prompts import Prompt


class HashedBlocks:
    """Makes prompts of one trace from lists of hashes, whole numbers or texts."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._texts: dict[Hashable, int] = {}

    def prompt(
        self, prompt_id: int, hashes: Any, num_tokens: int, block_tokens: int, where: str
    ) -> Prompt:
        """The prompt of ``num_tokens`` whose blocks of ``block_tokens`` have these hashes.

        Without hashes it shares nothing.

        Raises:
            InputError: They are no hashes, or not as many as the prompt has blocks.
        """
        path = self._trace.file
        if not hashes:
            return Prompt(prompt_id, seed=prompt_id, num_tokens=num_tokens)
        kinds = {type(each) for each in hashes} if isinstance(hashes, list) else set()
        if kinds not in ({int}, {str}):
            raise InputError(path, where, "expected whole numbers, or texts")
        if len(hashes) != -(-num_tokens // block_tokens):
            least, most = -(-num_tokens // len(hashes)), -(-num_tokens // max(len(hashes) - 1, 1))
            fits = f"{least} to {most - 1}" if most - 1 > least else str(least)
            raise InputError(
                path,
                where,
                f"has {len(hashes)} blocks of {block_tokens}, input_length is {num_tokens}",
                f"give --block-size N ({fits} would fit)",
            )
        # Texts count down from -1; whole numbers are kept.
        texts = self._texts
        ids = [h if type(h) is int else texts.setdefault(h, -1 - len(texts)) for h in hashes]
        return Prompt(prompt_id, block_hashes=tuple(ids), block_tokens=block_tokens)
