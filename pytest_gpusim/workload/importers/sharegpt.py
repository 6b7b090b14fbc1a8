"""ShareGPT's conversations: the first turn is a prompt, the second says how long the answer is.

Lengths are counted by a local tokenizer; arrivals are made from the options. Conversations that
have no two such turns, or none with tokens in both, are left out and counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pytest_gpusim.artifacts import plain_json, read_json
from pytest_gpusim.errors import InputError, UsageError
from pytest_gpusim.workload.importers.base import Trace, TraceRequest, with_arrivals, write_trace
from pytest_gpusim.workload.importers.options import ImportOptions
from pytest_gpusim.workload.prompts import Prompt
from pytest_gpusim.workload.tokenizer import load_tokenizer


def import_workload(file: Path, out: Path, options: Mapping[str, Any]) -> None:
    """Import a ShareGPT JSON file; needs ``tokenizer`` and ``rate``."""
    chosen = ImportOptions.of(options)
    if chosen.tokenizer is None:
        raise UsageError("workload import sharegpt: counts tokens, give --tokenizer DIR")
    tokenizer = load_tokenizer(chosen.tokenizer)
    trace = Trace("sharegpt", Path(file), (), prompts={}, tokenizer_ref=chosen.tokenizer)
    assert trace.prompts is not None
    lengths: list[tuple[int, int]] = []
    for question, answer in _turns(trace):
        if len(lengths) == chosen.first:
            break
        prefill = len(tokenizer.encode(question).ids)
        decode = len(tokenizer.encode(answer, add_special_tokens=False).ids)
        if not prefill or not decode:
            trace.count("left_out_empty")
            continue
        trace.prompts[len(lengths)] = Prompt(len(lengths), text=question)
        lengths.append((prefill, decode))
    timed = with_arrivals(trace, lengths, chosen)
    trace.records = (TraceRequest(*each, number) for number, each in enumerate(timed))
    write_trace(trace, out, chosen)


def _turns(trace: Trace) -> Iterator[tuple[str, str]]:
    path = trace.file
    document = read_json(path)
    if not isinstance(document, list):
        raise InputError(path, "", "expected a JSON array of conversations")
    for number, entry in enumerate(document):
        where = f"conversation {number}"
        if not isinstance(entry, dict):
            raise InputError(path, where, "expected a JSON object")
        turns = entry.get("conversations", entry.get("conversation"))
        if not isinstance(turns, list):
            raise InputError(path, f"{where}, conversations", "expected an array of turns")
        if len(turns) < 2:
            trace.count("left_out_single_turn")
            continue
        yield _text(path, where, turns, 0), _text(path, where, turns, 1)


def _text(path: Path, where: str, turns: list[Any], place: int) -> str:
    text = turns[place].get("value") if isinstance(turns[place], dict) else None
    if not isinstance(text, str) or plain_json(text) != text:
        raise InputError(path, f"{where}, conversations[{place}].value", "expected a text")
    return text
