"""Tiny runs, written and read through the contract, in milliseconds."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_gpusim.runs import Run, read_run, write_run

MS = 1_000_000

ENGINE = {
    "max_num_seqs": 16,
    "max_num_batched_tokens": 256,
    "max_model_len": 4096,
    "block_size": 16,
    "num_gpu_blocks": 512,
    "enable_prefix_caching": True,
    "async_scheduling": False,
    "dtype": "float32",
    "tensor_parallel_size": 1,
    "enforce_eager": True,
    "engine_version": "0.32.0",
}
PROFILE = {
    "model": "tiny/model",
    "hardware": "cpu",
    "device_name": "Synthetic processor, 2 cores",
    "engine_version": "0.32.0",
    "engine_mode": "eager",
    "dtype": "float32",
    "tensor_parallel_sizes": [1],
    "calibrated_on": [],
}
REAL_META: dict[str, Any] = {
    "run_type": "real",
    "backend": "vllm",
    "model": "tiny/model",
    "hardware": "cpu",
    "device_name": "Synthetic processor, 2 cores",
    "workload_digest": "w" * 64,
    "engine": ENGINE,
    "warmup": {"requests": 4},
}
SIM_META: dict[str, Any] = {
    **REAL_META,
    "run_type": "vidur",
    "backend": "vidur",
    "warmup": None,
    "profile": PROFILE,
    "operator_shares": {"mlp_up_proj": 0.8, "overhead": 0.2},
}


def request(
    number: int,
    arrival: float,
    token_times: Sequence[float],
    *,
    prefill: int = 10,
    asked: int | None = None,
    scheduled: float | None = None,
    sent: float | None = None,
    cached: int | None = 0,
    error: str | None = None,
) -> dict[str, Any]:
    """One request, times in ms; ``token_times`` are absolute, ``error`` makes it an error row."""
    times = [round(time * MS) for time in token_times]
    row: dict[str, Any] = {
        "request_id": number,
        "arrival_time_ns": round(arrival * MS),
        "sent_time_ns": round((arrival if sent is None else sent) * MS),
        "scheduled_time_ns": round((arrival if scheduled is None else scheduled) * MS),
        "num_prefill_tokens": prefill,
        "num_cached_tokens": cached,
        "num_decode_tokens": len(times) if asked is None else asked,
        "status": "ok",
        "times": times,
    }
    if error is not None:
        return {**row, "status": "error", "error_type": error, "times": []}
    return {
        **row,
        "first_token_time_ns": times[0],
        "ttft_ns": times[0] - row["arrival_time_ns"],
        "completion_time_ns": times[-1],
        "num_decode_tokens_actual": len(times),
        "status": "ok" if asked in (None, len(times)) else "early_stop",
    }


def make_run(
    out: Path,
    requests: Sequence[Mapping[str, Any]],
    meta: Mapping[str, Any],
    *,
    token_times: bool = True,
    steps: Sequence[Mapping[str, Any]] | None = None,
    batches: Sequence[Mapping[int, int]] | None = None,
) -> Run:
    """Write a run directory and read it back.

    The last token of each request comes up to 0.2 ms later, by chance: no two measured runs agree
    in every time, or nearly.
    """
    requests = _unlike_any_other(requests)
    tokens = [
        (row["request_id"], index, time, time - row["arrival_time_ns"])
        if index == 0
        else (row["request_id"], index, time, time - row["times"][index - 1])
        for row in requests
        for index, time in enumerate(row["times"])
    ]
    write_run(
        out,
        requests=requests,
        tokens=tokens if token_times else None,
        meta={"run_id": out.name, **meta},
        steps=steps,
        step_batches=batches,
    )
    return read_run(out)


_RUNS = itertools.count(1)


def _unlike_any_other(requests: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    rows = list(requests)
    if len(rows) < 12:  # these are for sums done by hand
        return rows
    noise = random.Random(next(_RUNS))
    for place, row in enumerate(rows):
        if len(row["times"]) > 1:
            end = row["times"][-1] + noise.randrange(200_000)
            rows[place] = {**row, "times": [*row["times"][:-1], end], "completion_time_ns": end}
    return rows


def steady(
    count: int,
    *,
    gap: float = 1000,
    ttft: float = 100,
    itl: float = 20,
    tokens: int = 6,
    **fields: Any,
) -> list[dict[str, Any]]:
    """``count`` requests ``gap`` ms apart, all with the same TTFT and ITL, in ms."""
    return [
        request(i, i * gap, [i * gap + ttft + k * itl for k in range(tokens)], **fields)
        for i in range(count)
    ]


def real_run(out: Path, requests: Sequence[Mapping[str, Any]], **arguments: Any) -> Run:
    """A real run of a warmed-up engine."""
    meta = {**REAL_META, **arguments.pop("meta", {})}
    return make_run(out, requests, meta, **arguments)


def sim_run(out: Path, requests: Sequence[Mapping[str, Any]], **arguments: Any) -> Run:
    """A simulated run of the same engine, its profile matching."""
    meta = {**SIM_META, **arguments.pop("meta", {})}
    return make_run(out, requests, meta, **arguments)
