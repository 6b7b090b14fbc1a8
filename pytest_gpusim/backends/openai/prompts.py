"""The prompts of a workload in the form that a server takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from pytest_gpusim.errors import UsageError
from pytest_gpusim.workload import Workload
from pytest_gpusim.workload.token_ids import token_ids
from pytest_gpusim.workload.tokenizer import load_tokenizer

PromptForm = Literal["token_ids", "text"]
PROBES: Mapping[PromptForm, Sequence[int] | str] = {
    "token_ids": [3, 4, 5, 6],
    # None of the workload's own: it would lie in the prefix cache when its turn comes.
    "text": "one two three four",
}


class Prompts:
    """A workload's prompts, expanded on demand.

    Args:
        workload: The workload.
        vocab_size: Token ids are below it.
        tokenizer: A local one; by default that of the workload, where it lies on this machine.

    Raises:
        UsageError: Some prompts are text, others not, and no tokenizer brings them together.
    """

    def __init__(self, workload: Workload, vocab_size: int, tokenizer: str | None) -> None:
        named = workload.meta.get("tokenizer_ref")
        if tokenizer is None and isinstance(named, str) and Path(named).exists():
            tokenizer = named
        self._tokenizer = tokenizer
        self._workload = replace(workload, meta={**workload.meta, "tokenizer_ref": tokenizer})
        self._vocab_size = vocab_size
        texts = {p.prompt_id: p.text for p in (workload.prompts or {}).values()}
        known = {prompt_id: text for prompt_id, text in texts.items() if text is not None}
        self._texts = known if known and len(known) == len(texts) else None
        self.forms: list[PromptForm] = []
        if tokenizer is not None or not known:
            self.forms.append("token_ids")
        if tokenizer is not None or self._texts is not None:
            self.forms.append("text")
        if not self.forms:
            raise UsageError(
                f"{workload.path}: some prompts are text, others not: give --param tokenizer=FILE"
            )

    def renewable(self, form: PromptForm) -> bool:
        """Whether another salt gives other prompts."""
        return form == "token_ids" or self._tokenizer is not None

    def expanded(self, form: PromptForm, salt: int) -> Mapping[int, list[int] | str]:
        """The prompts by id; another salt gives others, alike in length and sharing, if any can."""
        if form == "token_ids":
            return token_ids(self._workload, self._vocab_size, salt=salt)
        if self._texts is not None and (salt == 0 or self._tokenizer is None):
            return self._texts
        tokenizer = load_tokenizer(self._tokenizer)
        ids = token_ids(self._workload, self._vocab_size, salt=salt)
        return {prompt_id: tokenizer.decode(tokens) for prompt_id, tokens in ids.items()}
