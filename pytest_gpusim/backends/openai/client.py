"""One streamed completion of an OpenAI-compatible server, with the time of each token.

A chunk may hold several tokens, or none: tokens are counted by the server's running usage where it
sends one, else by chunks, which the final usage then confirms or refutes.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import perf_counter_ns
from typing import Any, Literal

import aiohttp

from pytest_gpusim.limits import RESPONSE_BYTES
from pytest_gpusim.runs.records import EngineTimes

Counted = Literal["usage", "chunks"]
_BODY_LIMIT = 1 << 16
_MESSAGE_LIMIT = 300
_MAX_TOKENS = 10_000_000
"""No request has more: a greater number is not a count."""
_MOST_MS = 1e9
"""No request takes longer: a greater number is not a time."""
_ENGINE_TIMES = ("queue_time_ms", "time_to_first_token_ms", "generation_time_ms")
"""vLLM's ``PerRequestMetrics`` (``--enable-per-request-metrics``, in 0.27 and later): from the
engine's queue to the first step, from there to the first token, from there to the last."""
_FAILED = ("abort", "error")
"""What servers give as finish_reason of a request that they did not serve to its end."""


REDIRECTS = (301, 302, 303, 307, 308)


def elsewhere(response: aiohttp.ClientResponse) -> str:
    """What is said of a redirect, which is not followed: the server that is named is measured."""
    place = response.headers.get("Location", "nowhere")
    return f"redirects to {place}; name the server that answers with --url"


class BrokenStream(Exception):
    """The answer is not a complete stream of completion chunks."""


class ServerError(Exception):
    """The server reported an error, in the stream or instead of it."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass
class Answer:
    """What came of one request; times are readings of `time.perf_counter_ns`.

    ``token_times_ns`` has one entry per token that was counted; those of one chunk share its time.
    ``token_ids`` are those that the server told, where it was asked; ``engine`` is what it told of
    its own clock. ``error`` is (type, message).
    """

    sent_ns: int = 0
    token_times_ns: list[int] = field(default_factory=list)
    chunks: int = 0
    counted: Counted = "chunks"
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None
    error: tuple[str, str] | None = None
    token_ids: list[int] = field(default_factory=list)
    engine: EngineTimes | None = None

    @property
    def num_tokens(self) -> int:
        """Output tokens: what the server says in the end, else what was counted."""
        if self.completion_tokens is not None:
            return self.completion_tokens
        return len(self.token_times_ns)

    @property
    def tokens_timed(self) -> bool:
        """Whether each output token has its time."""
        return len(self.token_times_ns) == self.num_tokens

    def take(self, event: Mapping[str, Any], at: int) -> None:
        """Take in one event of the stream, which arrived at ``at``."""
        if event.get("error"):
            raise _server_error("ErrorInStream", event)
        usage = event.get("usage")
        total = usage.get("completion_tokens") if isinstance(usage, dict) else None
        if type(total) is int and _count(total) is None:
            raise BrokenStream(f"usage.completion_tokens is {total}: not a count of tokens")
        choices = event.get("choices")
        if isinstance(choices, list) and choices:
            self._take_choice(choices[0], total, at)
        self.engine = _engine_times(event.get("metrics")) or self.engine
        if isinstance(usage, dict):
            self.completion_tokens = total if type(total) is int else self.completion_tokens
            # Zero is what a server says that does not count prompts.
            self.prompt_tokens = _count(usage.get("prompt_tokens")) or self.prompt_tokens
            details = usage.get("prompt_tokens_details")
            cached = _count(details.get("cached_tokens")) if isinstance(details, dict) else None
            self.cached_tokens = self.cached_tokens if cached is None else cached

    def _take_choice(self, choice: Any, total: Any, at: int) -> None:
        if not isinstance(choice, dict):
            raise BrokenStream("a choice is not an object")
        self.finish_reason = choice.get("finish_reason") or self.finish_reason
        ids = choice.get("token_ids")
        if isinstance(ids, list) and all(type(token) is int for token in ids):
            self.token_ids += ids
        if type(total) is int:
            self.counted = "usage"
            new = total - len(self.token_times_ns)
        else:
            # A closing chunk without text is an envelope, any other one holds a token.
            new = 1 if choice.get("text") or not choice.get("finish_reason") else 0
        if new > 0:
            self.chunks += 1
            self.token_times_ns += [at] * new


async def complete(
    session: aiohttp.ClientSession,
    url: str,
    payload: bytes,
    *,
    timeout_s: float,
    scrub: Callable[[str], str] = str,
) -> Answer:
    """Send one completion request and read its stream; every failure becomes ``answer.error``.

    Args:
        session: With the headers set, and no limits of its own.
        url: ``…/v1/completions``.
        payload: The request as JSON, ``stream`` on.
        timeout_s: From sending to the stream's end.
        scrub: Applied to messages, so that no secret is kept.
    """
    headers = {"Content-Type": "application/json"}
    answer = Answer(sent_ns=perf_counter_ns())
    try:
        async with (
            asyncio.timeout(timeout_s),
            session.post(url, data=payload, headers=headers, allow_redirects=False) as response,
        ):
            if response.status in REDIRECTS:
                raise ServerError(f"HTTP{response.status}", elsewhere(response))
            if response.status != 200:
                raise _server_error(f"HTTP{response.status}", await _body_of(response))
            await _read_stream(response, answer)
        if answer.finish_reason in _FAILED:
            raise ServerError("Aborted", f"the finish_reason is {answer.finish_reason!r}")
        if answer.num_tokens == 0 or not answer.token_times_ns:
            raise BrokenStream("the stream ended without a token")
    except TimeoutError:
        said = f"no end of the stream within {timeout_s:g} s (--param timeout=SECONDS)"
        answer.error = ("Timeout", said)
    except ServerError as error:
        answer.error = (error.kind, str(error))
    except (BrokenStream, aiohttp.ClientPayloadError) as error:
        answer.error = ("BrokenStream", str(error))
    except (aiohttp.ClientConnectorError, ConnectionRefusedError) as error:
        answer.error = ("ConnectionFailed", str(error))
    except (aiohttp.ClientError, OSError) as error:
        answer.error = (type(error).__name__, str(error))
    if answer.error is not None:
        # In this order: of a secret that is cut in two, the rest would be kept.
        answer.error = (answer.error[0], _one_line(scrub(answer.error[1])))
    return answer


async def _read_stream(response: aiohttp.ClientResponse, answer: Answer) -> None:
    decoder = EventDecoder()
    received, limit = 0, RESPONSE_BYTES.value
    async for data in response.content.iter_any():
        at = perf_counter_ns()
        received += len(data)
        if received > limit:
            raise BrokenStream(f"more than {limit:,} bytes; {RESPONSE_BYTES.advice}")
        for event in decoder.feed(data):
            if event == "[DONE]":
                return
            try:
                document = json.loads(event)
            except (ValueError, RecursionError):
                raise BrokenStream(f"an event is not JSON: {event}") from None
            if not isinstance(document, dict):
                raise BrokenStream(f"an event is not an object: {event}")
            answer.take(document, at)
    if answer.finish_reason is None:
        raise BrokenStream("the stream ended before it was done")


async def _body_of(response: aiohttp.ClientResponse) -> Mapping[str, Any]:
    # A body is an error's words: what is beyond a page of them is not read.
    text = (await response.content.read(_BODY_LIMIT)).decode("utf-8", "replace")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        document = None
    if isinstance(document, dict):
        return document
    return {"error": {"message": text.strip() or response.reason or "no message"}}


def _server_error(kind: str, document: Mapping[str, Any]) -> ServerError:
    error = document.get("error", document.get("message", document.get("detail", document)))
    message = error.get("message", error) if isinstance(error, dict) else error
    return ServerError(kind, str(message))


def _count(value: Any) -> int | None:
    """A number of tokens as a server tells it; None where it is none."""
    return value if type(value) is int and 0 <= value <= _MAX_TOKENS else None


def _engine_times(metrics: Any) -> EngineTimes | None:
    """Times that a server tells of its engine; None where it does not tell all of them."""
    if not isinstance(metrics, dict):
        return None
    times: list[float] = []
    for name in _ENGINE_TIMES:
        time: Any = metrics.get(name)
        is_number = isinstance(time, int | float) and not isinstance(time, bool)
        if not is_number or not 0 <= time < _MOST_MS:
            return None
        times.append(time)
    return EngineTimes(*(round(time * 1e6) for time in times))


def _one_line(text: str) -> str:
    return " ".join(text.split())[:_MESSAGE_LIMIT] or "no message"


class EventDecoder:
    """Server-sent events out of arbitrary pieces of bytes; comments and other fields are dropped.

    Follows the event-stream format of the HTML standard as far as ``data`` fields go.
    """

    def __init__(self) -> None:
        self._rest: list[bytes] = []
        self._data: list[str] = []

    def feed(self, piece: bytes) -> list[str]:
        """The events that are complete with ``piece``."""
        if b"\n" not in piece:
            self._rest.append(piece)  # put together once: a line may come byte by byte
            return []
        *lines, rest = b"".join((*self._rest, piece)).split(b"\n")
        self._rest = [rest]
        events = []
        for raw in lines:
            line = raw.rstrip(b"\r").decode("utf-8", errors="replace")
            if line.startswith("data:"):
                self._data.append(line[5:].removeprefix(" "))
            elif not line and self._data:
                events.append("\n".join(self._data))
                self._data = []
        return events
