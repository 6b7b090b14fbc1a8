"""A run as it was read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_gpusim.errors import InputError
from pytest_gpusim.runs.schema import BATCHES, META
from pytest_gpusim.tables import find_table, open_text
from pytest_gpusim.workload.load import Load, SessionTurn

if TYPE_CHECKING:
    import pandas as pd


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

    def batches(self) -> list[dict[int, int]] | None:
        """Per step, tokens by request id, from ``step_batches.jsonl``; None where unknown."""
        path = find_table(self.path, BATCHES)
        if path is None:
            return None
        batches: list[dict[int, int]] = []
        with open_text(path) as stream:
            for number, line in enumerate(stream, start=1):
                try:
                    batches.append({int(k): int(v) for k, v in json.loads(line).items()})
                except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
                    raise InputError(
                        path, f"line {number}", "expected a JSON object, request id to tokens"
                    ) from None
        return batches
