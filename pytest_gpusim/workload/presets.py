"""The workloads that go by a bare name, ``spaced``, ``poisson``, ``burst``, ``fixed``."""

from __future__ import annotations

from typing import cast

from pytest_gpusim.errors import UsageError
from pytest_gpusim.workload.generate import ARRIVALS, Arrivals, Lengths, WorkloadSpec

# Requests per second on one device, for a model of about a billion parameters: the spaced ones
# never meet, the others stay below the knee.
_RATES = {
    "cpu": {"spaced": 0.09, "poisson": 0.25, "burst": 0.2, "fixed": 0.2},
    "cuda": {"spaced": 0.5, "poisson": 8.0, "burst": 8.0, "fixed": 8.0},
}
_LENGTHS = {
    "cpu": (Lengths(32, 256), Lengths(16, 48)),
    "cuda": (Lengths(128, 1024), Lengths(64, 256)),
}


def preset(name: str, device_kind: str, *, seed: int = 0, requests: int = 24) -> WorkloadSpec:
    """The workload called ``name`` on a ``cpu`` or ``cuda`` device."""
    if name not in ARRIVALS:
        raise UsageError(
            f"unknown workload {name!r}; known are {', '.join(ARRIVALS)}, a WorkloadSpec, or the "
            "path of a workload directory"
        )
    prefill, decode = _LENGTHS[device_kind]
    return WorkloadSpec(
        cast("Arrivals", name),
        requests=requests,
        rate=_RATES[device_kind][name],
        seed=seed,
        prefill=prefill,
        decode=decode,
    )
