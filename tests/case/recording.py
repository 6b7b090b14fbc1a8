"""A recording whose real side is known: simulated times, slowed by given factors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pytest_gpusim.backends.recorded import write_recording
from pytest_gpusim.providers import SimulationInputs
from pytest_gpusim.runs import read_run, write_run
from pytest_gpusim.simulators.reference import simulate
from tests.factories import CPU, ENGINE, TINY, make_bundle, make_workload

REQUESTS = [(40 + 7 * n, 12 + n % 5, 40_000_000 * n) for n in range(24)]


def make_recording(
    place: Path, scratch: Path, *, factors: Sequence[float] = (1.001, 1.01, 0.99)
) -> Path:
    """Write a recording at ``place``; returns the directory of its workload.

    Args:
        place: The recording's folder, ``<recordings>/<case>``.
        scratch: A directory for what it is made of.
        factors: One real run for each; its times since arrival are those of the simulation times
            the factor.
    """
    bundle = make_bundle(scratch / "bundle")
    workload = make_workload(scratch / "workload", REQUESTS)
    simulate(SimulationInputs(TINY, CPU, workload, bundle, ENGINE, scratch / "simulated", {}))
    simulated = read_run(scratch / "simulated")
    runs = []
    for number, factor in enumerate(factors):
        out = scratch / f"real-{number}"
        write_slowed(simulated, out, factor, workload)
        runs.append(out)
    write_recording(place, workload_dir=workload.path, bundle_dir=bundle.path, run_dirs=runs)
    return workload.path


def write_slowed(simulated, out, factor, workload):
    """A real run whose times since arrival are those of a simulated one times a factor."""
    requests = simulated.requests.copy()
    arrival = requests["arrival_time_ns"]
    for column in ("scheduled_time_ns", "first_token_time_ns", "completion_time_ns"):
        requests[column] = arrival + ((requests[column] - arrival) * factor).astype("int64")
    requests["sent_time_ns"] = arrival
    requests["ttft_ns"] = requests["first_token_time_ns"] - arrival
    requests["backend"] = "vllm"
    tokens = simulated.tokens.copy()
    base = tokens["request_id"].map(requests.set_index("request_id")["arrival_time_ns"])
    tokens["token_time_ns"] = base + ((tokens["token_time_ns"] - base) * factor).astype("int64")
    before = tokens.groupby("request_id")["token_time_ns"].shift().fillna(base).astype("int64")
    tokens["token_latency_ns"] = tokens["token_time_ns"] - before
    write_run(
        out,
        requests=requests.astype(object).where(requests.notna(), None).to_dict("records"),
        tokens=tokens.to_dict("records"),
        meta={
            "run_type": "real",
            "backend": "vllm",
            "model": TINY.name,
            "hardware": "cpu",
            "device_name": "Synthetic processor, 2 cores",
            "workload_dir": str(workload.path),
            "workload_digest": workload.digest,
            "engine": {**ENGINE.to_json(), "engine": "vllm", "engine_mode": "eager"},
            "warmup": {"passes": 1, "requests": 24},
            "prefix_cache_reset": True,
            "lateness": {"max_ns": 0, "p99_ns": 0, "mean_ns": 0},
        },
    )
