"""One folder of a published run: the engine, the model and the machine that it states."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pytest_gpusim.deployment import EngineSettings, ModelShape
from pytest_gpusim.deployment.settings import Deployment, default, release_of
from pytest_gpusim.errors import InputError
from pytest_gpusim.json_documents import read_json
from pytest_gpusim.llmservingsim.cluster import Cluster, read_cluster, require_one_engine
from pytest_gpusim.llmservingsim.identity import known_dtype
from pytest_gpusim.llmservingsim.kv_blocks import derive_blocks, stated_memory_gib
from pytest_gpusim.llmservingsim.meta import look_up, read_meta
from pytest_gpusim.llmservingsim.profile_folder import (
    ProfileFiles,
    Wanted,
    find_profile,
)
from pytest_gpusim.llmservingsim.run import META, engine_settings
from pytest_gpusim.registry import Registry
from pytest_gpusim.serving import release_is_known

RUN_FOLDER = "vllm_run"
_MOST_BLOCKS = 2**31


@dataclass
class PublishedRun:
    """One folder, read: what is simulated and what it is compared with.

    Attributes:
        directory: The folder.
        meta: The run's ``meta.json``, cleaned.
        cluster: ``cluster.json``.
        profile: The files of the profile.
        model: The shape in ``config.json``.
        engine: Resolved settings, with a block count.
        notes: What had to be assumed or derived.
        capacity: The terms of a derived block count; None where the run states it.
    """

    directory: Path
    meta: dict[str, Any]
    cluster: Cluster
    profile: ProfileFiles
    model: ModelShape
    engine: EngineSettings
    notes: list[str] = field(default_factory=list)
    capacity: dict[str, Any] | None = None

    @property
    def tensor_parallel_size(self) -> int:
        """The run's degree."""
        return self.engine.tensor_parallel_size or 1

    @property
    def device_name(self) -> str | None:
        """The GPU by the run, else by ``cluster.json``, else by the profile."""
        return _device_name(self.meta, self.cluster) or self.profile.text("gpu")


def find_runs(directories: Sequence[Path | str]) -> Iterator[Path]:
    """The folders of published runs: those given, or the ones in them."""
    for name in directories:
        directory = Path(name)
        if not directory.is_dir():
            raise InputError(directory, "", "no such directory", "give a folder with vllm_run/")
        if (directory / RUN_FOLDER).is_dir():
            yield directory.resolve()
            continue
        inner = sorted(p for p in directory.iterdir() if (p / RUN_FOLDER).is_dir())
        if not inner:
            raise InputError(
                directory,
                "",
                "neither it nor a folder in it has a published run",
                "give a folder that holds vllm_run/, profile/ and config.json",
            )
        yield from (path.resolve() for path in inner)


def read_published(directory: Path, registry: Registry) -> PublishedRun:
    """Read a folder's run, model and machine, and find its profile; the requests come later.

    Raises:
        InputError: A file is missing or wrong, or the profile is of something else.
        UsageError: The run used what is not modelled.
    """
    path = directory / RUN_FOLDER / META
    meta, notes = read_meta(path)
    cluster = read_cluster(directory / "cluster.json")
    notes += cluster.notes
    notes += require_one_engine(cluster, look_up(meta, "data_parallel_size"))
    engine, assumed = engine_settings(meta, path)
    notes += assumed
    if engine.tensor_parallel_size is None:
        engine = replace(engine, tensor_parallel_size=cluster.degree())
    name = str(meta["model"]) if meta.get("model") else None
    model, own_dtype = _model(directory, name, meta, registry)
    stated = engine.dtype if engine.dtype not in (None, "auto") else own_dtype
    profile = find_profile(
        directory / "profile",
        Wanted(engine.tensor_parallel_size, name, _device_name(meta, cluster), stated),
    )
    if stated is None:
        stated, note = _assumed_dtype(profile)
        notes.append(note)
    usual = Deployment(
        release_of(engine.engine_version),
        memory_gib=stated_memory_gib(meta, cluster) or 0.0,
        device_name=_device_name(meta, cluster) or "",
    )
    engine, assumed = _with_limits(replace(engine, dtype=stated), profile, usual)
    notes += [*assumed, *_notes_on_releases(engine.engine_version, profile)]
    run = PublishedRun(directory, meta, cluster, profile, model, engine, notes)
    if (engine.num_gpu_blocks or 0) > _MOST_BLOCKS:
        raise InputError(path, "num_gpu_blocks", f"{engine.num_gpu_blocks} is no number of blocks")
    if engine.num_gpu_blocks is None:
        derived = derive_blocks(meta, cluster, model, engine)
        notes += derived.notes
        run.capacity = derived.terms
        blocks = EngineSettings(num_gpu_blocks=derived.num_gpu_blocks)
        run.engine = engine.merged(blocks, f"computed: {derived.terms['formula']}")
    return run


def _device_name(meta: Mapping[str, Any], cluster: Cluster) -> str | None:
    stated = meta["hardware"].get("device_name") or cluster.first.get("hardware")
    return str(stated) if stated else None


def _model(
    directory: Path, name: str | None, meta: Mapping[str, Any], registry: Registry
) -> tuple[ModelShape, str | None]:
    """The model's shape, and the dtype in which an engine runs it unless told otherwise."""
    path = directory / "config.json"
    if not path.is_file():
        if name in registry.models.names():
            shape = registry.models.get(str(name))
            return shape, shape.torch_dtype
        raise InputError(path, "", "no such file, and the run's model is not a known one")
    config = read_json(path, fix="give a Hugging Face config.json")
    if not isinstance(config, dict):
        raise InputError(path, "", "expected a JSON object, a Hugging Face config.json")
    window, longest = config.get("sliding_window"), look_up(meta, "max_model_len")
    covered = isinstance(window, int) and isinstance(longest, int) and longest <= window
    if covered or look_up(meta, "disable_sliding_window") is True:
        config = {**config, "sliding_window": None, "layer_types": None}
    known = name or config.get("_name_or_path") or directory.name
    if isinstance(config.get("architectures"), list):
        config["architectures"] = [str(name) for name in config["architectures"]]
    own = known_dtype(config.get("torch_dtype") or config.get("dtype"))
    # vLLM runs a float32 checkpoint in bfloat16 unless a dtype is asked for.
    own = "bfloat16" if own == "float32" else own
    return ModelShape.from_config(config, name=str(known), where=path), own


def _assumed_dtype(profile: ProfileFiles) -> tuple[str, str]:
    """A dtype that nobody states, and the note that says whose it is."""
    stated = (profile.section("engine_effective").get("dtype"), profile.text("variant"))
    profiled = next((d for name in stated if (d := known_dtype(name))), None)
    source = "the profile's" if profiled else "the models' usual one"
    dtype = profiled or "bfloat16"
    return dtype, f"dtype is not stated; taken as {source}, {dtype}"


def _with_limits(
    engine: EngineSettings, profile: ProfileFiles, usual: Deployment
) -> tuple[EngineSettings, list[str]]:
    """Scheduler limits that the run does not state: the profile's engine's, else vLLM's defaults
    on such a device.
    """
    profiled = profile.section("engine_effective")
    notes = []
    for key in ("max_num_seqs", "max_num_batched_tokens"):
        if getattr(engine, key) is not None:
            continue
        value, source = profiled.get(key), "the profile's engine"
        if type(value) is not int or value < 1:
            value, source = max(default(key, usual), engine.max_num_seqs or 1), "vLLM's default"
        limit: Any = {key: value}
        engine = engine.merged(EngineSettings(**limit), source)
        notes.append(f"{key} is not stated; taken from {source}, {value}")
    return engine, notes


def _notes_on_releases(version: str | None, profile: ProfileFiles) -> list[str]:
    notes = []
    if not release_is_known(version):
        notes.append(
            f"vLLM {version or 'of an unknown release'} is scheduled by the nearest known rules"
        )
    profiled = profile.text("vllm_version")
    if version and profiled and version != profiled:
        notes.append(f"the profile is of vLLM {profiled}, the run of {version}")
    return notes
