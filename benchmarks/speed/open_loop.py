"""``python -m benchmarks.speed.open_loop --against DIR``: an open loop here and elsewhere.

The same requests in processes of two checkouts, which take turns at each simulation, so that both
meet the same neighbours: processor time of the simulation alone and with its run written, and
whether the tables are the same bytes. Read the ratios. Any checkout since the first release will
do: ``git worktree add DIR COMMIT`` makes one.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import median, quantiles
from typing import Any

ROOT = Path(__file__).parents[2]
TABLES = ("request_metrics.csv", "token_metrics.csv", "step_metrics.csv")


def main() -> None:
    """Print a row for each simulator and load, or time this checkout's own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--against", type=Path, default=ROOT, help="the other checkout")
    parser.add_argument("--pairs", type=int, default=5, help="of processes")
    parser.add_argument("--rounds", type=int, default=15, help="of turns in each pair")
    parser.add_argument("--requests", type=int, default=256)
    parser.add_argument("--only", default="", help="what has this in its name")
    parser.add_argument("--own", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.own:
        _answer(options.requests)
        return
    rounds: dict[str, list[tuple[float, float]]] = defaultdict(list)
    same: dict[str, bool] = {}
    for _ in range(options.pairs):
        sides = [_Side(place, options.requests) for place in (ROOT, options.against.resolve())]
        names = [name for name in sides[0].names if options.only in name]
        for number in range(-1, options.rounds):  # the first time warms up
            for name in names:
                order = sides if number % 2 else sides[::-1]
                took = {id(side): side.ask(name) for side in order}
                here, there = (took[id(side)] for side in sides)
                same[name] = same.get(name, True) and here["tables"] == there["tables"]
                if number >= 0:
                    rounds[name].append((here["seconds"], there["seconds"]))
        for side in sides:
            side.close()
    print("| what | there | here | ratio | 95% | tables |")
    print("| --- | ---: | ---: | ---: | ---: | --- |")
    for name, pairs in rounds.items():
        ratios = [here / there for here, there in pairs]
        low, high = _interval(ratios)
        print(
            f"| {name} | {median(there for _, there in pairs):.3f} s "
            f"| {median(here for here, _ in pairs):.3f} s | {median(ratios):.3f} "
            f"| {low:.3f} to {high:.3f} | {'the same' if same[name] else 'others'} |"
        )


def _interval(ratios: list[float]) -> tuple[float, float]:
    """Of their median, by drawing again."""
    stream = random.Random(0)
    medians = [median(stream.choices(ratios, k=len(ratios))) for _ in range(2000)]
    cuts = quantiles(medians, n=40)
    return cuts[0], cuts[-1]


class _Side:
    """A process of a checkout."""

    def __init__(self, checkout: Path, requests: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(Path(__file__)), "--own", "--requests", str(requests)],
            cwd=checkout,
            env={**os.environ, "PYTHONPATH": str(checkout)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.names: list[str] = self._read()

    def ask(self, name: str) -> dict[str, Any]:
        """Seconds and, of a run that was written, a digest."""
        assert self._process.stdin is not None
        print(name, file=self._process.stdin, flush=True)
        found: dict[str, Any] = self._read()
        return found

    def close(self) -> None:
        """End it."""
        self._process.communicate()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


def _answer(requests: int) -> None:
    """Say what can be simulated; then, for each line, simulate it and say what it took."""
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

    def written(simulator: Any, inputs: Any) -> dict[str, Any]:
        out = Path(scratch) / "run"
        given = dataclasses.replace(inputs, out_dir=out)
        seconds = _seconds(lambda: simulator.simulate(given))
        tables = b"".join((out / table).read_bytes() for table in TABLES)
        shutil.rmtree(out)
        return {"seconds": seconds, "tables": hashlib.sha256(tables).hexdigest()}

    with tempfile.TemporaryDirectory() as scratch:
        actions: dict[str, Callable[[], dict[str, Any]]] = {}
        for load, inputs in _loads(Path(scratch), requests).items():
            for name, prepare, module in (
                ("reference", bare, reference),
                ("Vidur", vidur, runner),
            ):
                actions[f"{name}, {load}"] = lambda i=inputs, p=prepare: {  # type: ignore[misc]
                    "seconds": _seconds(p(i)),
                    "tables": None,
                }
                actions[f"{name}, {load}, written"] = lambda i=inputs, m=module: written(m, i)  # type: ignore[misc]
        print(json.dumps(list(actions)), flush=True)
        for line in sys.stdin:
            print(json.dumps(actions[line.strip()]()), flush=True)


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
