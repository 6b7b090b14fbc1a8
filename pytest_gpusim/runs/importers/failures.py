"""Errors of requests in other tools' files: what kind they are, and whether they were refusals."""

from __future__ import annotations

import re

_REFUSAL = re.compile(
    r"(?<!\d)(400|401|403|404|405|413|422|429|503)(?!\d|\s*m?s(ec|\b))"
    r"|bad request|unprocessable|too large|too many requests|service unavailable"
    r"|context length|max_model_len|maximum model length",
    re.IGNORECASE,
)


def is_refusal(*said: object) -> bool:
    """Whether an error's code or words are those of a request that never reached the engine."""
    return any(_REFUSAL.search(str(text)) for text in said if text is not None)


def describe_error(text: str) -> tuple[str, str]:
    """(type, message) of an error text, which may be a Python traceback or a class and message."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    last = lines[-1] if lines else "unknown error"
    name, colon, message = last.partition(":")
    short = name.rsplit(".", 1)[-1]
    if colon and short.isidentifier():
        return short, message.strip() or short
    return "error", last
