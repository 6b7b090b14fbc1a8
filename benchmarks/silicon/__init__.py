"""Our step times from AIConfigurator's tables, beside AIConfigurator's own estimate from them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pytest_gpusim.bundle import read_bundle
from pytest_gpusim.deployment import EngineSettings
from pytest_gpusim.profiling.aiconfigurator import SOURCE
from pytest_gpusim.registry import builtin_registry
from pytest_gpusim.serving.steptime import StepFeatures, StepTimeModel

SYSTEM, FRAMEWORK, VERSION = "a100_sxm", "vllm", "0.14.0"
BATCHES = (1, 8, 32)
PROMPTS = (128, 1024, 4096)
OUTPUT = 64
# Our name, theirs, tensor-parallel degrees.
MODELS = (
    ("Qwen/Qwen3-0.6B", "Qwen/Qwen3-0.6B", (1,)),
    ("meta-llama/Llama-3.1-8B", "meta-llama/Meta-Llama-3.1-8B", (1, 4)),
)


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


def rows(scratch: Path) -> Iterator[Row]:
    """All points; bundles are made below ``scratch``."""
    parser = argparse.ArgumentParser()
    SOURCE.add_arguments(parser)
    for name, their_name, degrees in MODELS:
        for degree in degrees:
            out = scratch / f"{name.rsplit('/', 1)[-1]}-{degree}"
            options = ["--system", SYSTEM, "--framework", FRAMEWORK, "--version", VERSION]
            options += ["--model", name, "--tensor-parallel-size", str(degree)]
            SOURCE.produce(parser.parse_args(options), builtin_registry(), out)
            bundle = read_bundle(out)
            model = StepTimeModel(
                bundle, bundle.model_shape, EngineSettings(tensor_parallel_size=degree)
            )
            for batch in BATCHES:
                for prompt in PROMPTS:
                    context = prompt + OUTPUT // 2
                    prefill = StepFeatures([(prompt, 0)] * batch, 0, 0, batch)
                    decode = StepFeatures([], batch, batch * context, batch, context, context)
                    ours = (model.time(step).time_ns / 1e6 for step in (prefill, decode))
                    theirs = estimate(their_name, degree, batch, prompt)
                    first, second = ours
                    yield Row(name, degree, batch, prompt, first, theirs[0], second, theirs[1])


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
