"""LLMServingSim's ``workload.jsonl``: lengths, arrivals and the prompts' token ids.

Where every line has ``output_tok_ids``, they are kept beside the workload, in ``outputs.jsonl``.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pytest_gpusim.errors import InputError, UsageError
from pytest_gpusim.json_documents import parse_json
from pytest_gpusim.texts import open_text
from pytest_gpusim.workload.importers.base import Trace, TraceRequest, write_trace
from pytest_gpusim.workload.importers.options import ImportOptions
from pytest_gpusim.workload.prompts import Prompt
from pytest_gpusim.workload.trace import WorkloadRequest
from pytest_gpusim.workload.writer import write_workload

_FIX = "give the workload.jsonl of an LLMServingSim run"


class Line(NamedTuple):
    """One request of the file; token ids are None where the line has none."""

    num_prefill_tokens: int
    num_decode_tokens: int
    arrival_time_ns: int
    token_ids: tuple[int, ...] | None
    output_token_ids: tuple[int, ...] | None = None


def import_workload(file: Path, out: Path, options: Mapping[str, Any]) -> None:
    """Import a ``workload.jsonl``, in order of arrival; its clock is kept."""
    lines = read_lines(Path(file))
    lines.sort(key=lambda line: line.arrival_time_ns)
    trace = Trace("llmservingsim", Path(file), (), prompts=_prompts(lines))
    outputs = {n: line.output_token_ids for n, line in enumerate(lines) if line.output_token_ids}
    trace.outputs = outputs if len(outputs) == len(lines) else None
    trace.records = [
        TraceRequest(line.arrival_time_ns, line.num_prefill_tokens, line.num_decode_tokens, number)
        for number, line in enumerate(lines)
    ]
    write_trace(trace, out, ImportOptions.of(options))


def write_lines(
    out: Path, lines: Sequence[Line], *, generator: Mapping[str, Any], model: str | None
) -> None:
    """Write a workload of lines in order of arrival; prompts only where any has token ids."""
    requests = [
        WorkloadRequest(i, i, line.num_prefill_tokens, line.num_decode_tokens, line.arrival_time_ns)
        for i, line in enumerate(lines)
    ]
    prompts = _prompts(lines)
    write_workload(
        out, requests, prompts, name="llmservingsim", seed=None, generator=generator, model=model
    )


def _prompts(lines: Sequence[Line]) -> dict[int, Prompt] | None:
    """Prompts by the place of their line; a line without ids gets a seed and shares nothing."""
    if all(line.token_ids is None for line in lines):
        return None
    return {
        i: Prompt(i, token_ids=line.token_ids)
        if line.token_ids is not None
        else Prompt(i, seed=i, num_tokens=line.num_prefill_tokens)
        for i, line in enumerate(lines)
    }


def read_lines(path: Path) -> list[Line]:
    """The requests of a ``workload.jsonl``, in the file's order.

    Raises:
        InputError: Names the line and the field.
        UsageError: The file holds sessions of dependent requests, which are not modelled.
    """
    lines = []
    with open_text(path, fix=_FIX) as stream:
        for number, text in enumerate(stream, start=1):
            if text.strip():
                lines.append(_line(path, f"line {number}", text))
    if not lines:
        raise InputError(path, "", "has no requests", _FIX)
    return lines


def _line(path: Path, where: str, text: str) -> Line:
    record = parse_json(text, path, where, fix=_FIX)
    if not isinstance(record, dict):
        raise InputError(path, where, "expected a JSON object", _FIX)
    if "sub_requests" in record:
        raise UsageError(f"{path}: {where}: sessions of dependent requests are not modelled")

    def integer(key: str, least: int) -> int:
        value = record.get(key)
        if type(value) is not int or not least <= value < 2**63:
            found = reprlib.repr(value)
            raise InputError(
                path, f"{where}, {key}", f"expected a whole number of at least {least}: {found}"
            )
        return value

    def ids(key: str, length_key: str) -> tuple[int, ...] | None:
        value = record.get(key)
        if value is None:
            return None
        if not isinstance(value, list) or not all(type(t) is int and t >= 0 for t in value):
            raise InputError(path, f"{where}, {key}", "expected a list of token ids")
        if len(value) != record[length_key]:
            raise InputError(
                path,
                f"{where}, {key}",
                f"has {len(value)} ids, {length_key} is {record[length_key]}",
            )
        return tuple(value)

    return Line(
        integer("input_toks", 1),
        integer("output_toks", 1),
        integer("arrival_time_ns", 0) if "arrival_time_ns" in record else 0,
        ids("input_tok_ids", "input_toks"),
        ids("output_tok_ids", "output_toks"),
    )
