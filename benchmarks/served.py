"""Small models of experts and of int8, live on this CPU: ``python -m benchmarks.served``.

Made on the spot, nothing is downloaded: a Qwen3-MoE, a Mixtral and a dense Qwen3 with int8 weights
and inputs. Each is profiled, measured some times under one Poisson workload, recorded, simulated
and compared; the table says with which errors and verdict. What vLLM refuses on this processor is
tried as well, and its own words are printed. The recordings that ship replay with ``make bench``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.commands import gpusim
from pytest_gpusim.deployment import ModelShape
from pytest_gpusim.deployment.experts import Experts
from pytest_gpusim.deployment.models import QWEN3_0_6B
from pytest_gpusim.deployment.quantization import Quantization

DENSE = replace(
    QWEN3_0_6B,
    name="small/qwen3",
    num_layers=8,
    hidden_size=512,
    num_q_heads=8,
    num_kv_heads=4,
    head_dim=64,
    intermediate_size=2048,
    vocab_size=16000,
    max_position=4096,
    torch_dtype="float32",
)
_EXPERTS = replace(
    DENSE,
    name="small/qwen3-moe",
    architecture="Qwen3MoeForCausalLM",
    experts=Experts(num_experts=16, per_token=4, width=512),
)
_MIXTRAL = replace(
    _EXPERTS,
    name="small/mixtral",
    architecture="MixtralForCausalLM",
    qk_norm=False,
    intermediate_size=1024,
    experts=Experts(num_experts=8, per_token=2, width=1024),
)
MODELS = (_EXPERTS, _MIXTRAL, replace(DENSE, name="small/int8", quantization=Quantization("int8")))
TRIED = (
    ("int8 experts", replace(_EXPERTS, quantization=Quantization("int8")), "float32"),
    ("fp8", replace(DENSE, quantization=Quantization("fp8")), "bfloat16"),
    ("fp8 in blocks", replace(DENSE, quantization=Quantization("fp8_block")), "bfloat16"),
    (
        "MiniMax-M2 (sigmoid router, norms over all heads)",
        replace(
            _EXPERTS,
            architecture="MiniMaxM2ForCausalLM",
            qk_norm_over_heads=True,
            intermediate_size=512,
        ),
        "float32",
    ),
    (
        "experts of fp8 in blocks",
        replace(_EXPERTS, quantization=Quantization("fp8_block")),
        "bfloat16",
    ),
)
SETTINGS = {
    "max_num_seqs": 16,
    "max_num_batched_tokens": 512,
    "max_model_len": 1024,
    "block_size": 32,
    "num_gpu_blocks": 400,
}
_WORKLOAD = "--arrivals poisson --requests 40 --rate 1 --seed 11 --prefill 32:400 --decode 16:64"
_FIGURES = [(name, figure) for name in ("ttft", "tpot", "e2e") for figure in ("p50", "mean")]


def main() -> int:
    """Run all models; returns 0 where every one was compared."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--repeat", type=int, default=5, help="real runs a model")
    parser.add_argument("--out", type=Path, help="default: a new directory below tmp/served")
    parser.add_argument("--quick", action="store_true", help="the quick profiling grid")
    options = parser.parse_args()
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    out: Path = options.out or Path("tmp") / "served" / stamp
    out.mkdir(parents=True)
    gpusim("workload", "generate", *_WORKLOAD.split(), "--out", out / "workload")
    lines = []
    for shape in MODELS:
        lines.append(_compared(shape, out, options.repeat, options.quick))
        print(lines[-1], flush=True)
    print("\n| tried | on this processor |\n| --- | --- |")
    for words, shape, dtype in TRIED:
        print(f"| {words}, {dtype} | {_tried(shape, dtype, out)} |", flush=True)
    head = " | ".join(f"{name.upper()} {figure}" for name, figure in _FIGURES)
    print(f"\n| model | {head} | verdict |\n| --- | {'---: | ' * len(_FIGURES)}--- |")
    print("\n".join(lines))
    print(out)
    return 0


def _compared(shape: ModelShape, out: Path, repeat: int, quick: bool) -> str:
    place = out / shape.name.rpartition("/")[2]
    model = write_model(shape, place, {**SETTINGS, "dtype": "float32"})
    given = ["--model", model, "--engine", place / "engine.json"]
    workload = ["--workload", out / "workload"]
    grid = ["--quick"] if quick else []
    bundle = place / "profile"
    gpusim("profile", "vllm", *given, "--hardware", "cpu", *grid, "--out", bundle)
    count = ["--repeat", str(repeat)]
    gpusim("measure", "--backend", "vllm", *given, *workload, *count, "--out", place / "real")
    runs = [place / "real" / str(i + 1) for i in range(repeat)] if repeat > 1 else [place / "real"]
    gpusim("record", *workload, "--profile", bundle, *runs, "--out", place / "recording")
    simulated = ["--hardware", "cpu", "--profiling-root", bundle, "--simulator", "reference"]
    engine = ["--model", model, "--engine", runs[0]]
    gpusim("simulate", *engine, *workload, *simulated, "--out", place / "sim")
    compared = place / "comparison"
    limits = "ttft_p50=0.15,tpot_p50=0.10,e2e_p50=0.10"
    gpusim("compare", *runs, place / "sim", "--check", limits, "--out", compared, accept=(0, 1))
    document = json.loads((compared / "comparison.json").read_text())
    cells = []
    for name, figure in _FIGURES:
        found = (document["metrics"].get(name) or {}).get(figure) or {}
        error = found.get("error")
        cells.append("none" if error is None else f"{error:+.1%}")
    return f"| {shape.name} | {' | '.join(cells)} | {document['verdict']} |"


def _tried(shape: ModelShape, dtype: str, out: Path) -> str:
    """What becomes of an engine of this shape: that it runs, or why not, in vLLM's words."""
    scheme = shape.quantization.scheme if shape.quantization is not None else "plain"
    place = out / f"tried-{scheme}-{shape.architecture}"
    model = write_model(replace(shape, torch_dtype=dtype), place, {**SETTINGS, "dtype": dtype})
    given = ["--model", model, "--engine", place / "engine.json", "--workload", out / "workload"]
    command = [sys.executable, "-m", "pytest_gpusim", "measure", "--backend", "vllm", *given]
    done = subprocess.run(
        [*map(str, command), "--out", str(place / "real")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode == 0:
        return "runs"
    said = [line for line in done.stderr.splitlines() if line.startswith("gpusim: ")]
    return (said[-1] if said else done.stderr[-300:]).partition("; see ")[0].replace("|", "/")


def write_model(shape: ModelShape, place: Path, settings: Mapping[str, object]) -> Path:
    """Write ``config.json`` of a shape and ``engine.json``; returns the model's directory."""
    model = place / "model"
    model.mkdir(parents=True)
    config = {**shape.to_hf_config(), "_name_or_path": shape.name}
    (model / "config.json").write_text(json.dumps(config, indent=1))
    (place / "engine.json").write_text(json.dumps(settings))
    return model


if __name__ == "__main__":
    raise SystemExit(main())
