"""From what a test says of a case to the case itself; what is missing is asked for by name."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from pytest_gpusim.case.definition import Case
from pytest_gpusim.case.given import GivenReal, RealFiles, find_real, read_given
from pytest_gpusim.deployment import EngineSettings, Hardware, ModelShape
from pytest_gpusim.deployment.settings.command_line import is_command
from pytest_gpusim.errors import GpusimWarning, UsageError
from pytest_gpusim.registry import Registry
from pytest_gpusim.workload.generate import WorkloadSpec

if TYPE_CHECKING:
    from pytest_gpusim.bundle import Bundle

EngineArgument = EngineSettings | Mapping[str, Any] | str | Path
WorkloadArgument = str | WorkloadSpec | Path


class CaseArguments(TypedDict, total=False):
    """What describes a case; `pytest_gpusim.plugin.sim_vs_real.SimVsReal` says what each means."""

    model: str | None
    workload: WorkloadArgument | None
    real: RealFiles | None
    profile: str | Path | None
    hardware: str | None
    engine: EngineArgument | None
    simulator: str
    backend: str
    name: str
    params: Mapping[str, Any] | None
    backend_params: Mapping[str, Any] | None


def resolve_case(
    arguments: CaseArguments,
    registry: Registry,
    *,
    marked: Hardware | None,
    artifacts: Path,
    places: Sequence[Path],
    asker: str,
) -> Case:
    """The case that ``arguments`` describe.

    Args:
        arguments: As a test gives them.
        registry: For models, hardware, simulators and importers.
        marked: The hardware that the test is marked with.
        artifacts: Below it, imported runs and workloads get directories of their own.
        places: Where files of relative names are looked for, the likeliest first.
        asker: The test, for messages.

    Raises:
        UsageError: Something is missing or unknown; the message names all that is missing.
        InputError: A file cannot be used.
    """
    simulator = arguments.get("simulator") or "vidur"
    backend = arguments.get("backend") or "vllm"
    params = registry.simulators.get(simulator).read(arguments.get("params") or {})
    backend_params = registry.backends.get(backend).read(arguments.get("backend_params") or {})
    engine = _engine(arguments.get("engine"), places, asker)
    profile = _profile(arguments.get("profile"), places)
    named = arguments.get("model")
    model = registry.model(named) if named else None
    hardware = registry.hardware.get(h) if (h := arguments.get("hardware")) else marked
    workload = arguments.get("workload")
    given, stem = None, ""
    if (real := arguments.get("real")) is not None:
        from pytest_gpusim.runs.importers.stated import Stated

        paths = find_real(real, places)
        stated = Stated(model=model.name if model else None, hardware=hardware)
        stated = replace(stated, engine=engine if engine != EngineSettings() else None)
        if workload is not None:
            stated = replace(stated, workload=_directory_of(workload, hardware, artifacts, places))
        given = read_given(paths, registry, artifacts, stated)
        workload, stem = given.workload.path, _stem_of(paths[0])
    model, asked_model = _model(model, given, profile, registry)
    hardware, asked_hardware = _hardware(hardware, given, profile, registry)
    asked = [asked_model, asked_hardware]
    if workload is None:
        asked.append(
            "workload= (a preset such as 'poisson', a WorkloadSpec or a directory), or real= (a "
            "result file or run, which has one)"
        )
    if model is None or hardware is None or workload is None:
        missing = "; ".join(text for text in asked if text)
        raise UsageError(f"{asker}: sim_vs_real needs {missing}")
    other = engine.other_model(model.name, named if isinstance(named, str) else model.name)
    if other is not None:
        said = f"{asker}: engine= is of {other}, the model is {model.name}: the latter counts"
        warnings.warn(GpusimWarning(said), stacklevel=2)
    return Case(
        model=model,
        hardware=hardware,
        workload=_found(workload, places),
        name=arguments.get("name") or _named_after(stem, model, hardware),
        engine=engine,
        simulator=simulator,
        backend=backend,
        params=params,
        backend_params=backend_params,
        given=given,
        profile=profile,
    )


def _engine(engine: EngineArgument | None, places: Sequence[Path], asker: str) -> EngineSettings:
    if engine is None:
        return EngineSettings()
    if isinstance(engine, EngineSettings):
        return engine
    if isinstance(engine, Mapping):
        return EngineSettings.from_mapping(engine, asker)
    if isinstance(engine, str) and is_command(engine):
        return EngineSettings.load(engine)
    return EngineSettings.load(_found(engine, places))


def _found(named: Any, places: Sequence[Path]) -> Any:
    """A relative path where it exists in one of ``places``; anything else as it is."""
    if isinstance(named, str | Path) and not Path(named).is_absolute():
        for place in places:
            # A name without a folder is a preset or a model before it is a path.
            if (place / named).exists():
                return place / named
    return named


def _profile(profile: str | Path | None, places: Sequence[Path]) -> Bundle | None:
    if profile is None:
        return None
    from pytest_gpusim.bundle import read_bundle

    return read_bundle(Path(_found(profile, places)))


def _directory_of(
    workload: WorkloadArgument, hardware: Hardware | None, artifacts: Path, places: Sequence[Path]
) -> Any:
    """The workload that the user says was replayed."""
    from pytest_gpusim.case.definition import stored_workload, workload_spec

    found = _found(workload, places)
    spec = workload_spec(found, hardware.kind if hardware else "cuda")
    return stored_workload(found if spec is None else spec, artifacts)


def _model(
    model: ModelShape | None, given: GivenReal | None, profile: Bundle | None, registry: Registry
) -> tuple[ModelShape | None, str]:
    """The model: as stated, as the run says, or the profile's; else what to ask for."""
    if model is not None:
        return model, ""
    said = given.runs[0].meta.get("model") if given else None
    if isinstance(said, str):
        if profile is not None and profile.model_shape.name == said:
            return profile.model_shape, ""
        found = registry.find_model(said)
        if found is not None:
            return found, ""
    elif profile is not None:
        return profile.model_shape, ""
    known = ", ".join(registry.models.names())
    why = f"the real run says {said!r}, which is not known here: " if said else ""
    return None, f"model= ({why}one of {known}, or the path of a config.json)"


def _hardware(
    hardware: Hardware | None, given: GivenReal | None, profile: Bundle | None, registry: Registry
) -> tuple[Hardware | None, str]:
    """The device class: as marked or stated, as the run says, or the profile's."""
    if hardware is not None:
        return hardware, ""
    names = registry.hardware.names()
    for said in (
        given.runs[0].meta.get("hardware") if given else None,
        profile.meta.get("hardware") if profile else None,
    ):
        if said in names:
            return registry.hardware.get(str(said)), ""
    return None, f"a hardware marker or hardware= (one of {', '.join(names)})"


def _stem_of(path: Path) -> str:
    """What a file, or a run directory such as ``chat/real/1``, is called."""
    names = (part.partition(".")[0] for part in reversed(path.parts))
    return next(
        (name for name in names if name not in ("", "/", "real") and not name.isdigit()), ""
    )


def _named_after(stem: str, model: ModelShape, hardware: Hardware) -> str:
    """A case of given files is called by model, hardware and its first file."""
    if not stem:
        return ""
    return f"{model.name.rsplit('/', 1)[-1]}-{hardware.name}-{stem}".lower()
