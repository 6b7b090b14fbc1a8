"""``python -m benchmarks.speed.open_loop --against DIR``: an open loop here and elsewhere.

The same requests in processes of two checkouts, in turn: processor time of the simulation alone
and with its run written, and whether the tables are the same bytes. Read the ratios. Any checkout
since the first release will do: ``git worktree add DIR COMMIT`` makes one.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parents[2]
TABLES = ("request_metrics.csv", "token_metrics.csv", "step_metrics.csv")


def main() -> None:
    """Print a row for each simulator and load, or time this checkout's own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--against", type=Path, default=ROOT, help="the other checkout")
    parser.add_argument("--pairs", type=int, default=5, help="processes of each; medians count")
    parser.add_argument("--repeats", type=int, default=5, help="in each; the fastest counts")
    parser.add_argument("--requests", type=int, default=256)
    parser.add_argument("--own", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.own:
        print(json.dumps(_own(options.requests, options.repeats)))
        return
    more = ["--requests", str(options.requests), "--repeats", str(options.repeats)]
    pairs = [(_of(ROOT, more), _of(options.against.resolve(), more)) for _ in range(options.pairs)]
    print("| what | there | here | ratio | its spread | tables |")
    print("| --- | ---: | ---: | ---: | ---: | --- |")
    for name in pairs[0][0]:
        for part in ("alone", "written"):
            here, there = ([each[name][part] for each in side] for side in zip(*pairs, strict=True))
            ratios = [own / other for own, other in zip(here, there, strict=True)]
            same = {own[name]["tables"] == other[name]["tables"] for own, other in pairs} == {True}
            print(
                f"| {name}, {part} | {median(there):.3f} s | {median(here):.3f} s "
                f"| {median(ratios):.2f} | {min(ratios):.2f} to {max(ratios):.2f} "
                f"| {'the same' if same else 'others'} |"
            )


def _of(checkout: Path, more: list[str]) -> dict[str, Any]:
    """What a checkout takes, in a process of its own."""
    command = [sys.executable, "-P", str(Path(__file__)), "--own", *more]
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    done = subprocess.run(command, cwd=checkout, env=environment, check=True, stdout=-1, stderr=-3)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _own(requests: int, repeats: int) -> dict[str, Any]:
    """Seconds of processor time, and a digest of the tables, by simulator and load."""
    # Of the checkout that is measured; names as they were in the first release.
    from pytest_gpusim.simulators import reference
    from pytest_gpusim.simulators.engine import ServingEngine
    from pytest_gpusim.simulators.vidur import runner

    try:
        from pytest_gpusim.simulators.fleet import Fleet
    except ImportError:
        engines: Callable[[Any], Any] = ServingEngine.of_inputs
    else:
        engines = lambda inputs: Fleet.of_inputs(inputs, 1, "round_robin")  # noqa: E731

    def bare(inputs: Any) -> Callable[[], object]:
        engine = ServingEngine.of_inputs(inputs)
        return lambda: reference.run(inputs, engine)

    def vidur(inputs: Any) -> Callable[[], object]:
        given = engines(inputs)
        return lambda: runner.run(inputs, given, "vllm", "profile")

    found = {}
    with tempfile.TemporaryDirectory() as scratch:
        for load, inputs in _loads(Path(scratch), requests).items():
            for name, prepare, simulator in (
                ("reference", bare, reference),
                ("vidur", vidur, runner),
            ):
                alone = [_seconds(prepare(inputs)) for _ in range(repeats)]
                out = Path(scratch) / f"{name}-{load[:4]}"
                given = dataclasses.replace(inputs, out_dir=out)
                written = _seconds(lambda s=simulator, g=given: s.simulate(g))  # type: ignore[misc]
                tables = b"".join((out / table).read_bytes() for table in TABLES)
                found[f"{name}, {load}"] = {
                    "alone": min(alone),
                    "written": written,
                    "tables": hashlib.sha256(tables).hexdigest(),
                }
    return found


def _loads(scratch: Path, requests: int) -> dict[str, Any]:
    from tests.factories import CPU, ENGINE, TINY, make_bundle, make_workload, random_workload

    try:
        from pytest_gpusim.providers import SimulationInputs
    except ImportError:
        from pytest_gpusim.registry import (  # type: ignore[no-redef, attr-defined]
            SimulationInputs,
        )

    def inputs(name: str, workload: Any, seats: int, longest: int, blocks: int) -> Any:
        settings = dataclasses.replace(
            ENGINE,
            max_num_seqs=seats,
            max_num_batched_tokens=max(2048, seats),
            max_model_len=longest,
            num_gpu_blocks=blocks,
        )
        bundle = make_bundle(scratch / name / "bundle")
        return SimulationInputs(TINY, CPU, workload, bundle, settings, scratch / "unused")

    decoding = make_workload(scratch / "decode" / "workload", [(64, 2000, 0)] * requests)
    chat = random_workload(scratch / "chat" / "workload", 0, requests=2 * requests, max_decode=400)
    return {
        "decoding alone": inputs("decode", decoding, requests, 2256, requests * 141),
        "KV cache full": inputs("chat", chat, requests, 1024, 10 * requests),
    }


def _seconds(action: Callable[[], object]) -> float:
    gc.collect()
    start = time.process_time()
    action()
    return time.process_time() - start


if __name__ == "__main__":
    main()
