"""What is compared: the workloads of Qwen3-0.6B on each hardware, and the engine's settings."""

from __future__ import annotations

from pathlib import Path

from pytest_gpusim.workload.generate import Lengths, Seconds, WorkloadSpec

MODEL = "Qwen/Qwen3-0.6B"
HERE = Path(__file__).parent
RECORDINGS = HERE / "recordings"
ENGINES = HERE / "engines"
WORKLOADS = ("spaced", "poisson", "burst")
# Drawn after the simulator was done: nothing was chosen with an eye on them.
UNSEEN = (("spaced", 101), ("poisson", 102), ("burst", 103))
# Clients that wait for their answers, and conversations; drawn after the simulator was done, too.
CLOSED = (
    WorkloadSpec("closed", 20, None, 201, Lengths(32, 192), Lengths(8, 32), concurrency=1),
    WorkloadSpec("closed", 24, None, 204, Lengths(32, 192), Lengths(8, 32), concurrency=4),
    WorkloadSpec("closed", 24, None, 208, Lengths(32, 192), Lengths(8, 32), concurrency=8),
    WorkloadSpec(
        "poisson",
        24,
        0.12,
        202,
        Lengths(32, 192),
        Lengths(8, 32),
        turns=Lengths(2, 2),
        think_time=Seconds(1.0, 4.0),
    ),
)

# Requests per second. One thread takes about a quarter of a second for a decode step and ten
# milliseconds for a prompt token: the spaced requests never meet, the others stay below the knee.
_CPU_RATES = {"spaced": 0.09, "poisson": 0.25, "burst": 0.2}
_A100_RATES = {"spaced": 0.5, "poisson": 8.0, "burst": 8.0}


def cpu_workload(arrivals: str, seed: int = 0) -> WorkloadSpec:
    """24 short requests."""
    return WorkloadSpec(
        arrivals,  # type: ignore[arg-type]
        requests=24,
        rate=_CPU_RATES[arrivals],
        seed=seed,
        prefill=Lengths(32, 256),
        decode=Lengths(16, 48),
        burst_size=4,
    )


def a100_workload(arrivals: str, seed: int = 0) -> WorkloadSpec:
    """100 requests of chat length."""
    return WorkloadSpec(
        arrivals,  # type: ignore[arg-type]
        requests=100,
        rate=_A100_RATES[arrivals],
        seed=seed,
        prefill=Lengths(128, 1024),
        decode=Lengths(64, 256),
    )
