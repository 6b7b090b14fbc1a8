"""Which prompt of ``workload.jsonl`` each request of a run had, whatever the two files' orders."""

from __future__ import annotations

import json
import re
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pytest_gpusim.errors import InputError
from pytest_gpusim.limits import DOCUMENT_BYTES
from pytest_gpusim.runs.importers.base import ImportedRequest
from pytest_gpusim.tables import find_table
from pytest_gpusim.texts import lines_within, open_text, whole_number

_NAME = "workload.jsonl"
TokenIds = list[tuple[int, ...] | None]


class _Prompt(NamedTuple):
    """A line of the file: its place among the requests, and what it says of its prompt."""

    place: int
    length: int
    arrival: float
    ids: tuple[int, ...]


def prompt_ids(
    directory: Path,
    requests_path: Path,
    requests: Sequence[ImportedRequest],
    vocab_size: int,
) -> tuple[TokenIds, list[str]]:
    """The token ids of each request's prompt, None where they are not known; and notes on them.

    Requests are matched by their position in the file, by the number in their ``request_id``, or by
    prompt length in order of arrival: the first of these that fits them all, else the last for
    those that it fits.

    Args:
        directory: Where the workload may be.
        requests_path: ``requests.jsonl``.
        requests: What it holds, in its order.
        vocab_size: Ids are brought below it.
    """
    path = find_table(directory, _NAME)
    unknown: TokenIds = [None] * len(requests)
    if path is None:
        return unknown, [f"no {_NAME}: what prompts share is not known"]
    prompts, notes = _read(path)
    for order, words in (
        (list(range(len(requests))), ""),
        (_numbers(requests_path), "the number in request_id"),
    ):
        by_place = {prompt.place: prompt for prompt in prompts}
        found = [by_place.get(place) if place is not None else None for place in order]
        if prompts and len(found) == len(requests) and _fits(found, requests):
            if words:
                notes.append(f"{path.name} is matched to the requests by {words}")
            return _with_ids(found, vocab_size, path, notes)
    found = _by_length(prompts, requests)
    matched = sum(prompt is not None for prompt in found)
    # Lengths alone also agree by chance: where most do not, the file is of other requests.
    if matched * 2 <= len(requests) or not prompts:
        if prompts:
            notes.append(f"{path.name} is of other requests: what prompts share is not known")
        return unknown, notes
    notes.append(
        f"{path.name} is matched to the requests by prompt length in order of arrival: "
        f"{matched} of {len(requests)}"
    )
    return _with_ids(found, vocab_size, path, notes)


def _read(path: Path) -> tuple[list[_Prompt], list[str]]:
    """The lines that state a prompt, whose places count the others too; and notes on those."""
    prompts = []
    notes = []
    unread = sessions = place = 0
    try:
        with open_text(path) as stream:
            for text in lines_within(path, stream, DOCUMENT_BYTES):
                if not text.strip():
                    continue
                record = _record(text)
                prompt = _prompt(place, record)
                if prompt is not None:
                    prompts.append(prompt)
                elif "sub_requests" in record:
                    sessions += 1
                elif not _without_ids(record):
                    unread += 1
                place += 1
    except InputError as error:
        return [], [f"{error}; what prompts share is not known"]
    if unread:
        notes.append(
            f"{path.name}: {unread} of {place} lines cannot be read; their prompts share nothing"
        )
    if sessions:
        notes.append(
            f"{path.name}: {sessions} sessions of dependent requests; what their prompts "
            "share is not known"
        )
    if place and not (prompts or unread or sessions):
        notes.append(f"{path.name} has no token ids: what prompts share is not known")
    return prompts, notes


def _record(text: str) -> dict[str, Any]:
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def _without_ids(record: dict[str, Any]) -> bool:
    return bool(record) and record.get("input_tok_ids") is None


def _prompt(place: int, record: dict[str, Any]) -> _Prompt | None:
    ids, arrival = record.get("input_tok_ids"), record.get("arrival_time_ns")
    if not isinstance(ids, list) or not ids or not all(type(t) is int and t >= 0 for t in ids):
        return None
    when = float(place)
    if isinstance(arrival, int | float) and 0 <= arrival < 1e19:
        when = float(arrival)
    return _Prompt(place, len(ids), when, tuple(ids))


def _numbers(requests_path: Path) -> list[int | None]:
    """The last number in each request's id, where all have one of their own."""
    numbers: list[int | None] = []
    with open_text(requests_path) as stream:
        for text in lines_within(requests_path, stream, DOCUMENT_BYTES):
            if text.strip():
                found = re.findall(r"\d+", str(_record(text).get("request_id")))
                numbers.append(whole_number(found[-1]) if found else None)
    distinct = len(set(numbers)) == len(numbers) and None not in numbers
    return numbers if distinct else []


def _fits(found: Sequence[_Prompt | None], requests: Sequence[ImportedRequest]) -> bool:
    """Whether lengths agree wherever a prompt is known, and that is nearly everywhere."""
    pairs = [(p, r) for p, r in zip(found, requests, strict=True) if p is not None]
    agree = all(p.length == r.num_prefill_tokens for p, r in pairs)
    return agree and len(pairs) * 10 >= len(requests) * 9


def _by_length(
    prompts: Sequence[_Prompt], requests: Sequence[ImportedRequest]
) -> list[_Prompt | None]:
    waiting: defaultdict[int, deque[_Prompt]] = defaultdict(deque)
    for prompt in sorted(prompts, key=lambda each: each.arrival):
        waiting[prompt.length].append(prompt)
    found: list[_Prompt | None] = [None] * len(requests)
    for place in sorted(range(len(requests)), key=lambda each: requests[each].arrival_ns):
        same = waiting[requests[place].num_prefill_tokens]
        found[place] = same.popleft() if same else None
    return found


def _with_ids(
    found: Sequence[_Prompt | None], vocab_size: int, path: Path, notes: Sequence[str]
) -> tuple[TokenIds, list[str]]:
    """The ids of matched prompts, renamed below ``vocab_size`` where they exceed it."""
    largest = max((max(prompt.ids) for prompt in found if prompt is not None), default=0)
    if largest < vocab_size:
        return [None if prompt is None else prompt.ids for prompt in found], [*notes]
    note = (
        f"{path.name}: token ids up to {largest} exceed the vocabulary of {vocab_size}; only which "
        "of them are equal counts"
    )
    names: dict[int, int] = {}
    ids: TokenIds = [
        None if prompt is None else tuple(_renamed(prompt.ids, names, vocab_size))
        for prompt in found
    ]
    return ids, [*notes, note]


def _renamed(ids: Sequence[int], names: dict[int, int], vocab_size: int) -> Iterator[int]:
    for token in ids:
        yield names.setdefault(token, len(names)) % vocab_size
