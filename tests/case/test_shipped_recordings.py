"""The recordings that ship are of the cases that are compared: otherwise those would only skip."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.cases import CLOSED, ENGINES, MODEL, RECORDINGS, UNSEEN, WORKLOADS, cpu_workload
from benchmarks.served import MODELS
from pytest_gpusim.case import Case, Settings
from pytest_gpusim.case.recorded import recorded
from pytest_gpusim.deployment import EngineSettings
from pytest_gpusim.registry import builtin_registry
from pytest_gpusim.workload.generate import WorkloadSpec

OPEN = [cpu_workload(name, seed) for name, seed in [*((name, 0) for name in WORKLOADS), *UNSEEN]]


def _case(spec: WorkloadSpec) -> Case:
    registry = builtin_registry()
    engine = EngineSettings.load(ENGINES / "qwen3-0.6b-cpu.yaml")
    return Case(registry.model(MODEL), registry.hardware.get("cpu"), spec, engine=engine)


@pytest.mark.parametrize("spec", [*OPEN, *CLOSED], ids=lambda spec: spec.short_name)
def test_every_case_has_its_recording(spec: WorkloadSpec, tmp_path: Path) -> None:
    case = _case(spec)
    settings = Settings(builtin_registry(), tmp_path, tmp_path, recordings=RECORDINGS)
    real = recorded(case, settings)
    assert len(real.runs) >= 3  # fewer give no noise floor to speak of
    assert real.bundle.meta["calibrated_on"] == []


def test_no_recording_is_of_no_case() -> None:
    names = [_case(spec).case_name for spec in (*OPEN, *CLOSED)]
    assert len(set(names)) == len(names)
    served = [f"{model.name.replace('/', '-')}-cpu" for model in MODELS]
    there = {place.name for place in RECORDINGS.iterdir() if place.is_dir()}
    assert there <= {*names, *served}


def test_recordings_are_small_and_tell_no_paths() -> None:
    files = [path for path in RECORDINGS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 4_000_000
    told = [path for path in files if path.suffix == ".json" and '"/' in path.read_text()]
    assert told == []
