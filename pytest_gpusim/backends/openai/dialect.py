"""How an OpenAI-compatible server wants to be asked, found out by asking it for a few tokens."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp

from pytest_gpusim.backends.openai.client import complete
from pytest_gpusim.backends.openai.prompts import PromptForm
from pytest_gpusim.errors import EngineError

_PROBE_TOKENS = 8
# How servers refuse what they do not know; some fail instead of saying so.
_REFUSALS = ("HTTP400", "HTTP422", "HTTP500", "HTTP501", "ErrorInStream", "BrokenStream")


@dataclass(frozen=True)
class Dialect:
    """How a server is asked: in which form prompts go, and which extras it accepts."""

    prompt: PromptForm = "token_ids"
    exact_length: tuple[str, ...] = ("ignore_eos",)
    running_usage: bool = True

    def payload(
        self, model: str, prompt: Sequence[int] | str, tokens: int, *, tell_ids: bool = False
    ) -> dict[str, Any]:
        """The JSON body that asks for ``tokens`` output tokens, and to be told their ids."""
        body: dict[str, Any] = {
            "model": model,
            "prompt": prompt,
            "max_tokens": tokens,
            "temperature": 0.0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if "ignore_eos" in self.exact_length:
            body["ignore_eos"] = True
        if "min_tokens" in self.exact_length:
            body["min_tokens"] = tokens
        if self.running_usage:
            body["stream_options"]["continuous_usage_stats"] = True
        if tell_ids:
            body["return_token_ids"] = True
        return body


# What is given up, step by step, where a server refuses or ignores it: (running usage, exact
# length). min_tokens costs vLLM a pass over the logits, which a run without it does not have.
_LADDER: tuple[tuple[bool, tuple[str, ...]], ...] = (
    (True, ("ignore_eos",)),
    (True, ("min_tokens",)),
    (False, ("ignore_eos",)),
    (False, ("min_tokens",)),
    (True, ()),
    (False, ()),
)


async def agree(
    session: aiohttp.ClientSession,
    url: str,
    model: str,
    probes: Mapping[PromptForm, Sequence[int] | str],
    *,
    timeout_s: float,
    scrub: Callable[[str], str] = str,
) -> tuple[Dialect, bool]:
    """Find how the server can be asked.

    Args:
        session: Open, with its headers set.
        url: The completions endpoint.
        model: The served model's name.
        probes: A short prompt in each form that may be used, the preferred one first.
        timeout_s: For each try.
        scrub: Applied to error messages.

    Returns:
        The richest dialect that it accepts, and whether it gave exactly the tokens asked for.

    Raises:
        EngineError: It accepts none, or fails.
    """
    refusals: dict[PromptForm, str] = {}
    for form, prompt in probes.items():
        accepted: Dialect | None = None
        for running_usage, exact_length in _LADDER:
            if accepted is not None and not exact_length:
                break  # it ignores whatever asks for exact lengths
            dialect = Dialect(form, exact_length, running_usage)
            body = json.dumps(dialect.payload(model, prompt, _PROBE_TOKENS)).encode()
            answer = await complete(session, url, body, timeout_s=timeout_s, scrub=scrub)
            if answer.error is not None:
                kind, message = answer.error
                if kind not in _REFUSALS:
                    raise EngineError(f"{url}: {kind}: {message}")
                refusals.setdefault(form, f"{kind}: {message}")
            elif answer.num_tokens == _PROBE_TOKENS:
                return dialect, True
            else:
                accepted = accepted or dialect
        if accepted is not None:
            return accepted, False
    said = " and ".join(f"{form} ({refusal})" for form, refusal in refusals.items())
    fix = "" if "text" in probes else "; to send text, give --param tokenizer=FILE"
    raise EngineError(f"{url} refuses prompts of {said}{fix}")


async def tells_token_ids(
    session: aiohttp.ClientSession,
    url: str,
    model: str,
    dialect: Dialect,
    probe: Sequence[int] | str,
    *,
    timeout_s: float,
) -> bool:
    """Whether the server tells the ids of the tokens that it generates (vLLM does)."""
    body = dialect.payload(model, probe, _PROBE_TOKENS, tell_ids=True)
    answer = await complete(session, url, json.dumps(body).encode(), timeout_s=timeout_s)
    return answer.error is None and len(answer.token_ids) == answer.num_tokens
