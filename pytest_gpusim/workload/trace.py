"""The workload directory: ``trace_lengths.csv``, ``trace_intervals.csv``, ``prompts.jsonl``."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

from pytest_gpusim.artifacts import digest_files, sha256_file
from pytest_gpusim.documents import JsonObject
from pytest_gpusim.errors import InputError, UsageError
from pytest_gpusim.json_documents import check_schema_version, digest_json, read_json
from pytest_gpusim.tables import integer_rows, line_of
from pytest_gpusim.texts import NO_PATH, can_be_path
from pytest_gpusim.workload.load import (
    SESSIONS,
    Load,
    SessionTurn,
    read_sessions,
    turns_followed,
)
from pytest_gpusim.workload.prompts import Prompt, read_prompts

LENGTHS, INTERVALS, PROMPTS, META = (
    "trace_lengths.csv",
    "trace_intervals.csv",
    "prompts.jsonl",
    "workload_meta.json",
)
OUTPUTS = "outputs.jsonl"
FILES = (LENGTHS, INTERVALS, PROMPTS, META, OUTPUTS, SESSIONS)
"""Everything that belongs to a workload; other files beside them are somebody's own."""
LENGTH_COLUMNS = ("request_id", "prompt_id", "num_prefill_tokens", "num_decode_tokens")
INTERVAL_COLUMNS = ("request_id", "inter_arrival_ns", "arrival_time_ns")
SCHEMA_VERSIONS = (1, 2)
"""2 where there is a load, a session or a refused request, which a reader of 1 does not know."""
_FIX = "make one with 'gpusim workload generate'"


class WorkloadRequest(NamedTuple):
    """One request: lengths in tokens, all output tokens counted; arrival since the run's start."""

    request_id: int
    prompt_id: int
    num_prefill_tokens: int
    num_decode_tokens: int
    arrival_time_ns: int


@dataclass
class Workload:
    """Requests in order of arrival, and what their prompts are made of.

    Attributes:
        requests: In order of arrival; a later turn's means nothing, it follows the turn before.
        prompts: Contents by prompt id; None where no prompt shares anything with another.
        meta: ``workload_meta.json``.
        path: Its directory.
        load: How many requests may be under way at once.
        sessions: Places in conversations by request id; empty where there are none.
        refused: Requests that the server is known to have refused: they are not simulated.
    """

    requests: list[WorkloadRequest]
    prompts: dict[int, Prompt] | None
    meta: dict[str, Any]
    path: Path
    load: Load = field(default_factory=Load)
    sessions: dict[int, SessionTurn] = field(default_factory=dict)
    refused: frozenset[int] = frozenset()

    @property
    def digest(self) -> str:
        """Sha256 of what it asks for (see `digest_of`)."""
        return str(self.meta["digest"])

    @property
    def workload_id(self) -> str:
        """Its name, ending in the first 12 digits of the digest."""
        return str(self.meta["workload_id"])

    @property
    def is_open_loop(self) -> bool:
        """Whether every request is sent at its arrival, whatever becomes of the others."""
        return self.load.is_open and not self.follows

    @cached_property
    def follows(self) -> dict[int, int]:
        """By request id, the turn that it follows; first turns are absent."""
        return turns_followed(self.sessions)

    def require_open_loop(self, what: str) -> None:
        """Raise `UsageError`, by name, where ``what`` can only send requests at their times."""
        if not self.is_open_loop:
            kind = "sessions" if self.follows else f"max_concurrency {self.load.max_concurrency}"
            raise UsageError(
                f"{self.path}: the workload has {kind}; {what} knows open-loop arrivals only"
            )

    def max_length(self) -> tuple[int, int]:
        """(request id, tokens) of the longest request, prompt and output together.

        Those that the server refused do not count, unless there are no others.
        """
        served = [request for request in self.requests if request.request_id not in self.refused]
        longest = max(
            served or self.requests, key=lambda r: r.num_prefill_tokens + r.num_decode_tokens
        )
        return longest.request_id, longest.num_prefill_tokens + longest.num_decode_tokens

    def require_fits(self, max_model_len: int | None) -> None:
        """Raise `UsageError` where a request is longer than the engine's context."""
        request_id, length = self.max_length()
        if max_model_len is not None and length > max_model_len:
            raise UsageError(
                f"{self.path / LENGTHS}: request {request_id} has {length} tokens, the engine's "
                f"max_model_len is {max_model_len}; shorten the workload or raise max_model_len"
            )


def read_workload(directory: Path | str) -> Workload:
    """Read and check a workload directory.

    Raises:
        InputError: A file is missing, a row is wrong, or the digest is not that of the files.
    """
    directory = Path(directory)
    if directory.is_file():
        fix = f"make one of it with 'gpusim workload import KIND {directory}'"
        raise InputError(directory, "", "is a file, expected a workload directory", fix)
    if not directory.is_dir():
        raise InputError(directory, "", "no such workload directory", _FIX)
    meta_path = directory / META
    if not meta_path.exists():
        raise InputError(directory, "", f"incomplete: no {META}", _FIX)
    meta = read_json(meta_path)
    if not isinstance(meta, dict):
        raise InputError(meta_path, "", "expected a JSON object")
    check_schema_version(meta_path, meta, max(SCHEMA_VERSIONS))
    for key in ("workload_id", "digest"):
        if not isinstance(meta.get(key), str):
            raise InputError(meta_path, key, "is missing")
    said = JsonObject(meta_path, "", meta)
    for key in ("tokenizer_ref", "model"):
        said.text_or_none(key)
    if not can_be_path(meta.get("tokenizer_ref") or ""):
        raise said.fail("tokenizer_ref", NO_PATH)
    generator = said.record_or_empty("generator")
    generator.record_or_empty("counts")
    if "notes" in generator:
        generator.array("notes")
    prompts_path = directory / PROMPTS
    prompts = read_prompts(prompts_path) if prompts_path.exists() else None
    requests = _read_requests(directory)
    load = Load.from_json(meta.get("load"), meta_path)
    refused = _read_refused(meta_path, meta, len(requests))
    sessions = {}
    if (directory / SESSIONS).exists():
        sessions = read_sessions(directory / SESSIONS, len(requests))
    check_prompts(directory, requests, prompts, sessions)
    # Last: a broken row is named by what is wrong with it, not by having been changed.
    found = digest_of(directory, load, refused)
    if found != meta["digest"]:
        raise InputError(
            meta_path,
            "digest",
            f"is {str(meta['digest'])[:12]}…, the files give {found[:12]}…: they were changed",
            "generate or import the workload again",
        )
    return Workload(requests, prompts, meta, directory, load, sessions, refused)


def digest_of(directory: Path, load: Load, refused: Collection[int] = ()) -> str:
    """Sha256 over the hex sha256 of the three files of every workload, in order.

    Then, each where there is any, of ``load`` as canonical JSON, of ``sessions.csv``, and of the
    list of refused requests as JSON.
    """
    more = [] if load.is_open else [digest_json(load.to_json())]
    if (directory / SESSIONS).exists():
        more.append(sha256_file(directory / SESSIONS))
    if refused:
        more.append(digest_json(sorted(refused)))
    return digest_files((directory / file for file in (LENGTHS, INTERVALS, PROMPTS)), more)


def _read_requests(directory: Path) -> list[WorkloadRequest]:
    lengths = integer_rows(directory / LENGTHS, LENGTH_COLUMNS, fix=_FIX)
    intervals = integer_rows(directory / INTERVALS, INTERVAL_COLUMNS, fix=_FIX)
    requests: list[WorkloadRequest] = []
    clock = 0
    for number, (row, gap) in enumerate(zip_longest(lengths, intervals)):
        if row is None or gap is None:
            raise InputError(directory, "", f"{LENGTHS} and {INTERVALS} differ in their row count")
        clock += gap[1]
        if row[0] != number or gap[0] != number or gap[2] != clock or row[2] < 1 or row[3] < 1:
            raise _wrong_row(directory, number, row, gap, clock)
        requests.append(WorkloadRequest(number, row[1], row[2], row[3], clock))
    if not requests:
        raise InputError(directory / LENGTHS, "", "has no requests", _FIX)
    return requests


def _read_refused(path: Path, meta: Mapping[str, Any], num_requests: int) -> frozenset[int]:
    found = meta.get("refused") or []
    if not isinstance(found, list) or not all(
        type(request_id) is int and 0 <= request_id < num_requests for request_id in found
    ):
        raise InputError(path, "refused", f"expected a list of request ids below {num_requests}")
    return frozenset(found)


def _wrong_row(
    directory: Path, number: int, row: tuple[int, ...], gap: tuple[int, ...], clock: int
) -> InputError:
    for file, column, found, expected, good in (
        (LENGTHS, "request_id", row[0], number, row[0] == number),
        (INTERVALS, "request_id", gap[0], number, gap[0] == number),
        (INTERVALS, "arrival_time_ns", gap[2], clock, gap[2] == clock),
        (LENGTHS, "num_prefill_tokens", row[2], "at least 1", row[2] >= 1),
        (LENGTHS, "num_decode_tokens", row[3], "at least 1", row[3] >= 1),
    ):
        if not good:
            where = f"{line_of(directory / file, number)}, column {column}"
            return InputError(directory / file, where, f"expected {expected}, found {found}")
    raise AssertionError("the row is right")


def check_prompts(
    directory: Path,
    requests: Sequence[WorkloadRequest],
    prompts: Mapping[int, Prompt] | None,
    sessions: Mapping[int, SessionTurn],
) -> None:
    """Raise `InputError` where a request's prompt is missing or cannot have its length."""
    path = directory / LENGTHS
    lengths: dict[int, int] = {}
    for number, prompt_id, prefill, _, _ in requests:
        if lengths.setdefault(prompt_id, prefill) != prefill:
            raise InputError(
                path,
                f"{line_of(path, number)}, column num_prefill_tokens",
                f"is {prefill}, prompt {prompt_id} has {lengths[prompt_id]} tokens in an earlier "
                "request",
            )
        if prompts is None:
            continue
        prompt = prompts.get(prompt_id)
        if prompt is None:
            raise InputError(
                path,
                f"{line_of(path, number)}, column prompt_id",
                f"prompt {prompt_id} is not in {PROMPTS}",
            )
        if not prompt.fits(prefill):
            raise InputError(
                path,
                f"{line_of(path, number)}, column num_prefill_tokens",
                f"is {prefill}, prompt {prompt_id} has {prompt.size()} tokens",
            )
    _check_answers(directory / PROMPTS, requests, prompts or {}, sessions)


def _check_answers(
    path: Path,
    requests: Sequence[WorkloadRequest],
    prompts: Mapping[int, Prompt],
    sessions: Mapping[int, SessionTurn],
) -> None:
    """A prompt may go on with an answer only where an earlier turn of its session gave it."""
    answered: dict[tuple[int, int], int] = {}  # by session and prompt: output tokens
    for request_id, prompt_id, _, decode, _ in requests:
        turn, prompt = sessions.get(request_id), prompts.get(prompt_id)
        if prompt is not None and (beyond := prompt.tokens_of_answer(prompts)):
            key = (turn.session_id if turn else -1, prompt.prefix_of or 0)
            if beyond > answered.get(key, 0):
                raise InputError(
                    path,
                    f"prompt_id {prompt_id}, prefix_tokens",
                    f"takes {beyond} tokens of an answer to prompt {prompt.prefix_of}, an earlier "
                    f"turn of its session gives {answered.get(key, 0)}",
                )
        if turn is not None:
            answered[turn.session_id, prompt_id] = decode
