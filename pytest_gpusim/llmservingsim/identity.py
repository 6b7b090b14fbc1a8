"""Whether two names can be of one model, GPU or dtype, however each tool spells it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from pytest_gpusim.deployment.dtypes import PLAIN_DTYPES, plain_dtype

_QUANTIZED = re.compile(r"fp8|fp4|int8|int4|w8a8|w4a16|awq|gptq|mxfp4|nvfp4")
_FAMILY = re.compile(
    r"(llama|qwen|mistral|mixtral|gemma|phi|yi|falcon|deepseek|gpt|opt|granite|glm|internlm)"
    r"[-_ ]?v?(\d+(?:\.\d+)?(?![\d.]*[bm]\b))?"
)
_SIZE = re.compile(r"(?<![\d.])(\d+(?:\.\d+)?)([bm])(?![a-z])")
_MAKERS = re.compile(r"nvidia|geforce|tesla|quadro|rtx|gtx|pro|titan|amd|instinct|radeon")
_MEMORY = re.compile(r"(?<!\d)\d+\s*gi?b")
_CHIP = re.compile(r"[a-z]{0,2}\d{2,4}")
_LONGEST = 200


def models_contradict(one: str | None, other: str | None) -> bool:
    """Whether two model names state another family, its generation, or another size.

    Organisation, case and endings such as ``-Instruct`` do not count; a name that says neither
    (a path, an alias) contradicts nothing.
    """
    names = [_name(name).rstrip("/").rpartition("/")[2] for name in (one, other)]
    sizes = [set(_SIZE.findall(name)) for name in names]
    if all(sizes) and not sizes[0] & sizes[1]:
        return True
    first, second = (_FAMILY.search(name) for name in names)
    if first is None or second is None:
        return False
    if first[1] != second[1]:
        return True
    generations = [float(match[2]) if match[2] else None for match in (first, second)]
    return None not in generations and int(generations[0] or 0) != int(generations[1] or 0)


def devices_contradict(ones: Iterable[str | None], others: Iterable[str | None]) -> bool:
    """Whether two sides, each with one or more names of a GPU, have no chip in common."""
    chips = [{chip for name in names for chip in _chips(name)} for names in (ones, others)]
    return all(chips) and not chips[0] & chips[1]


def _chips(name: str | None) -> set[str]:
    bare = _MEMORY.sub(" ", _name(name))
    words = re.sub(r"[^a-z0-9]+", " ", _MAKERS.sub(" ", bare)).split()
    return {found[0] for word in words if (found := _CHIP.match(word))}


def _name(name: str | None) -> str:
    """A name as it is looked at; nothing beyond a line's length is one."""
    return str(name or "")[:_LONGEST].lower()


def dtypes_contradict(profiled: str | None, used: str | None) -> bool:
    """Whether a profile's dtype or variant (``bf16``, ``bf16-kvfp8``, ``fp8``) is not ``used``."""
    stated = plain_dtype(str(profiled or ""))
    wanted = known_dtype(used)
    if wanted is None or not stated:
        return False
    known = known_dtype(stated)
    return known != wanted if known else bool(_QUANTIZED.match(stated))


def known_dtype(name: str | None) -> str | None:
    """A dtype in PyTorch's words; of a variant its first part. None where it is not known."""
    found = plain_dtype(re.split(r"[-_+ ]", str(name or ""))[0])
    return found if found in PLAIN_DTYPES else None


def contradicting_sizes(overrides: Mapping[str, Any], sizes: Mapping[str, int]) -> list[str]:
    """Keys of a profiled engine's ``hf_overrides`` that no share of the model's ``sizes`` gives.

    A profiler on one GPU divides them by the tensor-parallel degree.
    """
    return [
        key
        for key, full in sizes.items()
        if type(value := overrides.get(key)) is int and value > 0 and full % value
    ]
