"""When a workload's requests arrive, from its seed."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from pytest_gpusim.errors import UsageError

if TYPE_CHECKING:
    from pytest_gpusim.workload.generate import WorkloadSpec

_LATEST_NS = 2**63
# A prompt token is cheaper than an output token, since prompts are processed many at a time.
_PREFILL_TOKENS_PER_DECODE_TOKEN = 32


def arrival_gaps(spec: WorkloadSpec, lengths: list[tuple[int, int]]) -> list[int]:
    """Nanoseconds between arrivals; the first request arrives at 0.

    Raises:
        UsageError: The rate is so low that the times do not fit in 64 bits.
    """
    count = len(lengths)
    if spec.rate is None:
        return [0] * count
    mean = 1e9 / spec.rate
    # A gap may be many times the mean.
    if mean * count >= _LATEST_NS / 100:
        raise UsageError(f"--rate {spec.rate}: {count} requests would take more than two years")
    if spec.arrivals in ("poisson", "closed"):
        stream = random.Random(f"arrivals:{spec.seed}")
        shape = spec.burstiness
        draws = (
            stream.expovariate(1.0) if shape is None else stream.gammavariate(shape, 1 / shape)
            for _ in range(count - 1)
        )
        means = _mean_gaps_ns(spec, spec.rate, count)[1:]
        return [0] + [round(draw * each) for draw, each in zip(draws, means, strict=True)]
    if spec.arrivals == "burst":
        size = spec.burst_size
        return [round(mean * size) if n and n % size == 0 else 0 for n in range(count)]
    if spec.arrivals == "fixed":
        return [0] + [round(mean)] * (count - 1)
    work = [d + p / _PREFILL_TOKENS_PER_DECODE_TOKEN for p, d in lengths]
    average = sum(work) / count
    return [0] + [round(mean * each / average) for each in work[:-1]]


def _mean_gaps_ns(spec: WorkloadSpec, rate: float, count: int) -> list[float]:
    """The mean gap before each request, whose rate may go from the first to the last to another.

    As ``vllm/benchmarks/serve.py`` has it: ``_get_current_request_rate``.
    """
    if spec.ramp_up is None or spec.ramp_up_to is None:
        return [1e9 / rate] * count
    shares = [number / max(count - 1, 1) for number in range(count)]
    if spec.ramp_up == "linear":
        return [1e9 / (rate + (spec.ramp_up_to - rate) * share) for share in shares]
    return [1e9 / (rate * (spec.ramp_up_to / rate) ** share) for share in shares]
