"""What every report is made from: the JSON documents of one comparison."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_gpusim.artifacts import check_schema_version, read_json
from pytest_gpusim.errors import InputError


@dataclass(frozen=True)
class ComparisonDocument:
    """A comparison as its directory holds it.

    Attributes:
        comparison: ``comparison.json``.
        meta: ``run_meta.json``: sources, judgements, causes, attribution, provenance.
        path: The directory; None before it is written.
    """

    comparison: dict[str, Any]
    meta: dict[str, Any]
    path: Path | None = None

    @property
    def title(self) -> str:
        """Model, hardware and simulator, as far as known."""
        model = str(self.meta.get("model") or "unknown model")
        device = self.meta.get("device_name") or self.meta.get("hardware") or "unknown device"
        return f"{model} on {device}, simulated by {self.meta.get('simulator') or 'unknown'}"

    @property
    def verdict(self) -> str:
        """The verdict, and whether it rests on the checks alone."""
        verdict = str(self.comparison["verdict"])
        judged = bool(self.meta["judgements"])
        return verdict if judged or verdict != "pass" else f"{verdict} (checks only)"

    @property
    def name(self) -> str:
        """The directory's name, or the simulated run's."""
        return self.path.name if self.path is not None else str(self.comparison["sim_run"])


def read_document(path: Path | str) -> ComparisonDocument:
    """Read a comparison's directory.

    Raises:
        InputError: It is incomplete or was written by a newer version.
    """
    path = Path(path)
    fix = "make it with 'gpusim compare'"
    comparison = read_json(path / "comparison.json", fix=fix)
    if not isinstance(comparison, dict):
        raise InputError(path / "comparison.json", "", "expected a JSON object", fix)
    check_schema_version(path / "comparison.json", comparison)
    meta = read_json(path / "run_meta.json", fix=fix)
    return ComparisonDocument(comparison, meta, path)
