"""Each profile source: a bundle built, checked and simulated: ``python -m benchmarks.sources``.

Prints a Markdown table with the wall time of each command, the start of Python included. ``vllm``
needs a bundle that was measured before (``--vllm``), or the time to measure one (``--profile``);
``llmservingsim`` needs a profile of that project. Where no tree of Vidur's repository is given, one
is laid out from AIConfigurator's tables, so that its times are not Vidur's own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.cases import ENGINES
from pytest_gpusim.json_documents import write_json

QWEN, LLAMA = "Qwen/Qwen3-0.6B", "meta-llama/Llama-3.1-8B"
SYSTEM = "a100_sxm"
# What no source of kernel times states of an engine.
ENGINE = {
    "max_num_seqs": 64,
    "max_num_batched_tokens": 2048,
    "max_model_len": 2048,
    "block_size": 16,
    "num_gpu_blocks": 4096,
}
WORKLOAD = ["--arrivals", "poisson", "--requests", "32", "--seed", "0"]
WORKLOAD += ["--prefill", "32:256", "--decode", "16:48"]
_RATES = {"cpu": "0.2"}  # requests per second, below the knee; of a GPU: 4


class Failed(Exception):
    """A command did not do what it was asked for; its last words."""


class Source(NamedTuple):
    """One row: how its bundle is made, or where it lies, and of what it is."""

    name: str
    model: str
    hardware: str
    command: Sequence[str] | None  # None: made before
    bundle: Path
    engine: Path | None  # None: the bundle states its own


def main() -> int:
    """Print the table; 1 where a source failed."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--vllm", type=Path, metavar="BUNDLE", help="measured before, on a CPU")
    parser.add_argument("--profile", action="store_true", help="measure one here: minutes")
    parser.add_argument("--llmservingsim", type=Path, metavar="DIR", help="of Llama-3.1-8B")
    parser.add_argument("--vidur", type=Path, metavar="DIR", help="data/profiling of Vidur's tree")
    options = parser.parse_args()
    print("| source | model, device | bundle built | `gpusim check` | simulated by Vidur |")
    print("| --- | --- | --- | --- | --- |")
    failed = False
    with tempfile.TemporaryDirectory(prefix="gpusim-sources-") as place:
        for source in sources(options, Path(place)):
            try:
                cells = row(source, Path(place))
            except Failed as error:
                failed, cells = True, [f"failed: {error}", "", ""]
            print(f"| {source.name} | {source.model}, {source.hardware} | {' | '.join(cells)} |")
    return int(failed)


def sources(options: argparse.Namespace, place: Path) -> list[Source]:
    """The rows that can be made; says on standard error which cannot."""
    engine = place / "engine.json"
    write_json(engine, ENGINE)
    found = []
    own = ENGINES / "qwen3-0.6b-cpu.yaml"
    if options.vllm or options.profile:
        command = ["vllm", "--model", QWEN, "--hardware", "cpu", "--engine", str(own)]
        bundle = options.vllm or place / "vllm"
        found.append(Source("vllm", QWEN, "cpu", None if options.vllm else command, bundle, None))
    else:
        print("vllm: give --vllm BUNDLE or --profile", file=sys.stderr)
    silicon = ["aiconfigurator", "--system", SYSTEM, "--model"]
    found.append(
        Source("aiconfigurator", QWEN, "a100", [*silicon, QWEN], place / "aiconfigurator", engine)
    )
    if options.llmservingsim:
        command = ["llmservingsim", str(options.llmservingsim)]
        found.append(
            Source("llmservingsim", LLAMA, "rtx4090", command, place / "llmservingsim", engine)
        )
    else:
        print("llmservingsim: give --llmservingsim DIR", file=sys.stderr)
    tree = options.vidur or _laid_out_tree([*silicon, LLAMA], place)
    command = ["vidur", str(tree), "--model", LLAMA, "--device", "a100"]
    found.append(Source("vidur", LLAMA, "a100", command, place / "vidur", engine))
    return found


def row(source: Source, place: Path) -> list[str]:
    """Its three cells."""
    built = "measured before"
    if source.command is not None:
        seconds, _ = _gpusim("profile", *source.command, "--out", str(source.bundle))
        built = f"{seconds:.1f} s"
    asked = [*("--model", source.model), *("--hardware", source.hardware)]
    workload = place / f"workload-{source.name}"
    rate = _RATES.get(source.hardware, "4")
    _gpusim(
        *("workload", "generate", *WORKLOAD, "--rate", rate, "--model", source.model),
        *("--out", str(workload)),
    )
    engine = ["--engine", str(source.engine)] if source.engine else []
    seconds, output = _gpusim(
        *("check", str(source.bundle), *asked, *engine, "--workload", str(workload), "--json")
    )
    checks = json.loads(output)["checks"]
    warned = [check["name"] for check in checks if check["status"] == "warn"]
    checked = f"{seconds:.1f} s, {sum(check['status'] == 'pass' for check in checks)} pass"
    checked += f", warns of {', '.join(warned)}" if warned else ""
    run = place / f"run-{source.name}"
    seconds, _ = _gpusim(
        *("simulate", "--simulator", "vidur", *asked, *engine, "--workload", str(workload)),
        *("--profiling-root", str(source.bundle), "--out", str(run)),
    )
    return [built, checked, f"{seconds:.1f} s, {_figures(run)}"]


def _figures(run: Path) -> str:
    from pytest_gpusim.runs import read_run

    requests = read_run(run).requests
    times = requests["completion_time_ns"] - requests["first_token_time_ns"]
    tpot = (times / (requests["num_decode_tokens_actual"] - 1)).median() / 1e6
    return f"TTFT p50 {requests['ttft_ns'].median() / 1e6:.1f} ms, TPOT p50 {tpot:.2f} ms"


def _laid_out_tree(silicon: list[str], place: Path) -> Path:
    """A tree as Vidur's repository has it, with the tables of a bundle."""
    _gpusim("profile", *silicon, "--out", str(place / "for-tree"))
    folder = place / "profiling" / "compute" / "a100" / LLAMA
    folder.mkdir(parents=True)
    for name in ("mlp.csv", "attention.csv"):
        (folder / name).write_bytes((place / "for-tree" / name).read_bytes())
    return place / "profiling"


def _gpusim(*arguments: str) -> tuple[float, str]:
    command = [sys.executable, "-m", "pytest_gpusim", *arguments]
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ})
    if done.returncode:
        words = (done.stderr or done.stdout).strip().splitlines()
        raise Failed(words[-1] if words else f"exit {done.returncode}")
    return time.monotonic() - began, done.stdout


if __name__ == "__main__":
    sys.exit(main())
