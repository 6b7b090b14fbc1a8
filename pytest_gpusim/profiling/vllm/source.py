"""``gpusim profile vllm``: options, and the steps from an engine to a bundle."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_gpusim.errors import EngineError, UsageError

if TYPE_CHECKING:
    from pytest_gpusim.deployment import EngineSettings, Hardware, ModelShape
    from pytest_gpusim.registry import Registry
    from pytest_gpusim.vllm_runtime import EngineProcess, LaunchSpec

FULL_PASSES, QUICK_PASSES = 4, 2
_METHOD = (
    "operators timed by module hooks inside real, eager engine steps of the whole model; layer "
    "operators are the mean over a step's layers, median over steps and passes; residual "
    "additions are part of the layer norms, the cache write is part of attention; attention of "
    "chunks at contexts that were not measured is proportional to both, at the measured rate, that "
    "of decodes at contexts that do not fit the KV cache is on a line with the last two that do, "
    "and beside decodes a chunk longer than the longest measured one adds what it adds alone; "
    "overhead.csv is the served engine's whole step, timed without hooks, less what the other "
    "tables give for it, so it may be negative; that whole step is the median times the ratio of "
    "mean to median over all points, as step times are skewed"
)


class VllmSource:
    """Profiles a model on a live vLLM engine."""

    help = "measure operators inside a live vLLM engine"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument(
            "--model", required=True, help="a known name, or the path of a config.json"
        )
        parser.add_argument("--hardware", required=True, help="a known name, such as cpu or a100")
        parser.add_argument(
            "--engine",
            metavar="SETTINGS",
            help="the engine settings that the profile must cover: a file, log, command or run",
        )
        parser.add_argument("--quick", action="store_true", help="few shapes, two passes")
        parser.add_argument("--passes", type=int, metavar="N", help=f"default {FULL_PASSES}")
        parser.add_argument("--weights", type=Path, metavar="DIR", help="a checkpoint")
        parser.add_argument("--threads", type=int, metavar="N", help="OpenMP threads, on a CPU")

    def produce(self, arguments: argparse.Namespace, registry: Registry, out: Path) -> None:
        """Write a bundle at ``out``."""
        from pytest_gpusim.deployment import EngineSettings

        if arguments.passes is not None and arguments.passes < 1:
            raise UsageError(f"--passes {arguments.passes}: expected at least 1")
        profile_vllm(
            registry.model(arguments.model),
            registry.hardware.get(arguments.hardware),
            EngineSettings.load(arguments.engine) if arguments.engine else EngineSettings(),
            out,
            quick=arguments.quick,
            passes=arguments.passes,
            weights=arguments.weights,
            threads=arguments.threads,
        )


SOURCE = VllmSource()


def profile_vllm(
    model: ModelShape,
    hardware: Hardware,
    settings: EngineSettings,
    out: Path,
    *,
    quick: bool = False,
    passes: int | None = None,
    weights: Path | None = None,
    threads: int | None = None,
) -> None:
    """Profile ``model`` under ``settings`` and write a bundle at ``out``.

    Operators are timed in an eager, synchronous engine, by hooks. Whole steps are timed without
    them, in the engine that is asked for; the difference is its engine time. A call that was
    interrupted goes on where it was when it is made again.

    Args:
        model: The shape.
        hardware: The device class; such a device must be here.
        settings: What the bundle must cover; vLLM's defaults where not stated.
        out: An absent or empty directory.
        quick: Few shapes and passes.
        passes: Independent passes over all shapes; the tables hold medians.
        weights: A checkpoint; made-up weights cost the same time.
        threads: OpenMP threads on a CPU.

    Raises:
        UsageError: The device is not here, or a setting cannot be.
        EngineStopped: The engine failed; the next call goes on after what was measured.
    """
    from pytest_gpusim.artifacts import require_vacant
    from pytest_gpusim.bundle import write_bundle
    from pytest_gpusim.profiling.composition import coverage_of
    from pytest_gpusim.profiling.vllm.campaign import say
    from pytest_gpusim.profiling.vllm.estimate import duration, guess
    from pytest_gpusim.profiling.vllm.tables import repeatability, tables_of
    from pytest_gpusim.vllm_runtime import LaunchSpec

    require_vacant(out)
    if hardware.present_device() is None:
        raise UsageError(
            f"no {hardware.name} in this machine ('gpusim doctor' lists what is); of a GPU that is "
            "not here 'gpusim profile aiconfigurator' makes a bundle from tables"
        )
    asked = LaunchSpec.resolve(model, settings, hardware.kind, weights=weights, threads=threads)
    plain, cached = engines_to_time(asked)
    number = passes or (QUICK_PASSES if quick else FULL_PASSES)
    count, seconds = guess(plain, hardware, number, quick=quick)
    say(
        f"about {2 * count} measurements on {'1 engine' if plain == cached else '2 engines'}, "
        f"roughly {duration(2 * seconds)} by the model's size; a measured estimate follows"
    )
    samples, _, operators = _measure(plain, number, quick, hooks=True, again=True)
    # Hooks cost more than can be told from outside, so the steps themselves are timed without.
    say("now whole steps of the engine as asked for")
    walls, engine, steps = _measure(cached, number, quick, hooks=False)
    resolved = covered_settings(engine.engine, settings)
    tables = tables_of(samples, walls, model, resolved)
    write_bundle(
        out,
        tables,
        {
            "model": model.name,
            "model_shape": model.to_json(),
            "hardware": hardware.name,
            "device_name": engine.device_name,
            "engine": "vllm",
            "engine_version": resolved["engine_version"],
            "engine_mode": resolved["engine_mode"],
            "engine_settings": resolved,
            "dtype": resolved["dtype"],
            "quantization": model.quantization.scheme if model.quantization else None,
            "kv_cache_dtype": model.kv_cache_dtype(
                resolved["dtype"], resolved.get("kv_cache_dtype")
            ),
            "block_size": resolved["block_size"],
            "tensor_parallel_sizes": [resolved["tensor_parallel_size"]],
            "source": "vllm",
            "calibrated_on": [],
            "coverage": coverage_of(tables),
            "repeatability": repeatability(samples, walls),
            "quick": quick,
            "method": _METHOD,
        },
    )
    for campaign in (operators, steps):
        campaign.forget()


def engines_to_time(asked: LaunchSpec) -> tuple[LaunchSpec, LaunchSpec]:
    """The engine whose operators are timed by hooks, and the one whose whole steps are timed.

    Contexts are put into the prefix cache; a threshold would split the chunks that are wanted;
    hooks need modules that run, one step at a time.
    """
    cached = asked.with_settings(enable_prefix_caching=True, long_prefill_token_threshold=0)
    same = bool(asked.settings.enforce_eager) and (
        asked.device == "cpu" or asked.settings.async_scheduling is False
    )
    plain = cached if same else cached.with_settings(enforce_eager=True, async_scheduling=False)
    return plain, cached


def covered_settings(resolved: Mapping[str, Any], asked: EngineSettings) -> dict[str, Any]:
    """The settings that a bundle covers: what the engine resolved, but for what `engines_to_time`
    changed, which makes no step longer or shorter.
    """
    stated = asked.to_json()
    changed = ("enable_prefix_caching", "long_prefill_token_threshold")
    return {**resolved, **{name: stated[name] for name in changed if name in stated}}


def _measure(
    spec: LaunchSpec, passes: int, quick: bool, *, hooks: bool, again: bool = False
) -> tuple[list[Any], EngineProcess, Any]:
    from pytest_gpusim.profiling.vllm.campaign import Campaign, say
    from pytest_gpusim.profiling.vllm.grid import shapes_of
    from pytest_gpusim.vllm_runtime import EngineStopped, shared_engine

    say(f"starting vLLM with {spec.model.name} on {spec.device}")
    engine = shared_engine(spec)
    resolved = dict(engine.engine)
    # A stated number of blocks is in the spec; another may come out otherwise at the next start.
    blocks = int(resolved.pop("num_gpu_blocks"))
    campaign = Campaign([spec.to_json(), resolved, engine.device_name, hooks], passes)
    campaign.plan(
        blocks, lambda number: shapes_of({**resolved, "num_gpu_blocks": number}, quick=quick)
    )
    if not campaign.shapes:
        raise EngineError(f"num_gpu_blocks={blocks}: the KV cache has no room for a step")
    try:
        campaign.run(engine, hooks=hooks, say=say, again=again)
    except EngineStopped as error:
        raise EngineStopped(f"{error}; the same command goes on where it was") from None
    return campaign.samples(), engine, campaign
