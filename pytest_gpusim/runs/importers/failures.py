"""Errors of requests in other tools' files: what kind they are, and whether they were refusals."""

from __future__ import annotations

import re

_REFUSAL = re.compile(
    r"(?<!\d)(400|401|403|404|405|413|422|429|503)(?!\d|\s*m?s(ec|\b))"
    r"|bad request|unprocessable|too large|too many requests|service unavailable"
    r"|context length|max_model_len|maximum model length",
    re.IGNORECASE,
)

_FINE = frozenset((
    "ok", "okay", "success", "successful", "succeeded", "complete", "completed", "finished", "done",
    "passed", "pass", "true", "t", "yes", "y", "1", "stop", "stopped", "length", "length_capped",
    "eos", "eos_token", "tool_calls", "finished_stopped", "finished_length_capped",
))  # fmt: skip
"""Words for a request that was served, the reasons of servers for its end among them."""
_FAILED = re.compile(
    r"false|f|no|n|0|none|.*(error|exception|fail|time.?out|timed.?out|cancel|abort|reject|refus"
    r"|incomplete|unfinished|drop|kill|denied|unavailable|overload|too many|bad request|disconnect"
    r"|interrupt|skipped|ignored).*",
    re.DOTALL,
)
_CODE = re.compile(r"(?:http\D*)?([1-5]\d\d)(?:\.0)?(?:\D.*)?", re.DOTALL)


def has_failed(status: str) -> bool | None:
    """Whether a status, in lower case, is a failed request's; None for an unknown word."""
    status = status.strip()
    code = _CODE.fullmatch(status)
    if code is not None:
        return not code[1].startswith("2")
    status = status.removesuffix(".0")
    if status in _FINE:
        return False
    return True if _FAILED.fullmatch(status) else None


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
