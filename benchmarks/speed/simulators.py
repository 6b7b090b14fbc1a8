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
from typing import Any

from pytest_gpusim.registry import SimulationInputs
from pytest_gpusim.simulators import reference
from pytest_gpusim.simulators.engine import ServingEngine
from pytest_gpusim.simulators.vidur import runner
from tests.factories import CPU, ENGINE, TINY, make_bundle, make_workload


def main() -> None:
    """Print seconds and ratios; loops alone, and with the run directory written."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=6000, help="output tokens per request")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        # An empty cache, so that the first random forest is trained.
        os.environ["XDG_CACHE_HOME"] = str(Path(scratch) / "cache")
        inputs = _inputs(Path(scratch), options.requests, options.tokens)
        import vidur.simulator  # noqa: F401 - its import is not what is measured

        loops = _loops(inputs)
        runs = _whole_runs(inputs, Path(scratch))
    for title, seconds in (("loop alone", loops), ("with the run written", runs)):
        print(f"{title}: {options.requests} requests, {options.tokens} steps each")
        first = next(iter(seconds.values()))
        for name, value in seconds.items():
            print(f"  {name:<44}{value:9.2f} s  {value / first:8.2f} x")


def _inputs(scratch: Path, requests: int, tokens: int) -> SimulationInputs:
    settings = dataclasses.replace(
        ENGINE,
        max_num_seqs=requests,
        max_num_batched_tokens=max(2048, requests),
        max_model_len=tokens + 256,
        num_gpu_blocks=requests * (tokens // 16 + 16),
    )
    workload = make_workload(scratch / "workload", [(64, tokens, 0)] * requests)
    bundle = make_bundle(scratch / "bundle")
    return SimulationInputs(TINY, CPU, workload, bundle, settings, scratch / "unused")


def _timed(action: Callable[[], Any]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def _loops(inputs: SimulationInputs) -> dict[str, float]:
    def engine(*, spans: bool = False) -> ServingEngine:
        made = ServingEngine.of_inputs(inputs)
        made.keeps_spans = spans
        return made

    def vidur(scheduler: str, predictor: str) -> float:
        prepared = engine(spans=predictor == "random_forest")
        return _timed(lambda: runner.run(inputs, prepared, scheduler, predictor))

    bare = engine()
    # What is measured first pays for what is loaded on first use.
    small = make_workload(inputs.bundle.path.parent / "small", [(8, 2, 0)])
    warm = dataclasses.replace(inputs, workload=small)
    runner.run(warm, ServingEngine.of_inputs(warm), "vllm", "profile")
    return {
        "reference": _timed(lambda: reference.run(inputs, bare)),
        "vidur, vLLM's rules, profile": vidur("vllm", "profile"),
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
