"""A small run whose every figure is known."""

from __future__ import annotations

from typing import Any

from pytest_gpusim.runs import REQUEST_COLUMNS, TOKEN_COLUMNS


def request_row(request_id: int, times: list[int], **changes: Any) -> dict[str, Any]:
    """A finished request that arrived at 100 * id and whose tokens came at ``times``."""
    arrival = 100 * request_id
    row: dict[str, Any] = {
        "request_id": request_id,
        "arrival_time_ns": arrival,
        "sent_time_ns": arrival + 1,
        "scheduled_time_ns": arrival + 2,
        "first_token_time_ns": times[0],
        "ttft_ns": times[0] - arrival,
        "completion_time_ns": times[-1],
        "num_prefill_tokens": 16,
        "num_cached_tokens": 0,
        "num_decode_tokens": len(times),
        "num_decode_tokens_actual": len(times),
        "status": "ok",
        "backend": "test",
        "error_type": None,
        "error_msg": None,
    }
    return {**row, **changes}


def error_row(request_id: int) -> dict[str, Any]:
    """A failed request."""
    return {
        "request_id": request_id,
        "arrival_time_ns": 100 * request_id,
        "num_prefill_tokens": 16,
        "num_decode_tokens": 4,
        "status": "error",
        "error_type": "Timeout",
        "error_msg": "no answer,\nafter 30 s",
    }


def token_rows(request_id: int, times: list[int]) -> list[dict[str, Any]]:
    """The tokens of `request_row`."""
    before = 100 * request_id
    rows = []
    for index, time in enumerate(times):
        latency = time - before
        rows.append(dict(zip(TOKEN_COLUMNS, (request_id, index, time, latency), strict=True)))
        before = time
    return rows


TIMES = {0: [500, 600, 700], 1: [600, 700], 3: [900]}
REQUESTS = [*(request_row(i, times) for i, times in TIMES.items()), error_row(2)]
TOKENS = [row for i, times in TIMES.items() for row in token_rows(i, times)]
META = {"run_type": "real", "model": "tiny/model", "engine": {"max_num_seqs": 4}}
assert set(REQUESTS[0]) == set(REQUEST_COLUMNS)
