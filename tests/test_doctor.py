"""``gpusim doctor``: what is here, and what can run."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from pytest_gpusim.cli import main
from pytest_gpusim.doctor import examine, report_lines
from pytest_gpusim.registry import builtin_registry
from tests.factories import make_bundle


def test_the_profiling_root_may_come_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    make_bundle(tmp_path / "named")
    make_bundle(tmp_path / "asked" / "cpu" / "tiny" / "model")
    monkeypatch.setenv("GPUSIM_PROFILING_ROOT", str(tmp_path / "named"))
    assert main(["doctor", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["profiling_root"] == str(tmp_path / "named")
    assert document["bundles"] == ["."]
    assert main(["doctor", "--json", "--profiling-root", str(tmp_path / "asked")]) == 0
    assert json.loads(capsys.readouterr().out)["profiling_root"] == str(tmp_path / "asked")


@pytest.mark.parametrize(
    ("module", "what", "extra"),
    [
        ("aiconfigurator_core", "profile GPUs that are not here (aiconfigurator)", "silicon"),
        ("pyarrow", "profile GPUs that are not here (aiconfigurator)", "silicon"),
        ("aiohttp", "measure a server (openai)", "server"),
    ],
)
def test_what_an_extra_would_add_is_said(
    monkeypatch: pytest.MonkeyPatch, module: str, what: str, extra: str
):
    found = importlib.util.find_spec

    def without(name: str, package: str | None = None) -> Any:
        return None if name == module else found(name, package)

    monkeypatch.setattr("pytest_gpusim.doctor.find_spec", without)
    findings = examine(builtin_registry())
    assert findings["can"][what] == {"ok": False, "why": f"pip install 'pytest-gpusim[{extra}]'"}
    assert f"cannot {what}: pip install 'pytest-gpusim[{extra}]'" in report_lines(findings)


def test_known_hardware_that_is_absent_is_one_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        "pytest_gpusim.deployment.hardware.detect_device_name",
        lambda kind: "a processor" if kind == "cpu" else None,
    )
    lines = [line for line in report_lines(examine(builtin_registry())) if "no such device" in line]
    assert len(lines) == 1
    assert lines[0].startswith("cannot measure and profile vllm on a100, a40, ")


def test_what_works_with_upstream_and_what_does_not_is_said():
    can = examine(builtin_registry())["can"]
    (own,) = (name for name in can if "its own 'python -m vidur.main'" in name)
    assert can[own]["ok"] or "make vidur-upstream" in can[own]["why"]
    rest = can["use Vidur's upstream for anything else"]
    assert not rest["ok"]
    assert "vidur._native" in rest["why"]
