"""A run as it was read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pytest_gpusim.documents import JsonObject
from pytest_gpusim.errors import InputError
from pytest_gpusim.json_documents import read_json
from pytest_gpusim.limits import DOCUMENT_BYTES
from pytest_gpusim.runs.schema import BATCHES, META, PREDICTION
from pytest_gpusim.tables import find_table
from pytest_gpusim.texts import lines_within, open_text
from pytest_gpusim.workload.load import Load, SessionTurn, turns_followed

if TYPE_CHECKING:
    import pandas as pd


Clock = Literal["engine", "client"]


def clock_of(meta: Mapping[str, Any]) -> Clock:
    """Whose clock took a run's times: the engine's, unless its metadata say the client's.

    A client's times lie between sending a request and receiving its tokens; the engine's begin when
    the request is in its queue and end with the step that made the token.
    """
    return "client" if stated_clock(meta) == "client" else "engine"


def stated_clock(meta: Mapping[str, Any]) -> Any:
    """What a run's metadata say of its clock; None where they are silent. Runs of earlier releases
    say it in ``params``.
    """
    params = meta.get("params")
    params = params if isinstance(params, Mapping) else {}
    imported = params.get("import")
    imported = imported if isinstance(imported, Mapping) else {}
    stated = (meta.get("clock"), params.get("clock"), imported.get("clock"))
    return next((clock for clock in stated if clock), None)


@dataclass
class Run:
    """A run as read.

    ``requests`` has `REQUEST_COLUMNS` (absent optional ones are all-NA) and, where arrivals are its
    side's own, `ASKED_COLUMNS`, one row per request in order of id; ``tokens`` has
    `TOKEN_COLUMNS`, and ``token_id`` where the source knows it, or is None where the source has no
    token times; ``steps`` has `STEP_COLUMNS` where known.
    """

    path: Path
    meta: dict[str, Any]
    requests: pd.DataFrame
    tokens: pd.DataFrame | None
    steps: pd.DataFrame | None

    @property
    def run_id(self) -> str:
        """The run's name."""
        return str(self.meta["run_id"])

    @property
    def clock(self) -> Clock:
        """Whose clock its times are of (see `clock_of`)."""
        return clock_of(self.meta)

    @property
    def finished(self) -> pd.DataFrame:
        """The requests that statistics are made of: all but the error rows."""
        return self.requests[self.requests["status"] != "error"]

    @property
    def load(self) -> Load:
        """How many of its requests could be under way at once."""
        return Load.from_json(self.meta.get("load"), self.path / META)

    @property
    def sessions(self) -> dict[int, SessionTurn]:
        """Places in conversations by request id; empty where there are none."""
        if "session_id" not in self.requests.columns:
            return {}
        rows = self.requests[self.requests["session_id"].notna()]
        columns = (rows[name].tolist() for name in ("session_id", "turn", "think_time_ns"))
        turns = [SessionTurn(*turn) for turn in zip(*columns, strict=True)]
        return dict(zip(rows["request_id"].tolist(), turns, strict=True))

    @property
    def is_open_loop(self) -> bool:
        """Whether its requests were sent at their times, whatever became of the others."""
        return self.load.is_open and not turns_followed(self.sessions)

    def prediction(self) -> dict[str, Any] | None:
        """``prediction.json`` beside a simulated run; None where it was made without.

        Raises:
            InputError: It is no such document.
        """
        path = self.path / PREDICTION
        if not path.is_file():
            return None
        document = JsonObject(
            path, "", read_json(path, fix="make it with 'gpusim simulate --samples N'")
        )
        document.number("level")
        metrics = document.record("metrics")
        for metric in metrics.fields:
            figures = metrics.record(metric)
            for name in figures.fields:
                for key in ("ns", "low_ns", "high_ns"):
                    figures.record(name).number(key)
        return document.fields

    def batches(
        self, known: dict[str, dict[int, int]] | None = None
    ) -> list[dict[int, int]] | None:
        """Per step, tokens by request id, from ``step_batches.jsonl``; None where unknown.

        Steps of the same line share one mapping; those of several runs, where ``known`` is theirs.
        """
        path = find_table(self.path, BATCHES)
        if path is None:
            return None
        known = {} if known is None else known
        batches: list[dict[int, int]] = []
        with open_text(path) as stream:
            for number, line in enumerate(lines_within(path, stream, DOCUMENT_BYTES), start=1):
                batch = known.get(line)
                if batch is None:
                    try:
                        found = json.loads(line)
                        tokens = map(int, found.values())
                        batch = known[line] = dict(zip(map(int, found), tokens, strict=True))
                    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
                        raise InputError(
                            path, f"line {number}", "expected a JSON object, request id to tokens"
                        ) from None
                batches.append(batch)
        return batches
