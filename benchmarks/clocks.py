"""Client's and engine's clock of one live server: ``python -m benchmarks.clocks``.

A small Qwen3, made on the spot, is profiled, and served by vLLM's own OpenAI server on this CPU,
which tells its engine's times with each answer (``--enable-per-request-metrics``). On a slow load
both clocks are compared and the front end is measured (``gpusim calibrate``); a quicker one, of
another seed, is simulated without it and with it, and compared with its client's times.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.commands import gpusim
from benchmarks.crosscheck.server import SMALL_QWEN3, live_server
from pytest_gpusim.artifacts import new_id
from pytest_gpusim.bundle.schema import FRONTEND
from pytest_gpusim.runs import read_run
from pytest_gpusim.runs.clocks import METRICS, BothClocks, both_clocks

MODEL = replace(SMALL_QWEN3, name="small/qwen3")
_SETTINGS = {
    "max_num_seqs": 16,
    "max_num_batched_tokens": 512,
    "max_model_len": 2048,
    "block_size": 32,
    "num_gpu_blocks": 512,
    "enforce_eager": True,
    "dtype": "float32",
}
_OPTIONS = ["--enable-per-request-metrics", "--max-num-seqs", "16"]
_OPTIONS += ["--max-num-batched-tokens", "512"]
_LENGTHS = "--prefill 32:400 --decode 8:32"
_SLOW = f"--arrivals poisson --requests 40 --rate 1.2 --seed 21 {_LENGTHS}"
_QUICK = f"--arrivals poisson --requests 50 --rate 2.5 --seed 22 {_LENGTHS}"
_FIGURES = [(metric, name) for metric in METRICS for name in ("p50", "p90", "mean")]


def main() -> int:
    """Print the tables; 0 where the front end brings the mean error down."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--repeat", type=int, default=3, help="runs of the quicker load")
    parser.add_argument("--out", type=Path, help="default: a new directory below tmp/clocks")
    options = parser.parse_args()
    out: Path = options.out or Path("tmp") / "clocks" / new_id("clocks")
    out.mkdir(parents=True)
    # One thread for the model, as when it is profiled; the other core is the front end's.
    os.environ.update(OMP_NUM_THREADS="1", VLLM_CPU_OMP_THREADS_BIND="nobind")
    (out / "engine.json").write_text(json.dumps(_SETTINGS))
    config = out / "config.json"
    config.write_text(json.dumps({**MODEL.to_hf_config(), "_name_or_path": MODEL.name}))
    model = ["--model", config, "--hardware", "cpu"]
    for name, load in (("slow", _SLOW), ("quick", _QUICK)):
        gpusim("workload", "generate", *load.split(), "--out", out / name)
    bundle, calibrated = out / "profile", out / "calibrated"
    engine = ["--engine", out / "engine.json"]
    gpusim("profile", "vllm", *model, *engine, "--out", bundle)
    repeats = {"slow": 1, "quick": max(2, options.repeat)}
    with live_server(MODEL, out / "server", _OPTIONS) as url:
        for name, count in repeats.items():
            where = ["--backend", "openai", "--url", url, "--workload", out / name]
            gpusim("measure", *model, *where, "--repeat", count, "--out", out / f"{name}-runs")
    slow = out / "slow-runs"
    quick = [out / "quick-runs" / str(number + 1) for number in range(repeats["quick"])]
    clocks = {"slow": _clocks([slow]), "quick": _clocks(quick)}
    print(_difference_table(clocks))
    print(gpusim("calibrate", slow, "--profile", bundle, "--out", calibrated, show=True))
    print((calibrated / FRONTEND).read_text())
    errors = {}
    for words, profile in (("without", bundle), ("with", calibrated)):
        sim = out / f"sim-{words}"
        given = ["--workload", out / "quick", "--engine", quick[0], "--profile", profile]
        gpusim("simulate", *model, *given, "--simulator", "reference", "--out", sim)
        errors[words] = _errors([*quick, sim])
    print(_error_table(errors))
    print(out)
    without, measured = (float(np.abs(found).mean()) for found in errors.values())
    return 0 if measured < without else 1


def _clocks(runs: list[Path]) -> list[BothClocks]:
    found = [both_clocks(read_run(run)) for run in runs]
    return [each for each in found if each is not None]


def _difference_table(clocks: dict[str, list[BothClocks]]) -> str:
    """Both clocks at p50 and p90, and client minus engine request by request, ms."""
    lines = [
        "| load | requests | figure | client p50, p90 | engine p50, p90 | difference p50, p90 |",
        "| --- | ---: | --- | ---: | ---: | ---: |",
    ]
    for load, each in clocks.items():
        for words, alone in (("all", False), ("alone", True)):
            for metric in METRICS:
                sides = [
                    np.concatenate([times[one.alone] if alone else times for one, times in side])
                    for side in (
                        [(one, one.client[metric]) for one in each],
                        [(one, one.engine[metric]) for one in each],
                    )
                ]
                cells = [
                    ", ".join(f"{value / 1e6:.2f}" for value in np.nanpercentile(side, [50, 90]))
                    for side in (*sides, sides[0] - sides[1])
                ]
                count = int((~np.isnan(sides[0])).sum())
                lines.append(
                    f"| {load}, {words} | {count} | {metric.upper()} | {' ms | '.join(cells)} ms |"
                )
    return "\n".join(lines) + "\n"


def _errors(runs: list[Path]) -> list[float]:
    answer = gpusim("compare", *runs, "--json", accept=(0, 1), show=True)
    metrics = json.loads(answer)["metrics"]
    return [float(metrics[metric][name]["error"]) for metric, name in _FIGURES]


def _error_table(errors: dict[str, list[float]]) -> str:
    head = " | ".join(f"{metric.upper()} {name}" for metric, name in _FIGURES)
    lines = [
        f"| front end | {head} | mean of sizes |",
        f"| --- |{' ---: |' * (len(_FIGURES) + 1)}",
    ]
    for words, found in errors.items():
        cells = " | ".join(f"{error:+.1%}" for error in found)
        lines.append(f"| {words} | {cells} | {np.abs(found).mean():.1%} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    raise SystemExit(main())
