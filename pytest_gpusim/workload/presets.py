"""The workloads that go by a bare name: each kind of arrivals, and ``sessions``."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from pytest_gpusim.errors import UsageError, meant
from pytest_gpusim.workload.generate import ARRIVALS, Arrivals, Lengths, Seconds, WorkloadSpec

PRESETS = (*ARRIVALS, "sessions")
# Requests per second on one device, for a model of about a billion parameters: the spaced ones
# never meet, the others stay below the knee.
_RATES = {
    "cpu": {"spaced": 0.09, "poisson": 0.25, "burst": 0.2, "fixed": 0.2, "closed": None},
    "cuda": {"spaced": 0.5, "poisson": 8.0, "burst": 8.0, "fixed": 8.0, "closed": None},
}
_CONCURRENCY = {"cpu": 4, "cuda": 16}
# Conversations per second, each of two turns.
_SESSION_RATES = {"cpu": 0.1, "cuda": 3.0}
_THINK_TIMES = {"cpu": Seconds(2.0, 8.0), "cuda": Seconds(0.5, 2.0)}
_LENGTHS = {
    "cpu": (Lengths(32, 256), Lengths(16, 48)),
    "cuda": (Lengths(128, 1024), Lengths(64, 256)),
}


def preset(name: str, device_kind: str) -> WorkloadSpec:
    """The workload called ``name`` on a ``cpu`` or ``cuda`` device."""
    if name not in PRESETS:
        raise UsageError(
            f"unknown workload {name!r}{meant(name, PRESETS)}; known are {', '.join(PRESETS)}, a "
            "WorkloadSpec, or the path of a workload directory"
        )
    prefill, decode = _LENGTHS[device_kind]
    spec = WorkloadSpec(
        cast("Arrivals", "poisson" if name == "sessions" else name),
        requests=24,
        rate=_SESSION_RATES[device_kind] if name == "sessions" else _RATES[device_kind][name],
        seed=0,
        prefill=prefill,
        decode=decode,
    )
    if name == "sessions":
        return replace(spec, turns=Lengths(2, 2), think_time=_THINK_TIMES[device_kind])
    return replace(spec, concurrency=_CONCURRENCY[device_kind] if name == "closed" else None)
