"""Vidur on a bundle of AIConfigurator's tables, beside AIConfigurator's own estimate from them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pytest_gpusim.bundle import Bundle, read_bundle
from pytest_gpusim.deployment import EngineSettings
from pytest_gpusim.profiling.aiconfigurator import SOURCE
from pytest_gpusim.providers import SimulationInputs
from pytest_gpusim.registry import builtin_registry
from pytest_gpusim.runs import read_run
from pytest_gpusim.workload import WorkloadRequest, read_workload, write_workload

SYSTEM, FRAMEWORK, VERSION = "a100_sxm", "vllm", "0.14.0"
BATCHES = (1, 8, 32)
PROMPTS = (128, 1024, 4096)
OUTPUT = 64
# Our name, theirs, tensor-parallel degrees.
MODELS = (
    ("Qwen/Qwen3-0.6B", "Qwen/Qwen3-0.6B", (1,)),
    ("meta-llama/Llama-3.1-8B", "meta-llama/Meta-Llama-3.1-8B", (1, 4)),
)


# To the table's time of each layer's prefill attention AIConfigurator adds a constant, however few
# the tokens: 13 us for Llama, 40 us for Qwen3. A single prompt of 128 tokens cannot hide that.
CAUSES = {
    ("Qwen/Qwen3-0.6B", 1, 128): "theirs adds 40 us to each layer's attention, from no table",
}


@dataclass(frozen=True)
class Row:
    """One point; times in ms. ``prefill`` is of the whole batch in one step."""

    model: str
    degree: int
    batch: int
    prompt: int
    prefill: float
    their_prefill: float
    tpot: float
    their_tpot: float

    @property
    def errors(self) -> tuple[float, float]:
        """Relative difference of prefill and TPOT."""
        return self.prefill / self.their_prefill - 1, self.tpot / self.their_tpot - 1

    @property
    def cause(self) -> str:
        """Why the prefill times differ by more than a tenth, where they may."""
        return CAUSES.get((self.model, self.batch, self.prompt), "")


def rows(scratch: Path) -> Iterator[Row]:
    """All points; bundles, workloads and runs are made below ``scratch``."""
    parser = argparse.ArgumentParser()
    SOURCE.add_arguments(parser)
    for name, their_name, degrees in MODELS:
        for degree in degrees:
            place = scratch / f"{name.rsplit('/', 1)[-1]}-{degree}"
            options = ["--system", SYSTEM, "--framework", FRAMEWORK, "--version", VERSION]
            options += ["--model", name, "--tensor-parallel-size", str(degree)]
            SOURCE.produce(parser.parse_args(options), builtin_registry(), place / "profile")
            bundle = read_bundle(place / "profile")
            for batch in BATCHES:
                for prompt in PROMPTS:
                    ours = simulate(bundle, degree, batch, prompt, place / f"{batch}-{prompt}")
                    theirs = estimate(their_name, degree, batch, prompt)
                    yield Row(name, degree, batch, prompt, ours[0], theirs[0], ours[1], theirs[1])


def simulate(
    bundle: Bundle, degree: int, batch: int, prompt: int, scratch: Path
) -> tuple[float, float]:
    """Vidur's prefill time of a batch that arrives at once, and its time per output token, in ms.

    The engine takes the whole batch into one step, as AIConfigurator does.
    """
    requests = [WorkloadRequest(number, number, prompt, OUTPUT, 0) for number in range(batch)]
    write_workload(
        scratch / "workload",
        requests,
        None,
        name="batch",
        seed=None,
        generator={"kind": "benchmarks.silicon"},
    )
    engine = EngineSettings(
        max_num_seqs=batch,
        max_num_batched_tokens=batch * prompt,
        max_model_len=prompt + OUTPUT,
        num_gpu_blocks=batch * (prompt + OUTPUT) // bundle.meta["block_size"] + batch + 1,
        tensor_parallel_size=degree,
        enable_prefix_caching=False,
        async_scheduling=False,
    ).merged(bundle.engine_settings)
    registry = builtin_registry()
    registry.simulators.get("vidur")(
        SimulationInputs(
            bundle.model_shape,
            registry.hardware.get("a100"),
            read_workload(scratch / "workload"),
            bundle,
            engine,
            scratch / "run",
        )
    )
    found = read_run(scratch / "run").requests
    first, last = found["first_token_time_ns"], found["completion_time_ns"]
    if first.nunique() != 1:
        raise RuntimeError(f"{scratch}: the batch was not taken in one step")
    return float(first.iloc[0]) / 1e6, float((last - first).mean()) / (OUTPUT - 1) / 1e6


def estimate(model: str, degree: int, batch: int, prompt: int) -> tuple[float, float]:
    """AIConfigurator's prefill time of a batch and its time per output token, in ms."""
    from aiconfigurator_core.sdk import common, config
    from aiconfigurator_core.sdk.backends.factory import get_backend
    from aiconfigurator_core.sdk.models import get_model
    from aiconfigurator_core.sdk.perf_database import get_database

    settings = config.ModelConfig(
        tp_size=degree,
        gemm_quant_mode=common.GEMMQuantMode.bfloat16,
        kvcache_quant_mode=common.KVCacheQuantMode.bfloat16,
        fmha_quant_mode=common.FMHAQuantMode.bfloat16,
    )
    database = get_database(SYSTEM, FRAMEWORK, VERSION)
    backend = get_backend(FRAMEWORK)
    load = config.RuntimeConfig(batch_size=batch, isl=prompt, osl=OUTPUT)
    shape = get_model(model, settings, FRAMEWORK)
    first = backend.run_static_latency_only(shape, database, load, "static_ctx")
    rest = backend.run_static_latency_only(shape, database, load, "static_gen")
    return float(first), float(rest) / (OUTPUT - 1)
