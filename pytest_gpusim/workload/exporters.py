"""Workloads for other tools.

- ``vidur``: the trace format of Vidur, ``arrived_at`` (s), ``num_prefill_tokens``,
  ``num_decode_tokens``; contents are left out. (Vidur scales traces by default: set its
  ``time_scale_factor``, ``prefill_scale_factor`` and ``decode_scale_factor`` to 1.)
- ``vllm-bench``: the custom dataset of ``vllm bench serve`` (``prompt``, ``output_tokens``), for
  use with ``--dataset-name custom --skip-chat-template --disable-shuffle``; arrivals are left out,
  and a limit is given as ``--max-concurrency``.
- ``mooncake``: JSON lines of ``timestamp`` (ms), lengths and hashes of 512-token blocks.

Times are written with as many digits as they have, so that importing gives the same nanoseconds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

from pytest_gpusim.artifacts import atomic_file
from pytest_gpusim.errors import InputError, UsageError
from pytest_gpusim.workload.token_ids import sharing_token_ids, tokenizer_of
from pytest_gpusim.workload.trace import Workload

_BLOCK_TOKENS = 512
_MILLISECOND = 1_000_000
_VOCABULARY = 2**31
"""Ids of an exported workload only tell blocks apart; none is given to an engine."""


def export_workload(kind: str, workload: Workload, file: Path | str) -> None:
    """Write ``workload`` as ``file`` in the format ``kind``, whole or not at all.

    Raises:
        UsageError: Unknown kind, the file exists, or the format cannot hold the workload.
    """
    if kind not in EXPORT_KINDS:
        raise UsageError(f"unknown kind {kind!r}; known are {', '.join(EXPORT_KINDS)}")
    file = Path(file)
    if file.exists():
        raise UsageError(f"--out {file}: exists; name an absent file")
    with (
        atomic_file(file) as partial,
        partial.open("w", encoding="utf-8", newline="\n") as stream,
    ):
        stream.writelines(line + "\n" for line in EXPORT_KINDS[kind](workload))


def _vidur(workload: Workload) -> Iterator[str]:
    workload.require_open_loop("a trace of Vidur")
    yield "arrived_at,num_prefill_tokens,num_decode_tokens"
    for _, _, prefill, decode, arrival in workload.requests:
        yield f"{_decimal(arrival, 9)},{prefill},{decode}"


def _mooncake(workload: Workload) -> Iterator[str]:
    workload.require_open_loop("a Mooncake trace")
    hashes = _block_hashes(workload)
    # Times that all have a fraction, or come quickly, could as well be seconds.
    times = [request.arrival_time_ns for request in workload.requests]
    pointed = sum(time % _MILLISECOND > 0 for time in times)
    plain = not pointed or (pointed < len(times) and times[-1] >= (len(times) - 1) * _MILLISECOND)
    unit = "" if plain else ', "timestamp_unit": "ms"'
    for _, prompt_id, prefill, decode, arrival in workload.requests:
        blocks = ", ".join(map(str, hashes[prompt_id]))
        yield (
            f'{{"timestamp": {_decimal(arrival, 6)}, "input_length": {prefill}, '
            f'"output_length": {decode}, "hash_ids": [{blocks}]{unit}}}'
        )


def _block_hashes(workload: Workload) -> dict[int, list[int]]:
    """Ids of each prompt's blocks: Mooncake's own, or one for each different beginning."""
    lengths = {request.prompt_id: request.num_prefill_tokens for request in workload.requests}
    prompts = workload.prompts or {}
    if prompts and all(
        prompt.block_hashes is not None and prompt.block_tokens == _BLOCK_TOKENS
        for prompt in prompts.values()
    ):
        return {
            prompt_id: list(prompts[prompt_id].block_hashes or ())[: -(-length // _BLOCK_TOKENS)]
            for prompt_id, length in lengths.items()
        }
    shared = sharing_token_ids(workload, _VOCABULARY)
    known: dict[tuple[int, tuple[int, ...]], int] = {}
    fresh = 0
    found: dict[int, list[int]] = {}
    for prompt_id, length in lengths.items():
        blocks: list[int] = []
        for start in range(0, length, _BLOCK_TOKENS):
            block = fresh
            if prompt_id in shared:
                content = tuple(shared[prompt_id][start : start + _BLOCK_TOKENS])
                block = known.setdefault((blocks[-1] if blocks else -1, content), fresh)
            fresh += block == fresh
            blocks.append(block)
        found[prompt_id] = blocks
    return found


def _vllm_bench(workload: Workload) -> Iterator[str]:
    if workload.follows:
        workload.require_open_loop("vllm bench serve's custom data set")
    texts: dict[int, str] = {}
    for _, prompt_id, _, decode, _ in workload.requests:
        if prompt_id not in texts:
            texts[prompt_id] = _text(workload, prompt_id)
        yield json.dumps({"prompt": texts[prompt_id], "output_tokens": decode})


def _text(workload: Workload, prompt_id: int) -> str:
    prompt = (workload.prompts or {}).get(prompt_id)
    if prompt is not None and prompt.text is not None:
        return prompt.text
    if prompt is None or prompt.token_ids is None:
        raise UsageError(
            f"{workload.path}: vllm-bench takes texts, prompt {prompt_id} has none; "
            "generate the workload with --tokenizer DIR"
        )
    tokenizer = tokenizer_of(workload)
    text = tokenizer.decode(prompt.token_ids, special=True)
    if tuple(tokenizer.encode(text, special=False)) != prompt.token_ids:
        raise InputError(
            workload.path,
            f"prompt {prompt_id}",
            "its token ids are not those of any text under the workload's tokenizer",
        )
    return text


def _decimal(value: int, digits: int) -> str:
    """``value`` / 10^digits, exactly and without a trailing fraction of zeros."""
    text = f"{Decimal(value).scaleb(-digits):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


EXPORT_KINDS: dict[str, Callable[[Workload], Iterator[str]]] = {
    "vidur": _vidur,
    "vllm-bench": _vllm_bench,
    "mooncake": _mooncake,
}
"""Formats by name, each a function from a workload to the lines of the file."""
