"""Engine settings under vLLM's names: what decides the schedule of a serving engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from pytest_gpusim.deployment.dtypes import PLAIN_DTYPES
from pytest_gpusim.deployment.settings import brief, find, flat, modelled, unmodelled
from pytest_gpusim.deployment.settings.command_line import is_command, read_command, read_script
from pytest_gpusim.deployment.settings.config_file import read_config_documents, settle_false
from pytest_gpusim.deployment.settings.log import is_log, read_log
from pytest_gpusim.deployment.settings.nested import unwrap
from pytest_gpusim.errors import InputError, UsageError, meant, shortly
from pytest_gpusim.json_documents import read_json
from pytest_gpusim.texts import NO_PATH, can_be_path

# vllm/entrypoints/cli/serve.py: what stands before all options goes before --model.
MODEL_NAMES = ("model_tag", "model", "served_model_name")
_LOGS = (".log", ".txt", ".out")
_DOCUMENTS = (".json", ".yaml", ".yml", ".sh")


@dataclass(frozen=True)
class EngineSettings:
    """vLLM's settings that a simulation must share with the engine; None where not stated.

    `pytest_gpusim.deployment.settings` has the table of all settings, these among them.
    ``num_gpu_blocks`` counts KV blocks of ``block_size`` tokens, vLLM's null block included.
    ``engine_version`` picks the scheduling rules, and the defaults, of that release.
    """

    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    max_model_len: int | None = None
    block_size: int | None = None
    num_gpu_blocks: int | None = None
    enable_prefix_caching: bool | None = None
    async_scheduling: bool | None = None
    long_prefill_token_threshold: int | None = None
    scheduler_reserve_full_isl: bool | None = None
    dtype: str | None = None
    tensor_parallel_size: int | None = None
    enforce_eager: bool | None = None
    engine_version: str | None = None
    gpu_memory_utilization: float | None = None
    kv_cache_memory_bytes: int | None = None
    performance_mode: str | None = None
    quantization: str | None = None
    kv_cache_dtype: str | None = None
    enable_expert_parallel: bool | None = None
    assumed: Mapping[str, str] = field(default_factory=dict, compare=False)
    """Names of settings that nobody stated, and what they were taken from, in words."""
    notes: tuple[str, ...] = field(default=(), compare=False)
    """What of the source these settings leave out, a sentence each."""
    models: tuple[str, ...] = field(default=(), compare=False)
    """What the source calls the model: where it comes from first, then as what it is served."""

    @classmethod
    def from_mapping(
        cls, document: Mapping[str, Any], where: Path | str, *, strict: bool = True
    ) -> EngineSettings:
        """Read settings from a mapping.

        Args:
            document: Settings under vLLM's names, in any spelling (`find`); parts of a resolved
                configuration (``scheduler_config``, …) may stand as they are.
            where: The file, for messages.
            strict: Refuse unknown keys (a user's file); else pass over them (a run's metadata).

        Raises:
            InputError: An unknown key or a value of the wrong kind.
            UsageError: A setting that is not modelled.
        """
        stated = flat(document)
        for key, value, words in unmodelled(stated):
            raise UsageError(f"{where}: {key}={brief(value)}: {words} not modelled")
        values: dict[str, Any] = {}
        left: dict[str, list[str]] = {}
        called: dict[str, tuple[str, ...]] = {}
        for key, value in stated.items():
            match = find(key)
            if match is None:
                if strict:
                    names = [setting.name for setting in modelled()]
                    raise InputError(
                        where,
                        key,
                        f"unknown engine setting{meant(key, names)}; known are {', '.join(names)}",
                    )
                continue
            setting, opposite = match
            if setting.name in MODEL_NAMES:
                some = value if isinstance(value, list) else [value]
                called[setting.name] = tuple(map(str, some))
                continue
            if setting.role != "modelled":
                if setting.role != "refused" and value is not None:
                    left.setdefault(setting.words, []).append(key)
                continue
            read = setting.read(value, where, key)
            if opposite and read is not None:
                read = not read
            if read is None:
                continue
            if strict and values.get(setting.name, read) != read:
                raise InputError(
                    where, key, f"is {brief(read)}, stated above as {values[setting.name]!r}"
                )
            values.setdefault(setting.name, read)
        cache = values.get("kv_cache_dtype")
        if cache is not None and cache.startswith("fp8"):
            values["kv_cache_dtype"] = "fp8"
        elif cache in PLAIN_DTYPES and "quantization" not in values:
            # A KV cache in the model's own dtype is what auto means there.
            if values.get("dtype") in PLAIN_DTYPES and values["dtype"] != cache:
                raise UsageError(f"{where}: a {cache} KV cache of a {values['dtype']} model")
            del values["kv_cache_dtype"]
        notes = [f"{', '.join(keys)}: not simulated, {why}" for why, keys in left.items()]
        models = dict.fromkeys(name for key in MODEL_NAMES for name in called.get(key, ()))
        return cls(**values, notes=tuple(notes) if strict else (), models=tuple(models))

    @classmethod
    def of_run(cls, meta: Mapping[str, Any], where: Path | str) -> EngineSettings:
        """The settings of a run's metadata, as far as it says; what it assumed stays assumed."""
        settings = cls.from_mapping(meta.get("engine") or {}, where, strict=False)
        assumed = meta.get("assumed")
        known = settings.to_json()
        words = {
            str(key): str(source)
            for key, source in (assumed.items() if isinstance(assumed, Mapping) else ())
            if key in known
        }
        model = meta.get("model")
        models = (model,) if isinstance(model, str) else ()
        return replace(settings, assumed=words, models=models)

    @classmethod
    def load(cls, source: Path | str) -> EngineSettings:
        """Read settings as people have them.

        Args:
            source: A JSON or YAML file under vLLM's names (``vllm serve --config`` reads the same),
                a file of a deployment that holds those (``FILE#PART`` of several engines), a run
                directory, a log of vLLM (``*.log``, ``*.txt``, ``*.out``), the command that started
                it (``"vllm serve …"``), or a script with that (``*.sh``).

        Raises:
            InputError: It cannot be read, or has an unknown setting or a wrong value.
            UsageError: A setting asks for what is not modelled.
        """
        if isinstance(source, str) and is_command(source):
            document, notes = read_command(source, "--engine")
            settings = cls.from_mapping(document, "--engine")
            return replace(settings, notes=(*settings.notes, *notes))
        if not can_be_path(str(source)):
            raise InputError(shortly(str(source)), "", NO_PATH)
        path, part = Path(source), ""
        if "#" in path.name and not path.exists():
            name, _, part = path.name.partition("#")
            path = path.with_name(name)
        if path.is_dir():
            meta = path / "run_meta.json"
            if not meta.exists():
                raise InputError(path, "", "incomplete: no run_meta.json in this run directory")
            document = read_json(meta)
            engine = document.get("engine") if isinstance(document, dict) else None
            if not isinstance(engine, dict):
                raise InputError(meta, "engine", "the run recorded no engine settings")
            return cls.of_run(document, meta)
        notes = []
        logged = path.suffix in _LOGS or (path.suffix not in _DOCUMENTS and is_log(path))
        if logged:
            document, notes = read_log(path)
        elif path.suffix == ".sh":
            document, notes = read_command(read_script(path), str(path))
        elif path.suffix in (".yaml", ".yml"):
            document, notes = unwrap(read_config_documents(path), path, part)
            document, more = settle_false(document)
            notes += more
        else:
            document = read_json(path, fix="give a JSON or YAML file, a log or a run directory")
            document, notes = unwrap(document, path, part)
        settings = cls.from_mapping(document, path, strict=not logged)
        return replace(settings, notes=(*settings.notes, *notes))

    def other_model(self, *names: str) -> str | None:
        """The model that the source names, where it is none of ``names``, in whatever spelling."""
        known = set(map(_last_part, names))
        if not self.models or any(_last_part(name) in known for name in self.models):
            return None
        return self.models[0]

    def to_json(self) -> dict[str, Any]:
        """The stated settings, as JSON values."""
        values = {setting.name: getattr(self, setting.name) for setting in modelled()}
        return {key: value for key, value in values.items() if value is not None}

    def merged(self, other: EngineSettings, source: str = "") -> EngineSettings:
        """These settings, with what they do not state taken from ``other``.

        Args:
            other: Where the rest comes from.
            source: Says, in `assumed`, what that is; empty where ``other`` states things as well
                as these settings do.
        """
        missing = {
            key: value for key, value in other.to_json().items() if getattr(self, key) is None
        }
        assumed = {key: source or other.assumed.get(key, "") for key in missing}
        known = {key: words for key, words in assumed.items() if words}
        return replace(self, **missing, assumed={**self.assumed, **known})


def _last_part(name: str) -> str:
    """A model's name without its organization; of a path, its last part."""
    parts = name.rstrip("/").removesuffix("/config.json").split("/")
    for folder, inner in pairwise(parts):
        if inner == "snapshots" and folder.startswith("models--"):  # Hugging Face's cache
            return folder.rpartition("--")[2].lower()
    return parts[-1].lower()
