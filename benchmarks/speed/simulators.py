"""``python -m benchmarks.speed.simulators``: how long the simulators take on one workload.

The reference, Vidur over the project's adapters, and stock Vidur (its own scheduler and random
forest, training included and excluded) run the same workload in one process; read the ratios.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from pytest_gpusim.providers import SimulationInputs
from pytest_gpusim.simulators import reference
from pytest_gpusim.simulators.engine import ServingEngine
from pytest_gpusim.simulators.fleet import Fleet
from pytest_gpusim.simulators.vidur import runner
from pytest_gpusim.workload import Workload
from tests.factories import CPU, ENGINE, TINY, make_bundle, make_workload, random_workload

REPEATS = 5
"""Of the two that take less than a second; their median counts."""


def main() -> None:
    """Print seconds, simulated tokens per second, ratios; loops alone, and whole runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=6000, help="output tokens per request")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        # An empty cache, so that the first random forest is trained.
        os.environ["XDG_CACHE_HOME"] = str(Path(scratch) / "cache")
        import vidur.simulator  # noqa: F401 - its import is not what is measured

        for name, inputs in (
            ("decode alone", _decoding(Path(scratch) / "a", options.requests, options.tokens)),
            ("chat, KV cache full", _chat(Path(scratch) / "b", 8 * options.requests)),
        ):
            requests = inputs.workload.requests
            tokens = sum(request.num_decode_tokens for request in requests)
            print(f"{name}: {len(requests):,} requests, {tokens:,} output tokens")
            _print("loop alone", tokens, _loops(inputs))
            _print("with the run written", tokens, _whole_runs(inputs, Path(scratch) / name[:4]))


def _print(title: str, tokens: int, seconds: dict[str, float]) -> None:
    print(f" {title}")
    first = next(iter(seconds.values()))
    for name, value in seconds.items():
        rate = f"{tokens / value:13,.0f} tokens/s"
        print(f"  {name:<42}{value:8.2f} s {rate} {value / first:8.2f} x")


def _decoding(scratch: Path, requests: int, tokens: int) -> SimulationInputs:
    """All requests from the start to the end: little changes between steps."""
    workload = make_workload(scratch / "workload", [(64, tokens, 0)] * requests)
    return synthetic_inputs(
        scratch, workload, requests, tokens + 256, requests * (tokens // 16 + 16)
    )


def _chat(scratch: Path, requests: int) -> SimulationInputs:
    """More than the KV cache holds: chunked prefills, preemptions, a queue."""
    workload = random_workload(scratch / "workload", 0, requests=requests, max_decode=400)
    return synthetic_inputs(scratch, workload, 256, 1024, 2500)


def synthetic_inputs(
    scratch: Path, workload: Workload, seats: int, longest: int, blocks: int
) -> SimulationInputs:
    """A workload on the synthetic bundle, with so many seats, tokens a request and KV blocks."""
    settings = dataclasses.replace(
        ENGINE,
        max_num_seqs=seats,
        max_num_batched_tokens=max(2048, seats),
        max_model_len=longest,
        num_gpu_blocks=blocks,
    )
    bundle = make_bundle(scratch / "bundle")
    return SimulationInputs(TINY, CPU, workload, bundle, settings, scratch / "unused")


def _timed(action: Callable[[], Any]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def _loops(inputs: SimulationInputs) -> dict[str, float]:
    def vidur(scheduler: str, predictor: str) -> float:
        fleet = Fleet.of_inputs(inputs, 1, "round_robin")
        fleet.engines[0].keeps_spans = predictor == "random_forest"
        return _timed(lambda: runner.run(inputs, fleet, scheduler, predictor))

    def bare() -> float:
        engine = ServingEngine.of_inputs(inputs)
        return _timed(lambda: reference.run(inputs, engine))

    # What is measured first pays for what is loaded on first use.
    small = make_workload(inputs.bundle.path.parent / "small", [(8, 2, 0)])
    warm = dataclasses.replace(inputs, workload=small)
    runner.run(warm, Fleet.of_inputs(warm, 1, "round_robin"), "vllm", "profile")
    fast = [(bare(), vidur("vllm", "profile")) for _ in range(REPEATS)]
    return {
        "reference": median(first for first, _ in fast),
        "vidur, vLLM's rules, profile": median(second for _, second in fast),
        "vidur, sarathi, profile": vidur("sarathi", "profile"),
        "vidur, sarathi, random forest, training": vidur("sarathi", "random_forest"),
        "vidur, sarathi, random forest, cached": vidur("sarathi", "random_forest"),
    }


def _whole_runs(inputs: SimulationInputs, scratch: Path) -> dict[str, float]:
    def run(simulate: Callable[[SimulationInputs], None], name: str, **params: str) -> float:
        given = dataclasses.replace(inputs, out_dir=scratch / name, params=params)
        return _timed(lambda: simulate(given))

    return {
        "reference": run(reference.simulate, "reference"),
        "vidur, vLLM's rules, profile": run(runner.simulate, "vidur"),
    }


if __name__ == "__main__":
    main()
