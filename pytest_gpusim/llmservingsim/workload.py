"""LLMServingSim's ``workload.jsonl``: lengths, arrivals and the prompts' token ids.

Where every request has ``output_tok_ids``, they are kept beside the workload, in ``outputs.jsonl``.
A line with ``sub_requests`` is a session (``docs/workloads/agentic-sessions.md`` of that project):
each is sent ``tool_duration_ns`` after the one before it has ended. A prompt that begins with the
one before and its ``output_tok_ids`` goes on from whatever is really answered, so prompts of such a
file keep what they share, and not their ids.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pytest_gpusim.errors import InputError
from pytest_gpusim.json_documents import parse_json
from pytest_gpusim.limits import DOCUMENT_BYTES
from pytest_gpusim.runs.importers.shared_prompts import SentPrompt, shared_prompts
from pytest_gpusim.texts import lines_within, open_text
from pytest_gpusim.workload.importers.base import Trace, TraceRequest, write_trace
from pytest_gpusim.workload.importers.options import ImportOptions
from pytest_gpusim.workload.load import SessionTurn
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
    session: SessionTurn | None = None


def import_workload(file: Path, out: Path, options: Mapping[str, Any]) -> None:
    """Import a ``workload.jsonl``, in order of arrival; its clock is kept."""
    lines = read_lines(Path(file))
    lines.sort(key=lambda line: line.arrival_time_ns)
    trace = Trace("llmservingsim", Path(file), (), prompts=_prompts(lines))
    if (answered := _answered(lines)) and trace.prompts is not None:
        trace.prompts = _continued(lines, answered)
        trace.notes.append(f"{len(answered)} prompts go on from the answer to the one before")
    outputs = {n: line.output_token_ids for n, line in enumerate(lines) if line.output_token_ids}
    trace.outputs = outputs if len(outputs) == len(lines) else None
    trace.records = [
        TraceRequest(
            line.arrival_time_ns,
            line.num_prefill_tokens,
            line.num_decode_tokens,
            number,
            session=line.session,
        )
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


def _answered(lines: Sequence[Line]) -> dict[int, tuple[int, int]]:
    """By place, for prompts that hold the answer to the turn before: (its place, tokens shared)."""
    found: dict[int, tuple[int, int]] = {}
    latest: dict[int, int] = {}
    for number, line in enumerate(lines):
        if line.session is None:
            continue
        before = latest.get(line.session.session_id)
        latest[line.session.session_id] = number
        if before is None or line.token_ids is None:
            continue
        asked, answer = lines[before].token_ids, lines[before].output_token_ids
        if asked is None or answer is None:
            continue
        said = (*asked, *answer)
        pairs = enumerate(zip(said, line.token_ids, strict=False))
        shared = next((place for place, (one, other) in pairs if one != other), None)
        shared = min(len(said), len(line.token_ids)) if shared is None else shared
        if shared > len(asked):
            found[number] = (before, shared)
    return found


def _continued(lines: Sequence[Line], answered: Mapping[int, tuple[int, int]]) -> dict[int, Prompt]:
    """Prompts that share what the lines' ids share, and go on from answers as ``answered`` says."""
    lengths = [line.num_prefill_tokens for line in lines]
    sent = [
        None if line.token_ids is None else SentPrompt(token_ids=line.token_ids) for line in lines
    ]
    shared = shared_prompts(sent, lengths)
    prompts = dict(shared[0]) if shared is not None else {}
    for number, (before, tokens) in answered.items():
        prompts[number] = Prompt(
            number, seed=number, num_tokens=lengths[number], prefix_of=before, prefix_tokens=tokens
        )
    return prompts


def read_lines(path: Path) -> list[Line]:
    """The requests of a ``workload.jsonl``, in the file's order.

    The calls of a session stand together, all with the arrival of the first.

    Raises:
        InputError: Names the line and the field.
    """
    lines: list[Line] = []
    with open_text(path, fix=_FIX) as stream:
        for number, text in enumerate(lines_within(path, stream, DOCUMENT_BYTES), start=1):
            if text.strip():
                lines.extend(_lines_of(path, f"line {number}", text, session=number))
    if not lines:
        raise InputError(path, "", "has no requests", _FIX)
    return lines


def _lines_of(path: Path, where: str, text: str, session: int) -> Iterator[Line]:
    record = parse_json(text, path, where, fix=_FIX)
    if not isinstance(record, dict):
        raise InputError(path, where, "expected a JSON object", _FIX)
    if "sub_requests" not in record:
        yield _line(path, where, record)[0]
        return
    calls = record["sub_requests"]
    if not isinstance(calls, list) or not calls or not all(isinstance(c, dict) for c in calls):
        raise InputError(path, f"{where}, sub_requests", "expected a list of JSON objects")
    wait = 0
    for turn, call in enumerate(calls):
        arrival = {key: record[key] for key in ("arrival_time_ns",) if key in record}
        place = f"{where}, sub_requests[{turn}]"
        line, after = _line(path, place, {**call, **arrival})
        turns = SessionTurn(session, turn, wait) if len(calls) > 1 else None
        yield line._replace(session=turns)
        wait = after


def _line(path: Path, where: str, record: Mapping[str, Any]) -> tuple[Line, int]:
    """A request, and the time from its end to the next one of its session."""

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

    line = Line(
        integer("input_toks", 1),
        integer("output_toks", 1),
        integer("arrival_time_ns", 0) if "arrival_time_ns" in record else 0,
        ids("input_tok_ids", "input_toks"),
        ids("output_tok_ids", "output_toks"),
    )
    return line, integer("tool_duration_ns", 0) if "tool_duration_ns" in record else 0
