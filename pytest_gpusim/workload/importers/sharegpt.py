"""Conversations as texts: ShareGPT's, chat messages, and vLLM's custom data set.

- ShareGPT: a JSON array, or JSON lines, of ``conversations`` with ``from`` (``human``, ``gpt``,
  ``system``) and ``value``;
- the same with ``messages`` of ``role`` and ``content``, a text or a list of parts that are texts;
- vLLM's custom data set, JSON lines of ``prompt`` and ``output_tokens``.

Lengths are counted by a local tokenizer; arrivals are made from the options, of a conversation's
first turn. Each question with an answer is a request. The prompt of a later turn is all that was
said before, so it begins with the turn before and its answer; it is sent a think time, which the
options make, after that has ended.
Turns without a text, without an answer or without tokens are left out and counted.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_gpusim.documents import JsonObject, LeftOut, read_lines
from pytest_gpusim.errors import InputError, UsageError
from pytest_gpusim.json_documents import parse_json, plain_json
from pytest_gpusim.limits import DOCUMENT_BYTES
from pytest_gpusim.texts import read_text_within
from pytest_gpusim.workload.generate import Seconds
from pytest_gpusim.workload.importers.base import Trace, TraceRequest, with_arrivals, write_trace
from pytest_gpusim.workload.importers.options import ImportOptions
from pytest_gpusim.workload.load import SessionTurn
from pytest_gpusim.workload.messages import parts_as_text
from pytest_gpusim.workload.prompts import Prompt
from pytest_gpusim.workload.tokenizer import LocalTokenizer, load_tokenizer

_ASKS, _ANSWERS = ("human", "user"), ("gpt", "assistant", "chatgpt", "bing", "bard")
_SETS = ("system", "developer", "tool")


@dataclass(frozen=True)
class _Turn:
    """A question with all that was said before it, and how long the answer is."""

    prompt: str
    num_prefill_tokens: int
    num_decode_tokens: int


def import_workload(file: Path, out: Path, options: Mapping[str, Any]) -> None:
    """Import conversations; needs ``tokenizer`` and ``rate``."""
    chosen = ImportOptions.of(options)
    if chosen.tokenizer is None:
        raise UsageError("workload import sharegpt: counts tokens, give --tokenizer DIR")
    trace = Trace("sharegpt", Path(file), (), prompts={}, tokenizer_ref=chosen.tokenizer)
    reader = _Conversations(trace, load_tokenizer(chosen.tokenizer), trace.left_out(chosen))
    sessions: list[list[_Turn]] = []
    count = 0
    for turns in reader.conversations():
        if chosen.first is not None and count >= chosen.first:
            break
        sessions.append(turns)
        count += len(turns)
    if not sessions and reader.first_null is not None:
        raise reader.first_null
    if not sessions and trace.counts:
        left = ", ".join(f"{count} {what}" for what, count in trace.counts.items())
        raise InputError(trace.file, "", f"no question in it has an answer ({left})")
    firsts = [(turns[0].num_prefill_tokens, turns[0].num_decode_tokens) for turns in sessions]
    times = [time for time, _, _ in with_arrivals(trace, firsts, chosen)]
    trace.records = _records(trace, sessions, times, chosen)
    write_trace(trace, out, chosen)


def _records(
    trace: Trace,
    sessions: Sequence[Sequence[_Turn]],
    times: Sequence[int],
    chosen: ImportOptions,
) -> Iterator[TraceRequest]:
    """A session's turns after each other; each later one arrives, as said, with the first."""
    assert trace.prompts is not None
    number = 0
    pause = Seconds.parse(chosen.think_time or "0", "--think-time")
    stream = random.Random(f"sessions:{chosen.seed}")
    for session, (turns, time) in enumerate(zip(sessions, times, strict=True)):
        for place, turn in enumerate(turns):
            trace.prompts[number] = Prompt(number, text=turn.prompt)
            think = stream.uniform(pause.low, pause.high) if place else 0.0
            yield TraceRequest(
                time,
                turn.num_prefill_tokens,
                turn.num_decode_tokens,
                number,
                session=SessionTurn(session, place, round(think * 1e9)) if len(turns) > 1 else None,
            )
            number += 1


class _Conversations:
    """Reads one file, whatever its dialect."""

    def __init__(self, trace: Trace, tokenizer: LocalTokenizer, bad: LeftOut) -> None:
        self._trace = trace
        self._tokenizer = tokenizer
        self._bad = bad
        self.first_null: InputError | None = None
        """The first turn without a text, where one was left out for that."""

    def conversations(self) -> Iterator[list[_Turn]]:
        """The turns of each conversation that has any."""
        for entry in self._entries():
            turns: list[_Turn] = []
            with self._bad.where_bad():
                turns = self._turns(entry)
            if turns:
                yield turns

    def _entries(self) -> Iterator[JsonObject]:
        path = self._trace.file
        text = read_text_within(path, DOCUMENT_BYTES)
        if not text.lstrip().startswith("["):
            if text.lstrip().partition("\n")[0].strip() == "{":  # one, over several lines
                yield JsonObject(path, "", parse_json(text, path))
            else:
                yield from read_lines(path, bad=self._bad)
            return
        for number, entry in enumerate(parse_json(text, path)):
            with self._bad.where_bad():
                yield JsonObject(path, f"conversation {number}", entry)

    def _turns(self, entry: JsonObject) -> list[_Turn]:
        if "prompt" in entry:
            return self._custom(entry)
        if entry.fields.get("filetype") == "generate_conversations":
            raise entry.fail(
                "filetype",
                "tells vLLM's benchmarks/multi_turn how to make conversations, and holds none",
                "import what that writes with --output-file, or make some with gpusim workload "
                "generate --turns",
            )
        key = next(
            (key for key in ("conversations", "conversation", "messages", "items") if key in entry),
            "conversations",
        )
        said = entry.fields.get(key)
        if key not in entry and entry.where == "line 1":
            problem = "expected a JSON array of conversations, or JSON lines of them"
            raise InputError(entry.path, "", problem)
        if not isinstance(said, list):
            raise entry.fail(key, "expected an array of turns")
        if len(said) < 2:
            self._trace.count("left_out_single_turn")
            return []
        turns: list[_Turn] = []
        before: list[str] = []
        asked, ended = False, ""
        for place, each in enumerate(said):
            role, text = _spoken(entry, f"{key}[{place}]", each, place)
            if text is None:
                ended = "left_out_without_text"
                wrong = entry.fail(f"{key}[{place}].value", "expected a text")
                self.first_null = self.first_null or wrong
                break
            if role == "answers" and asked:
                turn = self._turn("\n".join(before), text)
                if turn is None:
                    ended = "left_out_empty"
                    break
                turns.append(turn)
            # An answer to nothing, such as a conversation's middle begins with, is said before.
            before.append(text)
            asked = role == "asks" or (asked and role == "sets")
        if ended or not turns:
            self._trace.count(ended or "left_out_without_answer")
        return turns

    def _turn(self, prompt: str, answer: str) -> _Turn | None:
        prefill = len(self._tokenizer.encode(prompt))
        decode = len(self._tokenizer.encode(answer, special=False))
        return _Turn(prompt, prefill, decode) if prefill and decode else None

    def _custom(self, entry: JsonObject) -> list[_Turn]:
        prompt = _plain(entry, "prompt", entry.fields["prompt"])
        prefill = len(self._tokenizer.encode(prompt))
        if "output_tokens" not in entry:
            raise entry.fail("output_tokens", "is missing: how long the answer is")
        decode = entry.integer("output_tokens")
        if not prefill or not decode:
            self._trace.count("left_out_empty")
            return []
        return [_Turn(prompt, prefill, decode)]


def _spoken(entry: JsonObject, where: str, each: Any, place: int) -> tuple[str, str | None]:
    """Who speaks (asks, answers or sets the scene), and the text; None where there is none."""
    if not isinstance(each, dict):
        raise entry.fail(where, "expected a JSON object")
    role = each.get("from", each.get("role"))
    key = "value" if "value" in each or "content" not in each else "content"
    text = each.get(key)
    if text is not None:
        text = _plain(entry, f"{where}.{key}", text)
    name = str(role).lower()
    if role is None:
        return ("asks", "answers")[place % 2], text
    if name in _ASKS:
        return "asks", text
    if name in _ANSWERS:
        return "answers", text
    if name in _SETS:
        return "sets", text
    raise entry.fail(where, f"expected a known speaker, found {plain_json(name)[:40]!r}")


def _plain(entry: JsonObject, where: str, said: Any) -> str:
    text = parts_as_text(said)
    if text is None or plain_json(text) != text:
        kinds = [p.get("type") for p in said if isinstance(p, dict)] if type(said) is list else []
        parts = f", found parts of the kinds {', '.join(map(str, kinds))}" if kinds else ""
        raise entry.fail(where, f"expected a text{parts[:100]}")
    return text
