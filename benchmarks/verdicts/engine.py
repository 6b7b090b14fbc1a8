"""Runs of a batching engine whose truth is known: vLLM's schedule, step times of a formula.

The simulated side has the formula alone. A real run has noise: a factor on all its steps, a pace
that wanders around it, and noise of each step. Under bursts and limits that moves requests from one
batch into another, as it does on a machine. All times in seconds until a run is made.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd

from benchmarks.verdicts.synthetic import ENGINE
from pytest_gpusim.runs import Run
from pytest_gpusim.serving import Scheduler, SchedulingRules, Step
from pytest_gpusim.workload import Load, SessionTurn, WorkloadRequest
from pytest_gpusim.workload.client import LoadClient

Price = Callable[[Step, float], float]
"""What a step takes (s) that starts at a time (s)."""
_WANDER_S = 2.0  # how long a pace lasts
RULES = SchedulingRules(
    max_num_seqs=ENGINE["max_num_seqs"],
    max_num_batched_tokens=ENGINE["max_num_batched_tokens"],
    block_size=ENGINE["block_size"],
    num_blocks=ENGINE["num_gpu_blocks"],
    max_model_len=ENGINE["max_model_len"],
)


@dataclass(frozen=True)
class Work:
    """What is sent, and how: at its times, so many at once, or in conversations."""

    requests: tuple[WorkloadRequest, ...]
    load: Load
    sessions: Mapping[int, SessionTurn]


def work(kind: str, requests: int, *, seed: int = 0) -> Work:
    """A load of one of `KINDS`, whose engine has about ten requests at once."""
    rng = np.random.default_rng([seed, requests])
    prompt = rng.integers(64, 1024, requests)
    output = rng.integers(16, 160, requests)
    arrival, limit, sessions = np.zeros(requests), None, dict[int, SessionTurn]()
    if kind in ("poisson", "conversations"):
        arrival = np.cumsum(rng.exponential(0.12, requests)) - 0.1
    elif kind == "bursts":
        arrival = np.cumsum(rng.exponential(1.5, requests))[np.arange(requests) // 12]
    elif kind == "bursty":
        arrival = np.cumsum(rng.gamma(0.1, 1.2, requests))
    elif kind == "closed":
        limit = 8
    if kind == "conversations":
        arrival *= 1.5
        sessions = {
            n: SessionTurn(n // 2, n % 2, int(rng.integers(200, 800)) * 1_000_000)
            for n in range(requests)
        }
    rows = (prompt, output, np.maximum(arrival, 0.0) * 1e9)
    sent = (WorkloadRequest(n, n, *map(int, row)) for n, row in enumerate(zip(*rows, strict=True)))
    return Work(tuple(sent), Load(limit), sessions)


KINDS = ("poisson", "bursty", "bursts", "at once", "closed", "conversations")


def formula(step: Step) -> float:
    """8 ms, 40 µs a prompt token, 0.2 ms a sequence, and what attention reads."""
    read = step.sum_decode_context + step.sum_prefill_context
    return 0.008 + 4e-5 * step.num_prefill_tokens + 2e-4 * step.num_decodes + 1e-7 * read


def truth(step: Step, _: float) -> float:
    """A right simulation's price of a step."""
    return formula(step)


def noisy(rng: np.random.Generator, sigma: float) -> Price:
    """The price of a step in a real run; its pace wanders by half as much as runs differ."""
    factor, pace, since = sigma * rng.standard_normal(), rng.standard_normal(), 0.0

    def price(step: Step, now: float) -> float:
        nonlocal pace, since
        kept = math.exp(-(now - since) / _WANDER_S)
        pace = kept * pace + math.sqrt(1 - kept**2) * rng.standard_normal()
        since = now
        noise = factor + sigma / 2 * pace + 0.01 * rng.standard_normal()
        return formula(step) * math.exp(noise)

    return price


def serve(work: Work, price: Price, meta: Mapping[str, Any], name: str) -> Run:
    """Serve a load: a run, its latencies in whole ns."""
    scheduler = Scheduler(RULES)
    client = LoadClient(work.requests, work.load, work.sessions)
    now, ends, starts, served = 0, [], [], {}
    due = client.next_due()
    while True:
        if due is not None and due <= now:
            for request in client.take(now):
                served[request.request_id] = scheduler.add_request(
                    request.request_id, request.num_prefill_tokens, request.num_decode_tokens
                )
            due = client.next_due()
        if not scheduler.num_unfinished:
            if due is None:
                break
            now = max(now, due)
            continue
        step = scheduler.schedule()
        starts.append(now)
        now += round(price(step, now / 1e9) * 1e9)
        ends.append(now)
        finished = scheduler.complete(step).finished
        for done in finished:
            client.done(cast("int", done.request_id), now)
        if finished:
            due = client.next_due()
    rows = [
        (
            client.arrival_ns[request.request_id],
            starts[served[request.request_id].first_step],
            *_ends_of(list(served[request.request_id].token_steps()), ends),
        )
        for request in work.requests
    ]
    return _run(work, np.array(rows), meta, name)


def _ends_of(steps: list[int], ends: list[int]) -> tuple[int, int]:
    return ends[steps[0]], ends[steps[-1]]


def _run(work: Work, times: np.ndarray, meta: Mapping[str, Any], name: str) -> Run:
    arrival, scheduled, first, last = times.T
    asked = pd.DataFrame(work.requests)
    table = pd.DataFrame(
        {
            "request_id": asked["request_id"],
            "arrival_time_ns": arrival,
            "sent_time_ns": arrival,
            "scheduled_time_ns": scheduled,
            "first_token_time_ns": first,
            "ttft_ns": first - arrival,
            "completion_time_ns": last,
            "num_prefill_tokens": asked["num_prefill_tokens"],
            "num_cached_tokens": 0,
            "num_decode_tokens": asked["num_decode_tokens"],
            "num_decode_tokens_actual": asked["num_decode_tokens"],
        }
    )
    if not work.load.is_open or work.sessions:
        table["due_time_ns"] = asked["arrival_time_ns"]
        for column in ("session_id", "turn", "think_time_ns"):
            turns = [work.sessions.get(n) for n in asked["request_id"]]
            table[column] = [getattr(turn, column) if turn else pd.NA for turn in turns]
        if work.sessions:
            table.loc[table["turn"] > 0, "due_time_ns"] = pd.NA
    table = table.astype("Int64")
    table["status"] = "ok"
    for column in ("backend", "error_type", "error_msg"):
        table[column] = pd.array([pd.NA] * len(table), dtype="string")
    said = {**meta, "run_id": name, "load": work.load.to_json()}
    return Run(Path(name), said, table, None, None)
