"""What importers of other tools' results share: one way into a Run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from pytest_gpusim.artifacts import package_version, sha256_file
from pytest_gpusim.documents import NEVER, NS, LeftOut
from pytest_gpusim.errors import InputError
from pytest_gpusim.json_documents import plain_json
from pytest_gpusim.runs.importers.options import RunOptions
from pytest_gpusim.runs.importers.shared_prompts import SentPrompt, shared_prompts
from pytest_gpusim.runs.records import RequestRecord, request_rows, token_rows
from pytest_gpusim.runs.run import Clock
from pytest_gpusim.runs.writer import OWN_WORKLOAD, write_run
from pytest_gpusim.workload.load import Load, SessionTurn, turns_followed
from pytest_gpusim.workload.tokenizer import load_tokenizer
from pytest_gpusim.workload.trace import WorkloadRequest, read_workload
from pytest_gpusim.workload.writer import write_workload

ASKED_UNKNOWN = "output lengths asked for (num_decode_tokens is what came; 0 on error rows)"
_LATEST_NS = 2**63
_LONG_ANSWER = 8
"""Tokens that a server does not put into one chunk by chance."""
_MOST_WHOLE = 0.1
"""Share of such answers that may all the same have come in one piece."""


@dataclass
class ImportedRequest(RequestRecord):
    """One request of another tool, in ns on that tool's clock (any origin).

    Attributes:
        refused: Whether the server never took it up; it then has an ``error_type``.
        due_ns: Under a limit of requests at once, when it was due; ``arrival_ns`` is when the
            client could send it.
        model: Which of several models it was for.
        identity: The tool's own id of it, which no other request has.
        prompt: As it was sent, where the file tells.
        conversation: Its name, and the turn in it where that is told, where requests follow each
            other; a turn that does not count on begins it anew.
    """

    where: str
    arrival_ns: int
    num_prefill_tokens: int
    refused: bool = False
    due_ns: int | None = None
    model: str | None = None
    identity: str | None = None
    prompt: SentPrompt | None = None
    conversation: tuple[str, int | None] | None = None


def write_imported(
    out: Path,
    kind: str,
    path: Path,
    requests: Sequence[ImportedRequest],
    *,
    clock: Clock,
    not_recovered: Sequence[str],
    notes: Sequence[str] = (),
    meta: Mapping[str, Any] | None = None,
    tool: Mapping[str, Any] | None = None,
    load: Load | None = None,
    left_out: LeftOut = NEVER,
    options: RunOptions | None = None,
    simulator: str | None = None,
) -> None:
    """Write a run of ``requests``, in order of arrival, times from the first arrival on.

    Where requests share prompts, follow each other in sessions, were held back by a limit or were
    refused, the workload that says so lies in the run, as ``workload/``.

    Args:
        out: The run directory to write.
        kind: The importer's name.
        path: The file that was read.
        requests: All requests of the run, failed ones included.
        clock: Who took the times: the load generator or the engine.
        not_recovered: What the tool does not tell, for ``params.import``.
        notes: What else a reader must know of these times.
        meta: Further keys of ``run_meta.json``.
        tool: The tool's own description of its run (version, rate, …).
        load: How many requests were under way at once at most.
        left_out: The records that cannot be used.
        options: Which requests are taken.
        simulator: Its name, where these are a simulator's results.

    Raises:
        InputError: No request, times that contradict each other, or answers without streaming.
    """
    options = options or RunOptions()
    load = load or Load()
    requests = _with_prompts(path, requests, left_out)
    of_model, model = _of_one_model(path, requests, options, (meta or {}).get("model"))
    rows = _in_order(path, of_model, options)
    origin = rows[0].arrival_ns
    done = [request for request in rows if request.error_type is None]
    if clock == "client":
        _require_streamed(path, done)
    untimed = [request for request in done if request.token_times_ns is None]
    sessions = _sessions(rows)
    shared = shared_prompts(
        [request.prompt for request in rows],
        [request.num_prefill_tokens for request in rows],
        load_tokenizer(options.tokenizer) if options.tokenizer else None,
        before=_turns_before(sessions),
        produced=[request.num_decode_tokens_actual or 0 for request in rows],
    )
    refused = [number for number, request in enumerate(rows) if request.refused]
    said = list(notes)
    if left_out.number:
        share = f"{left_out.number} of {left_out.number + len(requests)} records"
        said.append(f"{share} cannot be used and were left out (--skip-bad)")
    said += [*([shared[1]] if shared else []), *options.chosen]
    if not load.is_open:
        said.append(f"at most {load.max_concurrency} requests at once: arrivals are those sent")
    more = {"model": model} if model else {}
    asked = _asked(rows, load)
    if sessions or not load.is_open:
        follows = turns_followed(sessions)
        for number, request in enumerate(rows):
            due = origin + asked[number].arrival_time_ns
            request.due_ns = None if number in follows else due
            request.session = sessions.get(number)

    def workload(place: Path) -> Mapping[str, Any]:
        write_workload(
            place,
            asked,
            shared[0] if shared else None,
            name=kind,
            seed=None,
            generator={"kind": kind, "file": path.name},
            load=load,
            sessions=sessions,
            refused=refused,
        )
        return {"workload_dir": OWN_WORKLOAD, "workload_digest": read_workload(place).digest}

    write_run(
        out,
        requests=request_rows(rows, kind, origin),
        tokens=None if untimed else token_rows(done, origin),
        workload=workload if shared or sessions or refused or not load.is_open else None,
        meta={
            "run_type": simulator or "real",
            "backend": kind,
            "clock": clock,
            **plain_json({**(meta or {}), **more}),
            **({} if load.is_open else {"load": load.to_json()}),
            "params": {
                "import": {
                    "kind": kind,
                    "file": path.name,
                    "sha256": sha256_file(path) if path.is_file() else None,
                    "clock": clock,
                    "token_times": not untimed,
                    "not_recovered": [
                        *not_recovered,
                        *_unknown(rows, done, untimed),
                        *(["what a conversation's turns share"] if sessions and not shared else []),
                    ],
                    "notes": said,
                    "requests": len(rows),
                    "failed": len(rows) - len(done),
                    "tool": plain_json(tool or {}),
                    "importer_version": package_version("pytest-gpusim"),
                }
            },
        },
    )


def _in_order(
    path: Path, requests: Sequence[ImportedRequest], options: RunOptions
) -> list[ImportedRequest]:
    """The requests that are taken, numbered in order of arrival, their times checked."""
    if not requests:
        raise InputError(path, "", "has no requests")
    _require_once(path, requests)
    rows = _selected(path, sorted(requests, key=lambda request: request.arrival_ns), options)
    for number, request in enumerate(rows):
        request.request_id = number
        _check_order(path, request)
        _check_range(path, request, rows[0].arrival_ns)
    return rows


def _require_once(path: Path, requests: Sequence[ImportedRequest]) -> None:
    seen: dict[str, str] = {}
    for request in requests:
        if request.identity is None:
            continue
        first = seen.setdefault(request.identity, request.where)
        if first != request.where:
            raise InputError(path, request.where, f"is request {request.identity}, as {first} is")


def _require_streamed(path: Path, done: Sequence[ImportedRequest]) -> None:
    """Refuse answers that came in one piece: when their first tokens came is not told."""
    longer = [r for r in done if (r.num_decode_tokens_actual or 0) >= _LONG_ANSWER]
    whole = [r for r in longer if r.first_token_ns == r.completion_ns]
    if len(whole) > _MOST_WHOLE * len(longer):
        longest = max(request.num_decode_tokens_actual or 0 for request in whole)
        raise InputError(
            path,
            "",
            f"{len(whole)} of {len(longer)} answers, of up to {longest} tokens, came in one piece, "
            "so neither their TTFT nor their TPOT is known",
            "measure with streaming",
        )


def _unknown(
    rows: Sequence[ImportedRequest],
    done: Sequence[ImportedRequest],
    untimed: Sequence[ImportedRequest],
) -> Iterator[str]:
    """What the requests themselves do not tell."""
    if untimed and len(untimed) < len(done):
        yield f"token times ({len(untimed)} of {len(done)} requests have none)"
    elif untimed:
        yield "token times"
    if any(request.num_decode_tokens is None for request in rows):
        yield ASKED_UNKNOWN


def _with_prompts(
    path: Path, requests: Sequence[ImportedRequest], left_out: LeftOut
) -> Sequence[ImportedRequest]:
    """The requests, without those that were served and of whose prompt no token is told."""
    kept = []
    for request in requests:
        with left_out.where_bad():
            if request.error_type is None and request.num_prefill_tokens < 1:
                problem = "was served, and how many tokens its prompt has is not told"
                raise InputError(path, request.where, problem, "--skip-bad leaves it out")
            kept.append(request)
    return kept


def _of_one_model(
    path: Path, requests: Sequence[ImportedRequest], options: RunOptions, told: str | None
) -> tuple[Sequence[ImportedRequest], str | None]:
    """The requests of the one model that is simulated, and its name where requests say it.

    ``told`` is the model of all requests, where the file says that of the run.
    """
    models = sorted({request.model for request in requests if request.model is not None})
    wanted = options.only_model
    if wanted is not None:
        if not models and wanted == told:
            return requests, None
        models = models or ([told] if told else [])
        if wanted not in models:
            known = ", ".join(models) or "none"
            raise InputError(path, "", f"has no requests of {wanted!r}; models found: {known}")
        return [request for request in requests if request.model == wanted], wanted
    if len(models) > 1:
        raise InputError(
            path, "", f"has requests of {len(models)} models", f"--only-model {' or '.join(models)}"
        )
    return requests, models[0] if models else None


def _selected(
    path: Path, rows: list[ImportedRequest], options: RunOptions
) -> list[ImportedRequest]:
    begin = rows[0].arrival_ns
    low = begin + round((options.start or 0.0) * NS)
    high = begin + round(options.end * NS) if options.end is not None else None
    kept = [
        row for row in rows if row.arrival_ns >= low and (high is None or row.arrival_ns < high)
    ][: options.first]
    if not kept:
        raise InputError(path, "", f"no request is left by {' '.join(options.chosen)}")
    return kept


def _asked(rows: Sequence[ImportedRequest], load: Load) -> list[WorkloadRequest]:
    """What the client was to send: requests as they were due, at the lengths asked for."""
    due = [row.arrival_ns if row.due_ns is None else row.due_ns for row in rows]
    origin = min(due)
    # A limit lets requests go in their order: what was due earlier was not sent later.
    return [
        WorkloadRequest(
            number,
            number,
            max(row.num_prefill_tokens, 1),
            max(row.num_decode_tokens_actual or row.num_decode_tokens or 1, 1),
            time - origin,
        )
        for number, (row, time) in enumerate(zip(rows, accumulate(due, max), strict=True))
    ]


def _sessions(rows: Sequence[ImportedRequest]) -> dict[int, SessionTurn]:
    """Conversations of several turns: each is sent some time after the one before has ended."""
    latest: dict[str, tuple[int, int, int, int | None]] = {}
    found: dict[int, SessionTurn] = {}
    begun = 0
    for number, row in enumerate(rows):
        if row.conversation is None:
            continue
        name, told = row.conversation
        before = latest.get(name)
        if before is not None and (told is None or before[3] is None or told > before[3]):
            identity, turn, ended, _ = before
            found[number] = SessionTurn(identity, turn + 1, max(0, row.arrival_ns - ended))
        else:
            identity, turn = begun, -1
            begun += 1
            found[number] = SessionTurn(identity, 0)
        end = row.completion_ns if row.completion_ns is not None else row.arrival_ns
        latest[name] = identity, turn + 1, end, told
    several = {turn.session_id for turn in found.values() if turn.turn}
    return {number: turn for number, turn in found.items() if turn.session_id in several}


def _turns_before(sessions: Mapping[int, SessionTurn]) -> dict[int, int]:
    """Of each later turn the turn before it, both by their requests."""
    latest: dict[int, int] = {}
    found: dict[int, int] = {}
    for number, turn in sorted(sessions.items()):
        if turn.session_id in latest:
            found[number] = latest[turn.session_id]
        latest[turn.session_id] = number
    return found


def due_at_once(requests: Sequence[ImportedRequest]) -> None:
    """All were due when the first was: under a limit the client sends each as soon as it may."""
    begin = min((request.arrival_ns for request in requests), default=0)
    for request in requests:
        request.due_ns = begin


def most_at_once(requests: Sequence[ImportedRequest]) -> int:
    """How many requests were under way at the same time at most; refused ones are not."""
    marks: list[tuple[int, int]] = []
    for request in requests:
        if request.sent_ns is not None and request.completion_ns is not None:
            marks += [(request.sent_ns, 1), (request.completion_ns, -1)]
    # One that ends at the instant at which the next is sent has made room for it.
    return max(accumulate((change for _, change in sorted(marks)), initial=0))


def _check_order(path: Path, request: ImportedRequest) -> None:
    if request.error_type is not None:
        return
    previous, before = "arrival", request.arrival_ns
    for name, time in (
        ("sending", request.sent_ns),
        ("scheduling", request.scheduled_ns),
        ("first token", request.first_token_ns),
        ("completion", request.completion_ns),
    ):
        if time is not None and time < before:
            raise InputError(
                path,
                request.where,
                f"the {name} is {(before - time) / NS:.9g} s before the {previous}",
            )
        if time is not None:
            previous, before = name, time


def _check_range(path: Path, request: ImportedRequest, origin: int) -> None:
    known = (request.arrival_ns, request.sent_ns, request.scheduled_ns, request.completion_ns)
    latest = [time for time in known if time is not None]
    latest.extend((request.token_times_ns or [])[-1:])
    if max(latest) - origin >= _LATEST_NS:
        raise InputError(path, request.where, "its times span more than 64 bits of nanoseconds")
