"""Runs of a system whose truth is known, in memory: one prefill server, decodes that share it.

Requests queue for prefill, first come, first served; the time per output token grows with the
requests in flight. A run's noise is a factor on all its service times, drawn lognormally: queues
amplify it, as they do on a machine that has a slow day. All times in seconds until a run is made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pytest_gpusim.runs import Run

ENGINE: dict[str, Any] = {
    "engine": "synthetic",
    "engine_version": "0.32.0",
    "max_num_seqs": 256,
    "max_num_batched_tokens": 8192,
    "max_model_len": 4096,
    "block_size": 16,
    "num_gpu_blocks": 4096,
    "enable_prefix_caching": True,
    "async_scheduling": False,
    "long_prefill_token_threshold": 0,
    "scheduler_reserve_full_isl": True,
    "dtype": "float32",
    "tensor_parallel_size": 1,
    "enforce_eager": True,
}
COMMON: dict[str, Any] = {
    "model": "synthetic/model",
    "hardware": "cpu",
    "device_name": "synthetic",
    "workload_digest": "synthetic",
    "engine": ENGINE,
    "clock": "engine",
}
REAL: dict[str, Any] = {
    **COMMON,
    "run_type": "real",
    "backend": "synthetic",
    "warmup": {"requests": 8},
}
SIMULATED: dict[str, Any] = {
    **COMMON,
    "run_type": "vidur",
    "backend": "vidur",
    "profile": {
        "model": "synthetic/model",
        "hardware": "cpu",
        "device_name": "synthetic",
        "engine_version": "0.32.0",
        "engine_mode": "eager",
        "dtype": "float32",
        "tensor_parallel_sizes": [1],
        "calibrated_on": [],
    },
    "operator_shares": {"synthetic": 0.95, "overhead": 0.05},
    "extrapolated_share": 0.0,
}


@dataclass(frozen=True)
class Load:
    """What is served: arrivals (s), prompt and output tokens of each request."""

    arrival: np.ndarray
    prompt: np.ndarray
    output: np.ndarray


def load(requests: int, *, seed: int = 0, utilisation: float = 0.5) -> Load:
    """Poisson arrivals at which the prefill server is busy for a share of the time."""
    rng = np.random.default_rng([seed, 4])
    prompt = rng.integers(64, 512, requests)
    output = rng.integers(16, 128, requests)
    gaps = rng.exponential(_prefill(prompt).mean() / utilisation, requests)
    gaps[0] = 0.0
    return Load(np.cumsum(gaps), prompt, output)


@dataclass(frozen=True)
class Times:
    """When each request was scheduled and had its first token (s), and its time per token."""

    scheduled: np.ndarray
    first: np.ndarray
    per_token: np.ndarray


def serve(work: Load, *, prefill: Any = 1.0, decode: Any = 1.0) -> Times:
    """Serve a load, with factors on the service times, of all or of each request.

    Factors of several runs are rows; then so are the times.
    """
    service = _prefill(work.prompt) * prefill
    scheduled = np.empty(np.shape(service))
    free = np.zeros(scheduled.shape[:-1])
    for place, came in enumerate(work.arrival):
        scheduled[..., place] = np.maximum(came, free)
        free = scheduled[..., place] + service[..., place]
    flight = (work.arrival[:, None] > work.arrival) & (work.arrival[:, None] < work.arrival + 0.9)
    per_token = 0.010 * (1 + 0.05 * flight.sum(axis=1)) * decode
    return Times(scheduled, scheduled + service, per_token)


def make_run(
    work: Load,
    times: Times,
    meta: Mapping[str, Any],
    *,
    name: str,
    sent: np.ndarray | None = None,
    cached: int | None = 0,
    failed: np.ndarray | None = None,
    scheduled: bool = True,
) -> Run:
    """A run of what was served; ``failed`` marks error rows."""
    arrival = _ns(work.arrival)
    first = np.maximum(_ns(times.first), arrival)
    table = {
        "request_id": np.arange(len(arrival)),
        "arrival_time_ns": arrival,
        "sent_time_ns": arrival if sent is None else _ns(sent),
        "scheduled_time_ns": np.minimum(_ns(times.scheduled), first) if scheduled else pd.NA,
        "first_token_time_ns": first,
        "ttft_ns": first - arrival,
        "completion_time_ns": first + _ns(times.per_token * (work.output - 1)),
        "num_prefill_tokens": work.prompt,
        "num_cached_tokens": pd.NA if cached is None else cached,
        "num_decode_tokens": work.output,
        "num_decode_tokens_actual": work.output,
    }
    frame = pd.DataFrame(table).astype("Int64")
    frame["status"] = "ok"
    for column in ("backend", "error_type", "error_msg"):
        frame[column] = pd.array([pd.NA] * len(frame), dtype="string")
    if failed is not None:
        gone = [
            "scheduled_time_ns", "first_token_time_ns", "ttft_ns", "completion_time_ns",
            "num_decode_tokens_actual",
        ]  # fmt: skip
        frame.loc[failed, gone] = pd.NA
        frame.loc[failed, "status"] = "error"
    return Run(Path(name), {**meta, "run_id": name}, frame, None, None)


def noisy(
    work: Load, rng: np.random.Generator, *, sigma_run: float, sigma_request: float = 0.0
) -> Times:
    """A real run: a factor on all its service times, and one on each request's."""
    factor = np.exp(sigma_run * rng.standard_normal())
    each = np.exp(sigma_request * rng.standard_normal((2, len(work.arrival))))
    return serve(work, prefill=factor * each[0], decode=factor * each[1])


def noisy_many(
    work: Load, rng: np.random.Generator, runs: int, *, sigma_run: float, sigma_request: float
) -> Times:
    """Many real runs at once, a row each."""
    factor = np.exp(sigma_run * rng.standard_normal((runs, 1)))
    each = np.exp(sigma_request * rng.standard_normal((2, runs, len(work.arrival))))
    return serve(work, prefill=factor * each[0], decode=factor * each[1])


def percentiles(work: Load, times: Times, pick: Sequence[tuple[str, int]]) -> np.ndarray:
    """Figures in s, ``("ttft", 50)`` and so on, in the last axis; before it those of ``times``."""
    ttft = times.first - work.arrival
    columns = {
        "ttft": ttft,
        "tpot": times.per_token,
        "e2e": ttft + times.per_token * (work.output - 1),
    }
    return np.stack([np.percentile(columns[metric], q, axis=-1) for metric, q in pick], axis=-1)


def _prefill(prompt: np.ndarray) -> np.ndarray:
    seconds: np.ndarray = 0.020 + 0.0002 * prompt
    return seconds


def _ns(seconds: np.ndarray) -> np.ndarray:
    whole: np.ndarray = np.rint(seconds * 1e9).astype("int64")
    return whole
