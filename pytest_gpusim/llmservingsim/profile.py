"""Bundles from LLMServingSim's profiles: ``gpusim profile llmservingsim DIR``.

Its profiler measures the CUDA kernels of each vLLM layer (``dense.csv``, ``per_sequence.csv``) and
attention jointly over prefill and decode (``attention.csv``), in us; ``meta.yaml`` says of what.
Between GPUs it measures nothing: those operations are priced by the link of ``cluster.json``.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_gpusim.bundle import write_bundle
from pytest_gpusim.bundle.schema import (
    ALL_REDUCE,
    ATTENTION,
    MIXED_ATTENTION,
    MLP,
    MOE,
    OVERHEAD,
    PER_SEQUENCE,
    SKEW_FIT,
)
from pytest_gpusim.deployment import ModelShape
from pytest_gpusim.deployment.model import dtype_bytes
from pytest_gpusim.errors import InputError, UsageError
from pytest_gpusim.json_documents import read_json
from pytest_gpusim.llmservingsim.collectives import Link, all_reduce_table, link_from_cluster
from pytest_gpusim.llmservingsim.experts import read_experts
from pytest_gpusim.llmservingsim.identity import contradicting_sizes
from pytest_gpusim.llmservingsim.profile_folder import (
    ProfileFiles,
    Wanted,
    find_profile,
    mapping,
)
from pytest_gpusim.llmservingsim.profile_tables import (
    profile_dtype,
    read_dense,
    read_joint_attention,
    read_overhead,
    read_per_sequence,
    read_skew,
)
from pytest_gpusim.profiling.composition import (
    attention_rows,
    coverage_of,
    hardware_name,
    mlp_rows,
)

if TYPE_CHECKING:
    import pandas as pd

    from pytest_gpusim.registry import Registry


class _Source:
    help = "an LLMServingSim profile (dense.csv, per_sequence.csv, attention.csv, meta.yaml)"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "directory", type=Path, metavar="DIR", help="the profile, or a folder that holds one"
        )
        parser.add_argument("--model", help="a model's name or config.json; default: DIR's own")
        parser.add_argument("--hardware", help="name of the device class; default: by the GPU")
        parser.add_argument(
            "--tensor-parallel-size", type=int, metavar="N", help="default: the one profiled"
        )
        parser.add_argument(
            "--enable-expert-parallel",
            action="store_true",
            help="whole experts on each device, instead of a share of every one",
        )
        parser.add_argument(
            "--cluster", type=Path, metavar="FILE", help="cluster.json, for more than one GPU"
        )

    def produce(self, arguments: argparse.Namespace, registry: Registry, out: Path) -> None:
        wanted = Wanted(arguments.tensor_parallel_size)
        if arguments.model and arguments.model in registry.models.names():
            wanted = replace(wanted, model=arguments.model)
        files = find_profile(arguments.directory, wanted)
        shape = _shape(arguments.directory, files, arguments.model, registry)
        link = None
        if files.tensor_parallel > 1:
            link = _link(arguments.directory, arguments.cluster)
        known = hardware_name(registry, files.text("gpu"), files.text("hardware"))
        compose(
            files,
            shape,
            hardware=arguments.hardware or known,
            link=link,
            out=out,
            expert_parallel=arguments.enable_expert_parallel,
        )


SOURCE = _Source()


def compose(
    files: ProfileFiles,
    shape: ModelShape,
    *,
    hardware: str,
    link: Link | None,
    out: Path,
    expert_parallel: bool = False,
) -> None:
    """Write the bundle of a profile.

    Args:
        files: The profile, from `find_profile`.
        shape: The model, of which the tables are.
        hardware: The name of the device class.
        link: The link between devices; needed where the degree is above 1.
        out: Where; absent or empty.
        expert_parallel: Whether devices hold whole experts, not a share of each.
    """
    workers = files.tensor_parallel
    if workers > 1 and link is None:
        raise UsageError(
            f"{files.tables}: is of tensor-parallel degree {workers}, and no file states the link "
            "between the GPUs; give --cluster FILE (link_bw GB/s, link_latency ns)"
        )
    effective = files.section("engine_effective")
    dtype = profile_dtype(files.meta, shape)
    width = dtype_bytes(dtype)
    _require_same_sizes(files, shape)
    notes = [
        "times are those of CUDA kernels alone: no time of the engine, none between kernels",
        *files.notes,
    ]
    dense, tokens, dense_notes = read_dense(files, shape)
    per_sequence, sequence_notes = read_per_sequence(files)
    notes += [*dense_notes, *sequence_notes]
    joint = read_joint_attention(files.tables)
    tables: dict[str, pd.DataFrame | None] = {OVERHEAD: read_overhead(files)}
    if workers > 1:
        assert link is not None
        dense["emb"] = [
            time + link.all_reduce_ns(count * shape.hidden_size * width, workers) / 1e6
            for time, count in zip(dense["emb"], tokens, strict=True)
        ]
        vocabulary = shape.vocab_size * width
        heads = per_sequence["operator"] == "lm_head"
        per_sequence.loc[heads, "time_ns"] += [
            round(link.all_gather_ns(count * vocabulary, workers))
            for count in per_sequence.loc[heads, "sequences"]
        ]
        most = max(tokens) * shape.hidden_size * width
        tables[ALL_REDUCE] = all_reduce_table(link, workers, most)
        notes.append(
            f"all-reduces by {'one exchange' if workers == 2 else 'a ring'} over links of "
            f"{link.bytes_per_ns:g} GB/s and {link.latency_ns:g} ns a hop; emb includes that "
            "of the embedding, which is split by vocabulary, lm_head the all-gather of the logits"
        )
    block_size = _positive(effective.get("block_size"), 16)
    pure = joint[(joint["prefill_chunk"] == 0) | (joint["n_decode"] == 0)]
    prefill, decode = pure[pure["prefill_chunk"] > 0], pure[pure["n_decode"] > 0]
    if shape.experts is not None:
        tables[MOE], expert_notes = read_experts(files, shape, expert_parallel)
        notes += expert_notes
    tables[MLP] = mlp_rows(shape, workers, tokens, dense)
    tables[ATTENTION] = attention_rows(
        shape,
        workers,
        prefill=prefill.rename(columns={"prefill_chunk": "chunk", "kv_prefill": "context"}),
        decode=decode.rename(columns={"n_decode": "sequences", "kv_decode": "context"}),
        block_size=block_size,
        max_model_len=_positive(effective.get("max_model_len"), shape.max_position),
        backend="vllm",
    )
    tables[MIXED_ATTENTION] = joint.drop(columns="time_ms")
    tables[PER_SEQUENCE] = per_sequence
    tables[SKEW_FIT], skew, skew_notes = read_skew(files)
    notes += skew_notes
    write_bundle(
        out,
        tables,
        {
            "model": shape.name,
            "model_shape": shape.to_json(),
            "hardware": hardware,
            "device_name": files.meta.get("gpu"),
            "engine": "vllm",
            "engine_version": files.text("vllm_version"),
            "engine_mode": "compiled" if effective.get("enforce_eager") is False else "eager",
            "dtype": dtype,
            "block_size": block_size,
            "tensor_parallel_sizes": [workers],
            **({"engine_settings": {"enable_expert_parallel": True}} if expert_parallel else {}),
            "source": "llmservingsim",
            "calibrated_on": [],
            "coverage": coverage_of(tables),
            "repeatability": None,
            "skew_fit": skew,
            "measured_at": files.text("profiled_at"),
            "notes": notes,
        },
    )


def _require_same_sizes(files: ProfileFiles, shape: ModelShape) -> None:
    overrides = files.section("engine_effective").get("hf_overrides")
    sizes = {
        "intermediate_size": shape.intermediate_size,
        "num_attention_heads": shape.num_q_heads,
    }
    wrong = contradicting_sizes(mapping(overrides), sizes)
    if wrong:
        key = wrong[0]
        raise InputError(
            files.meta_path,
            f"engine_effective.hf_overrides.{key}",
            f"the profile is of {files.text('model') or 'a model'} with {mapping(overrides)[key]}, "
            f"{shape.name} has {sizes[key]}",
        )


def _positive(value: Any, default: int) -> int:
    return value if type(value) is int and value > 0 else default


def _shape(directory: Path, files: ProfileFiles, model: str | None, registry: Registry) -> Any:
    name = files.text("model")
    if model is not None:
        return registry.model(model)
    for place in (directory, directory.parent, files.tables, files.meta_path.parent):
        if (place / "config.json").is_file():
            return ModelShape.from_config_file(place / "config.json", name=name)
    if name in registry.models.names():
        return registry.models.get(str(name))
    raise UsageError(
        f"{directory}: no config.json beside the profile of {name or 'an unnamed model'}; "
        "give --model (a known name, or the path of its config.json)"
    )


def _link(directory: Path, cluster: Path | None) -> Link | None:
    places = [cluster] if cluster else [d / "cluster.json" for d in (directory, directory.parent)]
    for path in places:
        if cluster is not None or path.is_file():
            return link_from_cluster(read_json(path), path)
    return None
