"""Requests that a server refused, and those that failed half way, when a run becomes a workload."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_gpusim.registry import builtin_registry
from pytest_gpusim.runs import write_run
from pytest_gpusim.runs.records import RequestRecord, request_rows, token_rows
from pytest_gpusim.workload import Workload, read_workload
from tests.factories import make_workload

DONE = {"sent_ns": 0, "token_times_ns": [40, 50]}


def as_workload(tmp_path: Path, failed: dict[str, Any], source: Workload | None = None) -> Workload:
    """The workload of a run of two requests, of which the second failed so."""
    records = [
        RequestRecord(
            request_id=0, arrival_ns=0, num_prefill_tokens=9, num_decode_tokens=2, **DONE
        ),
        RequestRecord(
            request_id=1, arrival_ns=5, num_prefill_tokens=7, num_decode_tokens=3, **failed
        ),
    ]
    meta: dict[str, Any] = {"run_type": "real"}
    if source is not None:
        meta |= {"workload_dir": str(source.path), "workload_digest": source.digest}
    write_run(
        tmp_path / "run",
        requests=request_rows(records, "test"),
        tokens=token_rows(records),
        meta=meta,
    )
    importer = builtin_registry().workload_importers.get("run")
    importer(tmp_path / "run", tmp_path / "w", {})
    return read_workload(tmp_path / "w")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("HTTP400", "This model's maximum context length is 640 tokens"),
        ("HTTP503", "no capacity"),
        ("ValueError", "The prompt (length 700) is longer than the maximum model length of 640"),
        ("error", "Bad Request"),
    ],
)
@pytest.mark.parametrize("known", [False, True])
def test_what_was_refused_keeps_its_id_and_is_marked(
    tmp_path: Path, kind: str, message: str, known: bool
) -> None:
    source = make_workload(tmp_path / "source", [(9, 2, 0), (7, 3, 5)]) if known else None
    workload = as_workload(tmp_path, {"error_type": kind, "error_msg": message}, source)
    assert workload.refused == {1}
    assert len(workload.requests) == 2
    assert workload.meta["generator"]["counts"]["refused_not_simulated"] == 1


@pytest.mark.parametrize(
    "failed",
    [
        {"error_type": "Timeout", "error_msg": "no end of the stream within 5 s"},
        {"error_type": "HTTP500", "error_msg": "EngineCore died"},
        {"error_type": "HTTP400", "error_msg": "aborted", "token_times_ns": [60]},
    ],
)
def test_what_failed_half_way_is_simulated(tmp_path: Path, failed: dict[str, Any]) -> None:
    workload = as_workload(tmp_path, failed)
    assert workload.refused == frozenset()
    assert workload.meta["generator"]["counts"] == {"failed_as_asked": 1}
