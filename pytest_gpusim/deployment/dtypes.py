"""Names of number formats, however each tool spells them."""

from __future__ import annotations

PLAIN_DTYPES = ("float32", "float16", "bfloat16")
"""Dtypes that are no quantization."""
_WORDS = {
    "bf16": "bfloat16",
    "fp16": "float16",
    "half": "float16",
    "fp32": "float32",
    "float": "float32",
}


def plain_dtype(name: str) -> str:
    """PyTorch's word for ``torch.bfloat16``, ``bf16``, ``half``, …; else ``name`` itself."""
    bare = name.strip().lower().removeprefix("torch.")
    return _WORDS.get(bare, bare)
