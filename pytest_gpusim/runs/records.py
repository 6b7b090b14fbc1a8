"""One request of a run, whoever ran it: what was asked, what became of it, and its rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count, repeat
from operator import sub
from typing import Any, NamedTuple

from pytest_gpusim.json_documents import plain_json
from pytest_gpusim.progress import Progress
from pytest_gpusim.runs.schema import ASKED_COLUMNS, ENGINE_COLUMNS, REQUEST_COLUMNS
from pytest_gpusim.workload import SessionTurn, Workload, WorkloadRequest


class EngineTimes(NamedTuple):
    """What a server tells a client of one request by its engine's own clock, in ns.

    Attributes:
        queue_ns: From the engine's queue to the first step with it.
        prefill_ns: From there to its first token.
        decode_ns: From its first token to its last one.
    """

    queue_ns: int
    prefill_ns: int
    decode_ns: int


@dataclass(kw_only=True, slots=True)
class RequestRecord:
    """What a run tells of one request; times in ns, from the run's start unless a user says other.

    Attributes:
        where: Its place in the file that it was read from, for messages.
        request_id: Its id in the run.
        arrival_ns: When it was due; where its side decides that, when that side could send it.
        num_prefill_tokens: Tokens of the prompt.
        num_decode_tokens: Output tokens that were asked for; None where nobody tells.
        sent_ns: When the client really sent it.
        scheduled_ns: When the engine first planned it.
        first_token_ns: Of a record with token times, those tell.
        completion_ns: Likewise; unknown for a failed request.
        num_decode_tokens_actual: Output tokens that came; token times tell as well.
        num_cached_tokens: Prompt tokens that the prefix cache had.
        token_times_ns: One per output token; None where the source has none.
        token_ids: One per output token, where known.
        error_type: Why it failed, in a word; None where it did not.
        error_msg: The same in a sentence.
        due_ns: When its workload asked for it, where ``arrival_ns`` is its side's own.
        session: Its place in a conversation.
        engine: Of a client's record, what the server told of its own clock.
    """

    where: str = ""
    request_id: int = -1
    arrival_ns: int
    num_prefill_tokens: int
    num_decode_tokens: int | None = None
    sent_ns: int | None = None
    scheduled_ns: int | None = None
    first_token_ns: int | None = None
    completion_ns: int | None = None
    num_decode_tokens_actual: int | None = None
    num_cached_tokens: int | None = None
    token_times_ns: Sequence[int] | None = None
    token_ids: Sequence[int] | None = None
    error_type: str | None = None
    error_msg: str | None = None
    due_ns: int | None = None
    session: SessionTurn | None = None
    engine: EngineTimes | None = None

    @property
    def status(self) -> str:
        """``ok``, ``early_stop`` where fewer tokens came than were asked for, or ``error``."""
        if self.error_type is not None:
            return "error"
        asked, came = self.num_decode_tokens, self.num_came
        return "early_stop" if asked is not None and came is not None and came < asked else "ok"

    @property
    def num_came(self) -> int | None:
        """Output tokens that came; None where unknown, and where none did."""
        if self.num_decode_tokens_actual is not None:
            return self.num_decode_tokens_actual
        return len(self.token_times_ns) if self.token_times_ns else None

    def row(self, backend: str, origin_ns: int = 0) -> tuple[Any, ...]:
        """Its row of ``request_metrics.csv``, times counted from ``origin_ns``."""
        times = self.token_times_ns
        first, completion = self.first_token_ns, self.completion_ns
        if times:
            first = times[0]
            if completion is None and self.error_type is None:
                completion = times[-1]
        came = self.num_came
        return (
            self.request_id,
            self.arrival_ns - origin_ns,
            _since(origin_ns, self.sent_ns),
            _since(origin_ns, self.scheduled_ns),
            _since(origin_ns, first),
            _since(self.arrival_ns, first),
            _since(origin_ns, completion),
            self.num_prefill_tokens,
            self.num_cached_tokens,
            self.num_decode_tokens if self.num_decode_tokens is not None else came or 0,
            came,
            self.status,
            backend,
            _one_line(self.error_type),
            _one_line(self.error_msg),
        )


def asked_of(workload: Workload, request: WorkloadRequest) -> dict[str, Any]:
    """Fields of a request's record that say what its workload asked, unless its arrival does."""
    if workload.is_open_loop:
        return {}
    follows = request.request_id in workload.follows
    return {
        "due_ns": None if follows else request.arrival_time_ns,
        "session": workload.sessions.get(request.request_id),
    }


def stated_load(workload: Workload) -> dict[str, Any]:
    """``load`` of ``run_meta.json``, where it is no open one."""
    return {} if workload.load.is_open else {"load": workload.load.to_json()}


def request_rows(
    records: Iterable[RequestRecord], backend: str, origin_ns: int = 0
) -> Iterator[tuple[Any, ...] | dict[str, Any]]:
    """Rows of ``request_metrics.csv``.

    With `ASKED_COLUMNS` where a record knows one of those, and with `ENGINE_COLUMNS`.
    """
    listed = list(records)
    asked = any(record.due_ns is not None or record.session is not None for record in listed)
    told = any(record.engine is not None for record in listed)
    for record in listed:
        row = record.row(backend, origin_ns)
        if asked:
            session = record.session or (None, None, None)
            row = (*row, _since(origin_ns, record.due_ns), *session)
        if told:
            columns = (*REQUEST_COLUMNS, *(ASKED_COLUMNS if asked else ()), *ENGINE_COLUMNS)
            times = record.engine or (None, None, None)
            yield dict(zip(columns, (*row, *times), strict=True))
        else:
            yield row


def token_rows(records: Sequence[RequestRecord], origin_ns: int = 0) -> Iterator[tuple[int, ...]]:
    """Rows of ``token_metrics.csv``, with token ids where known; of a failed request what came."""
    with Progress("write token times", len(records), "requests") as progress:
        for record in records:
            times = record.token_times_ns or ()
            since_origin = [time - origin_ns for time in times] if origin_ns else times
            latencies = map(sub, times, chain((record.arrival_ns,), times))
            rows = zip(repeat(record.request_id), count(), since_origin, latencies)
            if record.token_ids is None:
                yield from rows
            else:
                pairs = zip(rows, record.token_ids, strict=True)
                yield from ((*row, token) for row, token in pairs)
            progress.advance()


def lateness(own_ns: Sequence[int], since_arrival_ns: Sequence[int]) -> dict[str, Any]:
    """``lateness`` of ``run_meta.json``: how late requests were sent.

    Args:
        own_ns: By the load generator's own fault.
        since_arrival_ns: After the arrival, whatever it waited for.
    """
    if not own_ns:
        return {"max_ns": None, "mean_ns": None, "p99_ns": None, "max_since_arrival_ns": None}
    import numpy as np

    own = np.array(own_ns)
    return {
        "max_ns": int(own.max()),
        "mean_ns": int(own.mean()),
        "p99_ns": int(np.percentile(own, 99)),
        "max_since_arrival_ns": max(since_arrival_ns),
    }


def _since(start_ns: int, time_ns: int | None) -> int | None:
    return None if time_ns is None else time_ns - start_ns


def _one_line(text: str | None) -> str | None:
    """A tool's words as a cell of a CSV can hold them."""
    return None if text is None else " ".join(plain_json(text).replace("\0", " ").split())
