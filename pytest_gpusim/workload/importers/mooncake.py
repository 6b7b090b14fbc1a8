"""Mooncake's traces and their relatives: JSON lines of times, lengths and hashes of blocks.

Mooncake's own ``timestamp`` is in whole milliseconds and a hash stands for 512 tokens. Others write
the same keys in other units: GuideLLM's in seconds, Alibaba's Qwen traces (``chat_id``, ``turn``)
in seconds with blocks of 16, AIPerf's with sessions. So times that do not look like milliseconds
(all with a point, or less than one apart on average) are read only where the unit is asked for or
stated (``timestamp_unit``), and the unit is always said.

- ``hash_ids`` say which prompts begin alike; lines without them (or with an empty list) share
  nothing. ``text_input`` instead of lengths is counted by a tokenizer.
- ``session_id`` with ``delay`` (ms, or the unit asked for): the turn is sent so long after the
  turn before has ended.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from pytest_gpusim.columns import UNITS_NS
from pytest_gpusim.documents import JsonObject, read_lines, shown
from pytest_gpusim.errors import InputError
from pytest_gpusim.workload.importers.base import (
    Trace,
    TraceRequest,
    from_zero,
    nanoseconds,
    write_trace,
)
from pytest_gpusim.workload.importers.hashed_blocks import HashedBlocks
from pytest_gpusim.workload.importers.options import ImportOptions
from pytest_gpusim.workload.load import SessionTurn
from pytest_gpusim.workload.prompts import Prompt
from pytest_gpusim.workload.tokenizer import LocalTokenizer, load_tokenizer

BLOCK_TOKENS = 512
UNIT_KEY = "timestamp_unit"
_CHATS = ("chat_id", "parent_chat_id", "turn")
_EPOCH_SECONDS = range(1_000_000_000, 4_000_000_000)
"""2001 to 2096."""


def import_workload(file: Path, out: Path, options: Mapping[str, Any]) -> None:
    """Import a Mooncake trace; requests without output tokens are left out and counted."""
    chosen = ImportOptions.of(options)
    trace = Trace("mooncake", Path(file), (), prompts={}, tokenizer_ref=chosen.tokenizer)
    lines = _Lines(trace, chosen)
    trace.check = lines.check
    trace.records = from_zero(trace, lines.records())
    write_trace(trace, out, chosen)


class _Lines:
    """Reads one file: its unit, its sessions, its prompts."""

    def __init__(self, trace: Trace, chosen: ImportOptions) -> None:
        self._trace = trace
        self._chosen = chosen
        self._blocks = HashedBlocks(trace)
        self._tokenizer: LocalTokenizer | None = None
        self._unit = chosen.unit
        self._sessions: dict[str, tuple[int, int]] = {}
        self._before = -1
        self._pointed: list[Decimal] = []
        self._whole = 0
        self._first: int | None = None
        self._passed_over: set[str] = set()

    def records(self) -> Iterator[TraceRequest]:
        path = self._trace.file
        bad = self._trace.left_out(self._chosen)
        lines = read_lines(path, parse_float=Decimal, or_array=True, bad=bad)
        for number, line in enumerate(lines):
            record = None
            with bad.where_bad():
                record = self._record(number, line)
            if record is not None:
                yield record

    def check(self) -> None:
        """Hold the times that were read against their unit, and say that."""
        self._require_milliseconds()
        unit = self._unit or "ms"
        said = "as the file says" if self._unit else "Mooncake's own; --unit says another"
        said = "as asked for" if self._chosen.unit else said
        self._trace.notes.append(f"times are in {unit} ({said})")
        if self._passed_over:
            names = ", ".join(sorted(self._passed_over))
            self._trace.notes.append(f"passed over: {names} (arrivals are the file's)")

    def _record(self, number: int, line: JsonObject) -> TraceRequest | None:
        session = self._session(line)
        if session is not None and session.turn and "timestamp" not in line:
            time = max(self._before, 0)
        else:
            time = self._time(line, "timestamp")
            if time < self._before:
                problem = f"{line.fields['timestamp']} is before the line above it"
                raise line.fail("timestamp", problem, "sort the file")
        decode = line.integer("output_length")
        prompt, prefill = self._prompt(number, line)
        self._before = time
        if session is not None:
            name = line.fields["session_id"]
            self._sessions[str(name)] = session.session_id, session.turn
        if decode == 0:
            self._trace.count("left_out_without_output")
            return None
        assert self._trace.prompts is not None
        self._trace.prompts[number] = prompt
        model = line.fields.get("model")
        return TraceRequest(
            time,
            prefill,
            decode,
            number,
            session=session,
            model=model if isinstance(model, str) else None,
        )

    def _prompt(self, number: int, line: JsonObject) -> tuple[Prompt, int]:
        if "text_input" in line and "input_length" not in line:
            if self._chosen.tokenizer is None:
                raise line.fail("text_input", "has no input_length", "give --tokenizer DIR")
            if self._tokenizer is None:
                self._tokenizer = load_tokenizer(self._chosen.tokenizer)
            text = line.text("text_input")
            prefill = len(self._tokenizer.encode(text))
            if not prefill:
                raise line.fail("text_input", "has no tokens")
            return Prompt(number, text=text), prefill
        prefill = line.integer("input_length", least=1)
        size = self._chosen.block_size or BLOCK_TOKENS
        hashes = line.fields.get("hash_ids")
        return self._blocks.prompt(number, hashes, prefill, size, line.place("hash_ids")), prefill

    def _session(self, line: JsonObject) -> SessionTurn | None:
        """Its place in a session, where turns follow each other by delays and not by the clock."""
        self._passed_over.update(key for key in _CHATS if key in line)
        if "session_id" not in line:
            return None
        name = str(line.fields["session_id"])
        if name not in self._sessions:
            return SessionTurn(len(self._sessions), 0)
        identity, turn = self._sessions[name]
        if "timestamp" in line and "delay" not in line:
            self._passed_over.add("session_id")
            return None
        delay = self._time(line, "delay") if "delay" in line else 0
        return SessionTurn(identity, turn + 1, delay)

    def _time(self, line: JsonObject, key: str) -> int:
        value = line.fields.get(key)
        is_number = isinstance(value, int | Decimal) and not isinstance(value, bool)
        if not is_number:
            raise line.fail(key, f"expected milliseconds from 0 on, found {shown(value)}")
        if isinstance(value, Decimal):
            self._pointed.append(value)
        else:
            self._whole += 1
        unit = self._unit
        if unit is None and UNIT_KEY in line:
            unit = line.text(UNIT_KEY)
            if unit not in UNITS_NS:
                raise line.fail(UNIT_KEY, f"expected one of {', '.join(UNITS_NS)}, found {unit!r}")
            self._unit = unit
        time = nanoseconds(value, UNITS_NS[unit or "ms"])  # type: ignore[arg-type]
        if time is None:
            words = {"s": "seconds", "ms": "milliseconds"}.get(unit or "ms", unit)
            raise line.fail(key, f"expected {words} from 0 on, found {shown(value)}")
        if self._first is None and key == "timestamp":
            self._first = time // UNITS_NS[unit or "ms"]
        return time

    def _require_milliseconds(self) -> None:
        """Refuse, where no unit is stated, times that may as well be seconds."""
        if self._unit is not None:
            return
        if self._first is not None and self._first in _EPOCH_SECONDS:
            raise InputError(
                self._trace.file,
                "timestamp",
                f"{self._first} and others may be seconds since 1970, or milliseconds",
                "give --unit s or --unit ms",
            )
        if not self._pointed:
            return
        count = len(self._pointed) + self._whole
        if self._whole and self._before >= (count - 1) * UNITS_NS["ms"]:
            return
        raise InputError(
            self._trace.file,
            "timestamp",
            f"{self._pointed[0]} and others are no whole milliseconds, as Mooncake's are, and may "
            "be seconds, as other tools' are",
            "give --unit s or --unit ms",
        )
