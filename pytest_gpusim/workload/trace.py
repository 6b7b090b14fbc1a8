"""The workload directory: ``trace_lengths.csv``, ``trace_intervals.csv``, ``prompts.jsonl``."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

from pytest_gpusim.artifacts import (
    check_schema_version,
    digest_files,
    read_json,
)
from pytest_gpusim.errors import InputError, UsageError
from pytest_gpusim.tables import line_of, open_text
from pytest_gpusim.workload.prompts import Prompt, read_prompts

LENGTHS, INTERVALS, PROMPTS, META = (
    "trace_lengths.csv",
    "trace_intervals.csv",
    "prompts.jsonl",
    "workload_meta.json",
)
OUTPUTS = "outputs.jsonl"
_DIGITS = 19
_FIX = "make one with 'gpusim workload generate'"


class WorkloadRequest(NamedTuple):
    """One request. Lengths in tokens (the first output token counts); arrival from the start."""

    request_id: int
    prompt_id: int
    num_prefill_tokens: int
    num_decode_tokens: int
    arrival_time_ns: int


@dataclass
class Workload:
    """Requests in order of arrival, and what their prompts are made of.

    ``prompts`` maps prompt ids to contents; None where no prompt shares anything with another.
    """

    requests: list[WorkloadRequest]
    prompts: dict[int, Prompt] | None
    meta: dict[str, Any]
    path: Path

    @property
    def digest(self) -> str:
        """Sha256 over the digests of the workload's three files."""
        return str(self.meta["digest"])

    @property
    def workload_id(self) -> str:
        """Its name, ending in the first 12 digits of the digest."""
        return str(self.meta["workload_id"])

    def max_length(self) -> tuple[int, int]:
        """(request id, tokens) of the longest request, prompt and output together."""
        longest = max(self.requests, key=lambda r: r.num_prefill_tokens + r.num_decode_tokens)
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
    if not directory.is_dir():
        raise InputError(directory, "", "no such workload directory", _FIX)
    meta_path = directory / META
    if not meta_path.exists():
        raise InputError(directory, "", f"incomplete: no {META}", _FIX)
    meta = read_json(meta_path)
    if not isinstance(meta, dict):
        raise InputError(meta_path, "", "expected a JSON object")
    check_schema_version(meta_path, meta)
    for key in ("workload_id", "digest"):
        if not isinstance(meta.get(key), str):
            raise InputError(meta_path, key, "is missing")
    prompts_path = directory / PROMPTS
    prompts = read_prompts(prompts_path) if prompts_path.exists() else None
    requests = _read_requests(directory)
    check_prompts(directory, requests, prompts)
    # Last: a broken row is named by what is wrong with it, not by having been changed.
    found = digest_files(directory / file for file in (LENGTHS, INTERVALS, PROMPTS))
    if found != meta["digest"]:
        raise InputError(
            meta_path,
            "digest",
            f"is {str(meta['digest'])[:12]}…, the files give {found[:12]}…: they were changed",
            "generate or import the workload again",
        )
    return Workload(requests, prompts, meta, directory)


def read_outputs(workload: Workload) -> list[list[int]] | None:
    """Token ids that each request generated where the workload was recorded; None where unknown."""
    path = workload.path / OUTPUTS
    if not path.exists():
        return None
    with open_text(path) as stream:
        try:
            return [json.loads(line)["token_ids"] for line in stream]
        except (ValueError, LookupError, TypeError, RecursionError):
            raise InputError(path, "", "expected JSON lines with token_ids") from None


def _read_requests(directory: Path) -> list[WorkloadRequest]:
    lengths = _integer_rows(
        directory / LENGTHS,
        ["request_id", "prompt_id", "num_prefill_tokens", "num_decode_tokens"],
    )
    intervals = _integer_rows(
        directory / INTERVALS, ["request_id", "inter_arrival_ns", "arrival_time_ns"]
    )
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


def _integer_rows(path: Path, columns: list[str]) -> Iterator[tuple[int, ...]]:
    with open_text(path, fix=_FIX) as stream:
        reader = csv.reader(stream)
        header = next(reader, [])
        for column in columns:
            if column not in header:
                raise InputError(path, f"column {column}", "is missing", _FIX)
        places = [header.index(column) for column in columns]
        for row in reader:
            if not row:
                continue
            cells = [row[place] if place < len(row) else "" for place in places]
            # Python's int() takes more than digits: signs, underscores, blanks.
            if not all(map(str.isdecimal, cells)) or len(max(cells, key=len)) > _DIGITS:
                column, found = next(
                    pair
                    for pair in zip(columns, cells, strict=True)
                    if not pair[1].isdecimal() or len(pair[1]) > _DIGITS
                )
                raise InputError(
                    path,
                    f"line {reader.line_num}, column {column}",
                    f"expected a whole number that is not negative, found {found[:40]!r}",
                )
            yield tuple(map(int, cells))


def check_prompts(
    directory: Path, requests: Sequence[WorkloadRequest], prompts: Mapping[int, Prompt] | None
) -> None:
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
