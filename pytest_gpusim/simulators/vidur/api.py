"""Vidur by the names that people come with; thin over the general machinery.

Importing this module imports neither Vidur nor anything heavy.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pytest_gpusim.deployment import EngineSettings, Hardware, ModelShape
from pytest_gpusim.errors import InputError
from pytest_gpusim.providers import SimulationInputs
from pytest_gpusim.registry import builtin_registry

QWEN3_0_6B = "Qwen/Qwen3-0.6B"


@dataclass(frozen=True)
class Qwen3ModelRef:
    """Where a Qwen3 model's Hugging Face ``config.json`` is."""

    config_json: Path


@dataclass(frozen=True)
class ProfilingRootLayout:
    """A profiling root: ``<hardware>/<org>/<name>/[<variant>/]`` below it, or itself a bundle."""

    profiling_root: Path


@dataclass(frozen=True)
class VidurSimInputs:
    """What `run_vidur_sim` simulates.

    Attributes:
        workload_dir: A workload directory.
        profiling_root: A profiling root, or a bundle.
        model_id: A registered model, or the path of a ``config.json``; where neither, the shape
            that a bundle of that name states.
        hardware: A registered device class; None takes the only one that the root has it on.
        engine: A file of engine settings, a run directory or the settings; None: the bundle's.
        params: Options of the simulator (`pytest_gpusim.simulators.vidur.runner.simulate`).
    """

    workload_dir: Path
    profiling_root: Path
    model_id: str
    hardware: str | None = None
    engine: EngineSettings | Path | None = None
    params: Mapping[str, Any] = field(default_factory=dict)


def register_qwen3_0_6b(*, model_ref: Qwen3ModelRef) -> None:
    """Make ``Qwen/Qwen3-0.6B`` known to Vidur, with the shape that its ``config.json`` states.

    Raises:
        InputError: The file is not a Qwen3 model's.
        EngineError: Vidur is missing, or knows the name with another shape.
    """
    from pytest_gpusim.simulators.vidur.registration import register_model

    shape = ModelShape.from_config_file(model_ref.config_json, name=QWEN3_0_6B)
    if shape.architecture != "Qwen3ForCausalLM":
        raise InputError(
            model_ref.config_json,
            "architectures",
            f"expected Qwen3ForCausalLM, found {shape.architecture}",
        )
    register_model(shape)


def run_vidur_main(*, model_config_root: Path) -> None:
    """Register every ``config.json`` below a directory with Vidur, then run ``vidur.main``.

    A model's name is its path below ``model_config_root``, such as ``Qwen/Qwen3-0.6B``, or what the
    file states as ``_name_or_path``. Vidur reads ``sys.argv``.

    Raises:
        InputError: There is no ``config.json`` below it, or one is not of a model that can be
            simulated.
        EngineError: Vidur is missing, not of a supported version, or failed.
    """
    from pytest_gpusim.simulators.vidur.main import hand_over
    from pytest_gpusim.simulators.vidur.registration import register_model

    root = Path(model_config_root)
    configs = sorted(root.rglob("config.json"))
    if not configs:
        raise InputError(root, "", "no config.json below it", "give a folder of model configs")
    for path in configs:
        below = path.parent.relative_to(root)
        name = below.as_posix() if below.parts else None
        register_model(ModelShape.from_config_file(path, name=name))
    hand_over(sys.argv[1:])


def validate_profiling_root(layout: ProfilingRootLayout) -> None:
    """Read every bundle of a profiling root.

    Raises:
        InputError: The root is missing, has no bundle, or one of them is broken; the message names
            the file, what is wrong and the command that mends it.
    """
    from pytest_gpusim.bundle import read_bundle

    for path in _bundles(layout.profiling_root):
        read_bundle(path)


def run_vidur_sim(inputs: VidurSimInputs, *, out_dir: Path) -> None:
    """Simulate a workload with Vidur and write the run directory ``out_dir``.

    Raises:
        InputError: The workload, the bundle or the engine settings cannot be used together.
        UsageError: ``out_dir`` is not empty, a name is not known, or a request can never run.
        EngineError: Vidur is missing, not of a supported version, or failed.
    """
    from pytest_gpusim.bundle import read_bundle, resolve_root
    from pytest_gpusim.bundle.match import require_match
    from pytest_gpusim.simulators.engine import complete_settings
    from pytest_gpusim.simulators.vidur.runner import simulate
    from pytest_gpusim.workload import read_workload

    workload = read_workload(inputs.workload_dir)
    registry = builtin_registry()
    stated = registry.find_model(inputs.model_id)
    name = stated.name if stated else inputs.model_id
    hardware = inputs.hardware or _only_hardware(inputs.profiling_root, name)
    engine = inputs.engine or EngineSettings()
    if not isinstance(engine, EngineSettings):
        engine = EngineSettings.load(engine)
    bundle = read_bundle(resolve_root(inputs.profiling_root, name, hardware, engine))
    of_name = bundle.model_shape if bundle.meta["model"] == name else None
    model = stated or of_name or registry.model(name)  # the last says which are known
    device: Hardware = registry.hardware.get(hardware)
    asked = SimulationInputs(model, device, workload, bundle, engine, out_dir, inputs.params)
    engine = complete_settings(asked)
    workload.require_fits(engine.max_model_len)
    require_match(bundle, model, device, engine)
    simulate(replace(asked, engine=engine))


def _bundles(root: Path) -> list[Path]:
    from pytest_gpusim.bundle.layout import bundle_names, is_bundle, resolve_root

    root = Path(root)
    if root.is_dir() and not is_bundle(root):
        names = bundle_names(root)
        if names:
            return [root / name for name in names]
    # One bundle, or none: then this raises what is missing.
    return [resolve_root(root, QWEN3_0_6B, "cpu")]


def _only_hardware(root: Path, model_id: str) -> str:
    """The device class of the bundles of a model below a root."""
    from pytest_gpusim.bundle.reader import read_bundle_meta

    metas = [read_bundle_meta(path) for path in _bundles(root)]
    found = sorted({str(meta["hardware"]) for meta in metas if meta["model"] == model_id})
    if len(found) != 1:
        known = ", ".join(sorted({f"{meta['model']} on {meta['hardware']}" for meta in metas}))
        raise InputError(
            root,
            "",
            f"no single device has a bundle of {model_id}; bundles found: {known}",
            "name one as hardware",
        )
    return found[0]
