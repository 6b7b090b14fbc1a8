"""LLMServingSim's workloads: JSON lines of lengths, arrivals and the prompts' token ids."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pytest_gpusim.errors import InputError, UsageError
from pytest_gpusim.workload.prompts import Prompt
from pytest_gpusim.workload.trace import WorkloadRequest, write_workload

_FIX = "give the workload.jsonl of an LLMServingSim run"


class Line(NamedTuple):
    """One request of the file; ``token_ids`` is None where the line has none."""

    num_prefill_tokens: int
    num_decode_tokens: int
    arrival_time_ns: int
    token_ids: tuple[int, ...] | None


def import_workload(file: Path, out: Path, options: Mapping[str, Any]) -> None:
    """Write the workload of a ``workload.jsonl``, in order of arrival.

    Raises:
        InputError: A line cannot be read.
    """
    lines = read_lines(Path(file))
    first = min(line.arrival_time_ns for line in lines)
    ordered = sorted(lines, key=lambda line: line.arrival_time_ns)
    write_lines(
        out,
        [line._replace(arrival_time_ns=line.arrival_time_ns - first) for line in ordered],
        generator={"kind": "llmservingsim", "file": Path(file).name},
        model=options.get("model"),
    )


def write_lines(
    out: Path, lines: list[Line], *, generator: Mapping[str, Any], model: str | None
) -> None:
    """Write a workload of lines in order of arrival; prompts only where any has token ids."""
    requests = [
        WorkloadRequest(i, i, line.num_prefill_tokens, line.num_decode_tokens, line.arrival_time_ns)
        for i, line in enumerate(lines)
    ]
    prompts = None
    if any(line.token_ids is not None for line in lines):
        # A line without ids shares nothing: a seed of its own, at a place that no id list has.
        prompts = {
            i: Prompt(i, token_ids=line.token_ids)
            if line.token_ids is not None
            else Prompt(i, seed=i, num_tokens=line.num_prefill_tokens)
            for i, line in enumerate(lines)
        }
    write_workload(
        out, requests, prompts, name="llmservingsim", seed=None, generator=generator, model=model
    )


def read_lines(path: Path) -> list[Line]:
    """The requests of a ``workload.jsonl``, in the file's order.

    Raises:
        InputError: Names the line and the field.
        UsageError: The file holds sessions of dependent requests, which are not modelled.
    """
    if not path.is_file():
        raise InputError(path, "", "no such file", _FIX)
    lines = []
    with path.open(encoding="utf-8") as stream:
        for number, text in enumerate(stream, start=1):
            if text.strip():
                lines.append(_line(path, f"line {number}", text))
    if not lines:
        raise InputError(path, "", "has no requests", _FIX)
    return lines


def _line(path: Path, where: str, text: str) -> Line:
    try:
        record = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(path, where, f"not JSON: {error.msg}", _FIX) from None
    if not isinstance(record, dict):
        raise InputError(path, where, "expected a JSON object", _FIX)
    if "sub_requests" in record:
        raise UsageError(f"{path}: {where}: sessions of dependent requests are not modelled")

    def integer(key: str, least: int) -> int:
        value = record.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise InputError(
                path, f"{where}, {key}", f"expected a whole number of at least {least}: {value!r}"
            )
        return value

    ids = record.get("input_tok_ids")
    length = integer("input_toks", 1)
    if ids is not None:
        good = isinstance(ids, list) and all(type(token) is int and token >= 0 for token in ids)
        if not good:
            raise InputError(path, f"{where}, input_tok_ids", "expected a list of token ids")
        if len(ids) != length:
            raise InputError(
                path, f"{where}, input_tok_ids", f"has {len(ids)} ids, input_toks is {length}"
            )
    return Line(
        length,
        integer("output_toks", 1),
        integer("arrival_time_ns", 0) if "arrival_time_ns" in record else 0,
        tuple(ids) if ids else None,
    )
