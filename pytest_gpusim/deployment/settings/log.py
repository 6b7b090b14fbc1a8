"""Settings from the lines that vLLM logs at its start.

The wording is that of ``vllm/entrypoints/utils.py`` ("non-default args"), ``v1/engine/core.py``
(the configuration), ``config/scheduler.py`` (chunked prefill), ``config/vllm.py`` (asynchronous
scheduling), ``platforms/interface.py`` (block size) and ``v1/core/kv_cache_utils.py`` (KV cache) in
0.7 to 0.32.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pytest_gpusim.deployment.settings.defaults import Deployment, is_first_engine, release_of
from pytest_gpusim.deployment.settings.lookup import default, find
from pytest_gpusim.errors import InputError, UsageError
from pytest_gpusim.texts import open_text, python_literal, whole_number

_MOST_CHARACTERS = 1 << 26
_LONGEST_LINE = 1 << 17
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_VERSION = re.compile(r"vLLM(?: API server)? version v?(\d+\.\d+\S*)")
_ARGS = re.compile(r"non-default args: (\{.*\})")
_ALL_ARGS = re.compile(r"\bargs: Namespace\((.*)\)")
"""Up to 0.8, those that nobody gave among them."""
_CONFIG = re.compile(r"Initializing a V1 LLM engine \(v([^)]+)\) with config: (.*)")
_FIRST = re.compile(r"Initializing an? (?:V0 )?LLM engine \(v([^)]+)\)")
"""vLLM's first engine, up to 0.10 (``engine/llm_engine.py``)."""
_PREFILL = re.compile(r"Chunked prefill is enabled with max_num_batched_tokens=(\d+)")
_ASYNC = re.compile(r"Asynchronous scheduling is (enabled|disabled)")
_BLOCK = re.compile(r"[Ss]etting (?:kv cache|attention) block size to (\d+)")
_BLOCKS = re.compile(r"# GPU blocks: (\d+)$")
"""In 0.7; the first engine's line goes on with the CPU's blocks."""
_SIZE = re.compile(r"\b(GPU|CPU) KV cache size: ([\d,]+) tokens")
_CONCURRENCY = re.compile(r"Maximum concurrency for ([\d,]+) tokens per request")
_OVERRIDE = re.compile(r"Overriding num_gpu_blocks=\d+ with num_gpu_blocks_override=(\d+)")
# From here on the logged size is concurrency times context (get_kv_cache_capacity), before it is
# blocks times their size.
_SIZE_BY_CONCURRENCY_SINCE = (0, 21)
_PAIRS = re.compile(r"'(\w+)': ('[^']*'|\"[^\"]*\"|[^,{}\[\]]+)")


def read_log(path: Path) -> tuple[dict[str, Any], list[str]]:
    """The settings that an engine logged at its start, and notes on how they were had.

    Where the log has several starts the last one counts.

    Raises:
        InputError: It is no text, or vLLM never says its settings in it.
        UsageError: It is of vLLM's first engine.
    """
    args: dict[str, Any] = {}
    logged: dict[str, Any] = {}
    size: tuple[str, int] | None = None
    starts = 0
    for line in _lines(path):
        if match := _VERSION.search(line):
            logged["engine_version"] = match[1].rstrip(",.")
        if match := _ARGS.search(line):
            args, logged, size = _arguments(match[1]), _version_of(logged), None
        if match := _ALL_ARGS.search(line):
            args, logged, size = _all_arguments(match[1]), _version_of(logged), None
        if match := _FIRST.search(line):
            raise UsageError(f"{path}: vLLM {match[1]}: its first engine is not modelled")
        if match := _CONFIG.search(line):
            starts += 1
            logged.update(_configuration(match[2]), engine_version=match[1])
        if match := _PREFILL.search(line):
            logged["max_num_batched_tokens"] = whole_number(match[1])
        if match := _ASYNC.search(line):
            logged["async_scheduling"] = match[1] == "enabled"
        if match := _BLOCK.search(line):
            logged["block_size"] = whole_number(match[1])
        if match := _OVERRIDE.search(line):
            logged["num_gpu_blocks"] = whole_number(match[1])
        if match := _BLOCKS.search(line):
            logged["num_gpu_blocks"] = whole_number(match[1])
        if (match := _SIZE.search(line)) and (tokens := _number(match[2])) is not None:
            size = match[1], tokens
        if match := _CONCURRENCY.search(line):
            logged["max_model_len"] = _number(match[1])
    if not args and not starts and size is None:
        raise InputError(
            path,
            "",
            "no line of it says how vLLM was set up ('non-default args', 'Initializing a V1 LLM "
            "engine', 'KV cache size')",
            "give the log from the engine's start on",
        )
    version = logged.get("engine_version")
    if is_first_engine(version, v1_asked=starts > 0):
        raise UsageError(f"{path}: vLLM {version}: its first engine is not modelled")
    notes = [f"{path}: has {starts} engine starts; the last counts"] if starts > 1 else []
    found = {**args, **{key: value for key, value in logged.items() if value is not None}}
    if size is not None and "num_gpu_blocks" not in found:
        found, how = _with_blocks(found, *size)
        notes.append(f"{path}: {how}")
    return found, notes


def is_log(path: Path) -> bool:
    """Whether a file's first megabyte has one of the lines that `read_log` looks for."""
    if not path.is_file():
        return False
    try:
        with path.open("rb") as stream:
            text = stream.read(1 << 20).decode("utf-8", "replace")
    except OSError:
        return False
    return any(pattern.search(text) for pattern in (_ARGS, _ALL_ARGS, _CONFIG, _SIZE, _FIRST))


def _lines(path: Path) -> Iterator[str]:
    left = _MOST_CHARACTERS
    with open_text(path, holes=True) as stream:
        while left > 0 and (line := stream.readline(left)):
            left -= len(line)
            yield _COLOURS.sub("", line.rstrip("\r\n")[:_LONGEST_LINE])


def _number(text: str) -> int | None:
    """A number as it is logged, with commas between thousands."""
    return whole_number(text.replace(",", ""))


def _version_of(logged: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in logged.items() if key == "engine_version"}


def _arguments(text: str) -> dict[str, Any]:
    """The arguments under the table's own names; objects that Python cannot read are left out."""
    found = python_literal(text)
    if not isinstance(found, dict):
        found = {key: python_literal(value.strip()) for key, value in _PAIRS.findall(text)}
    named = {}
    for key, value in found.items():
        match = find(str(key))
        named[match[0].name if match is not None else str(key)] = value
    return named


def _all_arguments(text: str) -> dict[str, Any]:
    """The arguments that decide something, and the model; what is None was left to vLLM."""
    model = next((p for p in _split(text) if p.strip().startswith("model=")), "=None")
    found = {**_configuration(text), "model": python_literal(model.partition("=")[2].strip())}
    return {key: value for key, value in found.items() if value is not None}


def _configuration(text: str) -> dict[str, Any]:
    """The fields of the logged configuration that the table knows."""
    found: dict[str, Any] = {}
    for part in _split(text):
        key, _, value = part.partition("=")
        match = find(key.strip())
        if match is not None and match[0].role in ("modelled", "refused"):
            found[match[0].name] = python_literal(value.strip())
    return found


def _split(text: str) -> Iterator[str]:
    """The parts of ``text`` between the commas outside of brackets and quotes."""
    depth, quote, begun = 0, "", 0
    for place, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter in "([{<":
            depth += 1
        elif letter in ")]}>":
            depth -= 1
        elif letter == "," and depth <= 0:
            yield text[begun:place]
            begun = place + 1
    yield text[begun:]


def _with_blocks(found: dict[str, Any], device: str, tokens: int) -> tuple[dict[str, Any], str]:
    """The settings with the KV blocks of the logged size, and how they follow from it."""
    version = found.get("engine_version")
    release = release_of(version) if isinstance(version, str) else None
    usual = Deployment(release, "cpu" if device == "CPU" else "cuda")
    size, longest = found.get("block_size"), found.get("max_model_len")
    source = "as logged"
    if type(size) is not int or size < 1:
        size, source = default("block_size", usual), "the default, as none is logged"
    blocks = tokens // size
    if usual.known_release >= _SIZE_BY_CONCURRENCY_SINCE and type(longest) is int and longest > 0:
        # tokens = int(blocks / blocks of a request * context): the least that gives them.
        each = -(-longest // size)
        blocks = -(-tokens * each // longest)
    words = f"{tokens:,} tokens of {device} KV cache, in blocks of {size} ({source}): {blocks}"
    return {**found, "block_size": size, "num_gpu_blocks": blocks}, words
