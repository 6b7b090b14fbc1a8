"""What importers share: records in order of arrival, selected, changed, written as a workload."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

from pytest_gpusim.documents import LeftOut
from pytest_gpusim.errors import InputError, UsageError
from pytest_gpusim.limits import REQUEST_TOKENS, REQUESTS
from pytest_gpusim.workload.arrivals import arrival_gaps
from pytest_gpusim.workload.generate import WorkloadSpec
from pytest_gpusim.workload.importers.options import ImportOptions
from pytest_gpusim.workload.load import Load, SessionTurn
from pytest_gpusim.workload.prompts import Prompt
from pytest_gpusim.workload.tokenizer import load_tokenizer
from pytest_gpusim.workload.trace import WorkloadRequest
from pytest_gpusim.workload.writer import write_workload

NS = 1_000_000_000
_LATEST = 2**63


class TraceRequest(NamedTuple):
    """One request of a trace.

    ``prompt_id`` is a key of the trace's prompts, where it has any; ``source_id`` the request's id
    in the run that it comes from; ``session`` its place in a conversation, where it has one;
    ``refused`` says that the server refused it; ``model`` whom it asks, where the trace tells.
    """

    arrival_time_ns: int
    num_prefill_tokens: int
    num_decode_tokens: int
    prompt_id: int | None = None
    source_id: int | None = None
    session: SessionTurn | None = None
    refused: bool = False
    model: str | None = None


@dataclass
class Trace:
    """A trace as it is read.

    ``records`` may be a generator that fills ``prompts`` and ``counts`` as it goes. ``counts`` says
    in words what was left out or clipped, and how often; ``notes`` what else a user should know of
    how it was read. ``outputs`` has the token ids that were generated, by prompt id, where the
    trace tells. ``load`` is what the trace says of a limit. ``check`` is called when the records
    that were asked for are read, perhaps not all: it refuses what only several of them tell.
    """

    kind: str
    file: Path
    records: Iterable[TraceRequest]
    prompts: dict[int, Prompt] | None = None
    outputs: dict[int, tuple[int, ...]] | None = None
    counts: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    tokenizer_ref: str | None = None
    source: dict[str, Any] = field(default_factory=dict)
    load: Load = field(default_factory=Load)
    check: Callable[[], None] | None = None

    def count(self, what: str) -> None:
        """One more of what the metadata will report."""
        self.counts[what] = self.counts.get(what, 0) + 1

    def left_out(self, options: ImportOptions) -> LeftOut:
        """What becomes of bad records: with ``skip_bad`` they are counted."""
        return LeftOut(options.skip_bad, lambda: self.count("left_out_bad"))


def write_trace(trace: Trace, out: Path, options: ImportOptions) -> None:
    """Write a trace as a workload directory, with ``options`` applied.

    Raises:
        InputError: The trace has no records, or none of them is left.
    """
    records: Iterable[TraceRequest] = _selected(trace, options)
    factor = options.rate_scale or 1.0
    if options.rate is not None and "arrivals" not in trace.source:
        records = list(records)
        factor = _rate_factor(trace, records, options.rate)
    requests: list[WorkloadRequest] = []
    source_ids: list[int] = []
    sessions: dict[int, SessionTurn] = {}
    turns: dict[int, int] = {}
    refused: list[int] = []
    for number, record in enumerate(records):
        arrival, prefill, decode, prompt_id, source_id, session, was_refused, _ = record
        REQUESTS.check(trace.file, "", number + 1)
        if source_id is not None:
            source_ids.append(source_id)
        if session is not None:
            # What was left out between two turns leaves no gap in their numbers.
            turn = turns[session.session_id] = turns.get(session.session_id, -1) + 1
            sessions[number] = session._replace(turn=turn)
        if was_refused:
            refused.append(number)
        kept_prefill, kept_decode = _clipped(trace, prefill, decode, options)
        REQUEST_TOKENS.check(trace.file, f"request {number}", kept_prefill + kept_decode)
        requests.append(
            WorkloadRequest(
                number,
                number if prompt_id is None else prompt_id,
                kept_prefill,
                kept_decode,
                arrival if factor == 1 else _scaled(arrival, factor, options),
            )
        )
    if trace.check is not None:
        trace.check()
    if not requests:
        window = [("--start", options.start), ("--end", options.end)]
        chosen = " ".join(f"{flag} {value}" for flag, value in window if value is not None)
        problem = f"no record is left by {chosen}" if chosen else "has no records"
        raise InputError(trace.file, "", problem)
    if source_ids != list(range(len(source_ids))):
        trace.source["source_request_ids"] = source_ids
    prompts = None
    if trace.prompts is not None:
        used = {request.prompt_id for request in requests}
        prompts = _kept_prompts(trace, used, _longest_prefill(options))
    write_workload(
        out,
        requests,
        prompts,
        name=trace.kind,
        seed=options.seed if "arrivals" in trace.source else None,
        model=options.model,
        tokenizer_ref=trace.tokenizer_ref,
        generator={
            "kind": trace.kind,
            "file": trace.file.name,
            **trace.source,
            "options": options.to_json(),
            "counts": trace.counts,
            **({"notes": trace.notes} if trace.notes else {}),
        },
        outputs=None
        if trace.outputs is None
        else [trace.outputs[r.prompt_id][: r.num_decode_tokens] for r in requests],
        load=Load(options.concurrency) if options.concurrency is not None else trace.load,
        sessions=sessions,
        refused=refused,
    )


def with_arrivals(
    trace: Trace, lengths: list[tuple[int, int]], options: ImportOptions
) -> Iterator[tuple[int, int, int]]:
    """Lengths with arrivals made from the options, as (arrival, prefill, decode).

    Raises:
        UsageError: No rate was given.
    """
    if options.rate is None and options.arrivals != "closed":
        raise UsageError(f"workload import {trace.kind}: has no arrivals, give --rate R")
    if not lengths:
        raise InputError(trace.file, "", "has no records")
    spec = WorkloadSpec(
        options.arrivals,
        len(lengths),
        options.rate,
        options.seed,
        burst_size=options.burst_size,
        concurrency=options.concurrency,
    )
    spec.check()
    # From here on the rate is met, and no longer something to scale to.
    trace.source["arrivals"] = options.arrivals
    times = accumulate(arrival_gaps(spec, lengths))
    return ((time, *length) for time, length in zip(times, lengths, strict=True))


def from_zero(
    trace: Trace, records: Iterator[TraceRequest], *, late_s: int = 100_000_000
) -> Iterator[TraceRequest]:
    """Records on a clock that starts with the first of them, where theirs started long before.

    A clock on which the first record comes before ``late_s`` is a trace's own, and stays; the
    default tells those that count from an epoch.
    """
    origin = None
    for record in records:
        if origin is None:
            late = record.arrival_time_ns
            origin = late if late >= late_s * NS else 0
            if origin:
                trace.notes.append(
                    f"the clock starts at {origin / NS:.6g} s: arrivals count from the first record"
                )
        yield record._replace(arrival_time_ns=record.arrival_time_ns - origin) if origin else record


def nanoseconds(text: str | int | Decimal, unit_ns: int) -> int | None:
    """A time in units of ``unit_ns``, exact to the ns; None for what is no time from 0 on."""
    if isinstance(text, str) and "_" in text:
        return None  # Decimal takes Python's 1_000
    try:
        value = Decimal(text) * unit_ns
        return int(value.to_integral_value()) if 0 <= value < _LATEST else None
    except (ArithmeticError, ValueError):
        return None


def _selected(trace: Trace, options: ImportOptions) -> Iterator[TraceRequest]:
    start = round((options.start or 0.0) * NS)
    end = round(options.end * NS) if options.end is not None else None
    count = 0
    wanted, models = options.only_model, set[str]()
    for record in trace.records:
        if record.model is not None or wanted is not None:
            models.add(record.model or "unnamed")
            if wanted is not None and record.model != wanted:
                continue
        if record[0] < start:
            continue
        if count == options.first or (end is not None and record[0] >= end):
            break
        count += 1
        yield record._replace(arrival_time_ns=record[0] - start) if start else record
    known = ", ".join(sorted(models)) or "none"
    if wanted is not None and not count:
        raise InputError(
            trace.file, "", f"has no requests of {wanted!r}; models found: {known[:200]}"
        )
    if wanted is None and len(models) > 1:
        said = f"requests of {len(models)} models are taken together ({known[:200]})"
        trace.notes.append(f"{said}; --only-model takes one's")


def _scaled(arrival: int, factor: float, options: ImportOptions) -> int:
    """``arrival`` at ``factor`` times the request rate."""
    time = arrival / factor if factor else math.inf
    if time >= _LATEST:
        asked = ("--rate", options.rate) if options.rate else ("--rate-scale", options.rate_scale)
        raise UsageError(f"{asked[0]} {asked[1]}: too low, the trace would take centuries")
    return round(time)


def _rate_factor(trace: Trace, records: list[TraceRequest], rate: float) -> float:
    if len(records) < 2:
        return 1.0  # one request has no rate
    span = records[-1].arrival_time_ns - records[0].arrival_time_ns
    if span == 0:
        raise UsageError(f"--rate {rate}: all records of {trace.file} arrive at once")
    return rate * span / NS / (len(records) - 1)


def _longest_prefill(options: ImportOptions) -> int | None:
    context = options.max_model_len - 1 if options.max_model_len is not None else None
    limits = [limit for limit in (options.clip_prefill, context) if limit is not None]
    return min(limits) if limits else None


def _clipped(trace: Trace, prefill: int, decode: int, options: ImportOptions) -> tuple[int, int]:
    if options.clip_prefill is not None and prefill > options.clip_prefill:
        trace.count("clipped_prefill")
        prefill = options.clip_prefill
    if options.clip_decode is not None and decode > options.clip_decode:
        trace.count("clipped_decode")
        decode = options.clip_decode
    if options.max_model_len is not None and prefill + decode > options.max_model_len:
        trace.count("clipped_to_context")
        prefill = min(prefill, options.max_model_len - 1)
        decode = min(decode, options.max_model_len - prefill)
    return prefill, decode


def _kept_prompts(trace: Trace, used: set[int], longest: int | None) -> dict[int, Prompt]:
    """The used prompts and those that they begin with, cut to ``longest`` tokens."""
    prompts = trace.prompts or {}
    wanted = sorted(used)
    kept: dict[int, Prompt] = {}
    while wanted:
        prompt = prompts[wanted.pop()]
        if prompt.prompt_id not in kept:
            kept[prompt.prompt_id] = prompt
            if prompt.prefix_of is not None:
                wanted.append(prompt.prefix_of)
    if longest is None:
        return kept
    tokenizer = None
    for prompt_id, prompt in kept.items():
        if prompt.text is not None:
            tokenizer = tokenizer or load_tokenizer(trace.tokenizer_ref)
            ids = tokenizer.encode(prompt.text)
            if len(ids) > longest:
                kept[prompt_id] = Prompt(prompt_id, token_ids=tuple(ids[:longest]))
        else:
            kept[prompt_id] = _cut(prompt, longest)
    return kept


def _cut(prompt: Prompt, longest: int) -> Prompt:
    if prompt.token_ids is not None:
        return replace(prompt, token_ids=prompt.token_ids[:longest])
    if prompt.block_hashes is not None and prompt.block_tokens:
        blocks = -(-longest // prompt.block_tokens)
        return replace(prompt, block_hashes=prompt.block_hashes[:blocks])
    return replace(
        prompt,
        num_tokens=min(prompt.num_tokens or 0, longest),
        prefix_tokens=None if prompt.prefix_tokens is None else min(prompt.prefix_tokens, longest),
    )
