"""Vidur's upstream: the checkout in this clone, and the environment made of it.

``gpusim doctor`` loads this file where the package lies in a clone; an installed one has none.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
UPSTREAM_CHECKOUT = Path("extern") / "tracked" / "vidur"
UPSTREAM_ENVIRONMENT = Path(".venv-upstream")
COMMAND = "make vidur-upstream"
WORKS = (
    "its own 'python -m vidur.main' on a bundle's mlp.csv and attention.csv, of one GPU "
    "(extern/README.md)"
)
WORKS_NOT = (
    "its classes have other constructors and no vidur._native: gpusim simulate, vLLM's rules, "
    "exact times and the profile predictor run on the installed package alone"
)
_SHORT = 12


def examine_upstream(root: Path = ROOT) -> dict[str, Any]:
    """States of checkout and environment of the clone at ``root``, as a JSON value."""
    environment = root / UPSTREAM_ENVIRONMENT
    checkout = root / UPSTREAM_CHECKOUT
    return {
        "checkout": str(checkout),
        "state": upstream_state(checkout),
        "pinned": pinned_commit(checkout),
        "environment": str(environment) if environment.is_dir() else None,
        "commit": installed_commit(environment),
    }


def abilities() -> dict[str, dict[str, Any]]:
    """What can be done with it, and why not, as ``can`` of ``gpusim doctor``."""
    installed = installed_commit(ROOT / UPSTREAM_ENVIRONMENT)
    why = "" if installed else f"not installed: '{COMMAND}'"
    return {
        f"use Vidur's upstream: {WORKS}": {"ok": not why, "why": why},
        "use Vidur's upstream for anything else": {"ok": False, "why": WORKS_NOT},
    }


def upstream_state(checkout: Path) -> str:
    """One of these, and what there is to say of it.

    ``absent``, ``not checked out`` (an empty folder, as a clone makes of a submodule), ``not a git
    checkout``, ``clean at <commit>`` (and whether that is the pinned one), ``changed at <commit>``.
    """
    if not checkout.is_dir():
        return "absent"
    if not any(checkout.iterdir()):
        return "not checked out"
    if not (checkout / ".git").exists():
        return "not a git checkout: it has files and no .git"
    commit = _git(checkout, "rev-parse", "HEAD")
    changes = _git(checkout, "status", "--porcelain")
    if commit is None or changes is None:
        return "not a git checkout: git cannot read it"
    commit = commit.strip()
    if changes:
        lines = changes.splitlines()
        more = f" and {len(lines) - 1} more" if len(lines) > 1 else ""
        return f"changed at {commit[:_SHORT]}: {lines[0][3:]}{more}"
    return f"clean at {commit[:_SHORT]}, {_beside_pinned(commit, pinned_commit(checkout))}"


def pinned_commit(checkout: Path) -> str | None:
    """The commit that the project's own index names for the submodule."""
    listed = _git(checkout.parent, "ls-files", "--stage", "--", checkout.name)
    mode, _, rest = (listed or "").partition(" ")
    return rest.split()[0] if mode == "160000" else None


def installed_commit(environment: Path) -> str | None:
    """The commit that an environment was made of; None where there is none, or half of one."""
    try:
        text = (environment / "vidur-commit").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return text or None


def upstream_lines(findings: dict[str, Any]) -> list[str]:
    """The findings as text."""
    lines = [f"{UPSTREAM_CHECKOUT}: {findings['state']}"]
    commit = findings["commit"]
    if commit is None:
        half = "unfinished" if findings["environment"] else "absent"
        return [*lines, f"{UPSTREAM_ENVIRONMENT}: {half}; '{COMMAND}' makes it"]
    beside = _beside_pinned(commit, findings["pinned"])
    return [*lines, f"{UPSTREAM_ENVIRONMENT}: Vidur {commit[:_SHORT]}, {beside}"]


def _beside_pinned(commit: str, pinned: str | None) -> str:
    if pinned is None:
        return "no commit is pinned"
    return "as pinned" if commit == pinned else f"another commit than the pinned {pinned[:_SHORT]}"


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
    return done.stdout if done.returncode == 0 else None
