"""What a chat message says: a text, or a list of parts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_TEXTS = {
    "text": "text",
    "input_text": "text",
    "output_text": "text",
    "refusal": "refusal",
    "thinking": "thinking",
}
"""The kinds of parts that are texts, and the key of each (vLLM's ``renderers/chat_utils.py``)."""


def parts_as_text(content: Any, *, pictures: bool = False) -> str | None:
    """The texts of ``content``'s parts, a line each as vLLM joins them.

    Args:
        content: A text, or a list of texts and of ``{"type": "text", "text": …}``.
        pictures: Whether a part of another kind, such as a picture, stands for itself as a word.

    Returns:
        None where it is neither, or has a part that is no text.
    """
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return None
    texts: list[str] = []
    for part in content:
        key = _TEXTS.get(str(part.get("type", "text"))) if isinstance(part, Mapping) else None
        text = part if isinstance(part, str) else part.get(key) if key is not None else None
        if not isinstance(text, str):
            if not pictures:
                return None
            text = "".join(json.dumps(part, sort_keys=True).split())
        texts.append(text)
    return "\n".join(texts)
