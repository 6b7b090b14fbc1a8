"""How a workload's requests are let go: at their times, N at once at most, or in conversations.

``workload_meta.json`` may hold ``load``, and ``sessions.csv`` may lie beside the trace. Without
them a workload is an open loop: every request is sent at its arrival, whatever the server does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pytest_gpusim.errors import InputError, UsageError
from pytest_gpusim.tables import integer_rows, line_of

SESSIONS = "sessions.csv"
SESSION_COLUMNS = ("request_id", "session_id", "turn", "think_time_ns")


@dataclass(frozen=True)
class Load:
    """How many requests may be under way at once.

    ``max_concurrency`` N: a first-come limit in order of request id on top of the arrivals, as the
    semaphore of ``vllm bench serve --max-concurrency`` (``vllm/benchmarks/serve.py``); arrivals
    that are all 0 make it a pure closed loop. None: an open loop.
    """

    max_concurrency: int | None = None

    def __post_init__(self) -> None:
        if self.max_concurrency is not None and self.max_concurrency < 1:
            raise UsageError(f"max_concurrency {self.max_concurrency}: expected at least 1")

    @property
    def is_open(self) -> bool:
        """Whether nothing holds a request back."""
        return self.max_concurrency is None

    def to_json(self) -> dict[str, Any]:
        """``load`` of ``workload_meta.json`` and ``run_meta.json``."""
        if self.max_concurrency is None:
            return {"kind": "open"}
        return {"kind": "closed", "max_concurrency": self.max_concurrency}

    @classmethod
    def from_json(cls, document: Any, path: Path) -> Load:
        """Read ``load`` of the metadata file ``path``; None is an open loop.

        Raises:
            InputError: It is neither open nor closed with a limit of at least 1.
        """
        if document is None:
            return cls()
        kind = document.get("kind") if isinstance(document, Mapping) else None
        if kind not in ("open", "closed"):
            raise InputError(
                path,
                "load",
                'expected {"kind": "open"} or {"kind": "closed", "max_concurrency": N}',
            )
        if kind == "open":
            return cls()
        limit = document.get("max_concurrency")
        if type(limit) is not int or limit < 1:
            raise InputError(
                path, "load, max_concurrency", f"expected a whole number from 1 on, found {limit!r}"
            )
        return cls(limit)


class SessionTurn(NamedTuple):
    """A request's place in a conversation.

    It is sent ``think_time_ns`` after its side received the last token of the turn before. Of a
    session's first turn, which is sent at its arrival, the think time says nothing.
    """

    session_id: int
    turn: int
    think_time_ns: int = 0


def write_sessions(path: Path, sessions: Mapping[int, SessionTurn]) -> None:
    """Write ``sessions.csv``, in order of request id."""
    with path.open("w", newline="") as stream:
        stream.write(",".join(SESSION_COLUMNS) + "\n")
        for request_id in sorted(sessions):
            stream.write(",".join(map(str, (request_id, *sessions[request_id]))) + "\n")


def read_sessions(path: Path, num_requests: int) -> dict[int, SessionTurn]:
    """Read and check ``sessions.csv``: places in conversations by request id.

    A request without a row is a conversation of its own. Turns of a session count up by one in
    order of request id.

    Raises:
        InputError: A row is wrong; names line and column.
    """
    sessions: dict[int, SessionTurn] = {}
    latest: dict[int, int] = {}
    before = -1
    for number, row in enumerate(integer_rows(path, SESSION_COLUMNS)):
        request_id, session_id, turn, think_time_ns = row

        def refuse(column: str, expected: str, found: int, place: int = number) -> InputError:
            where = f"{line_of(path, place)}, column {column}"
            return InputError(path, where, f"expected {expected}, found {found}")

        if not before < request_id < num_requests:
            expected = f"a request id above {before} and below {num_requests}"
            raise refuse("request_id", expected, request_id)
        if session_id in latest and turn != latest[session_id] + 1:
            expected = f"{latest[session_id] + 1}, the next turn of session {session_id}"
            raise refuse("turn", expected, turn)
        before, latest[session_id] = request_id, turn
        sessions[request_id] = SessionTurn(session_id, turn, think_time_ns)
    return sessions


def turns_followed(sessions: Mapping[int, SessionTurn]) -> dict[int, int]:
    """By request id, the request that it follows; first turns are absent."""
    latest: dict[int, int] = {}
    found: dict[int, int] = {}
    for request_id, turn in sorted(sessions.items()):
        if turn.session_id in latest:
            found[request_id] = latest[turn.session_id]
        latest[turn.session_id] = request_id
    return found
