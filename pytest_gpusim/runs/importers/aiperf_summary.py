"""What AIPerf's summary tells of its run: version, models, and how the load was made.

Read by the sources of AIPerf 0.13 (``input_config.phases``, each with ``type`` and, for
``concurrency``, how many at once; 1 where that is left out) and in the form of releases before
(``input_config.loadgen``).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_gpusim.documents import first_document
from pytest_gpusim.workload.load import Load


class Summary:
    """AIPerf's summary, where that lies beside the records; without it nothing is known."""

    def __init__(self, path: Path) -> None:
        document = first_document(path)
        self._document: dict[str, Any] = document if isinstance(document, dict) else {}

    @property
    def version(self) -> str | None:
        """AIPerf's version."""
        version = self._document.get("aiperf_version")
        return version if isinstance(version, str) else None

    @property
    def models(self) -> list[str]:
        """The models that were asked; ``endpoint.model_names`` is where releases before 0.13 had
        them."""
        items = self._at("input_config", "models", "items")
        names = [
            item.get("name") if isinstance(item, dict) else item
            for item in (items if isinstance(items, list) else [])
        ]
        if not names:
            found = self._at("input_config", "endpoint", "model_names")
            names = found if isinstance(found, list) else []
        return [name for name in names if isinstance(name, str)]

    @property
    def counts(self) -> dict[str, Any]:
        """How many requests were answered and how many failed, where it says so."""
        return {
            "answered": self._at("request_count", "avg"),
            "failed": self._at("error_request_count", "avg"),
        }

    def load(self, phase: int = 0) -> Load:
        """So many users at once, each sending the next when one is done: a closed loop.

        A rate with a limit has no schedule to catch up with: what it sent is its schedule.

        Args:
            phase: Which of the measured phases.
        """
        phases = [each for each in self._phases() if _is_measured(each)]
        if phases:
            at = phases[min(phase, len(phases) - 1)]
            if at.get("type") != "concurrency":
                return Load()
            # What was not set is not exported, and its default is 1.
            return _at_once(at.get("concurrency", 1))
        rate = self._at("input_config", "loadgen", "request_rate")
        found = self._at("input_config", "loadgen", "concurrency")
        return Load() if rate is not None else _at_once(found)

    def _phases(self) -> list[Mapping[str, Any]]:
        found = self._at("input_config", "phases")
        if isinstance(found, dict):
            found = [found]
        found = [each for each in found if isinstance(each, dict)] if found else []
        single = self._at("input_config", "profiling")
        return [*found, single] if isinstance(single, dict) else found

    def _at(self, *keys: str) -> Any:
        found: Any = self._document
        for key in keys:
            found = found.get(key) if isinstance(found, dict) else None
        return found


def _is_measured(phase: Mapping[str, Any]) -> bool:
    warm = "warmup" in (phase.get("kind"), phase.get("name"))
    return not warm and phase.get("exclude_from_results") is not True


def _at_once(count: Any) -> Load:
    return Load(count) if type(count) is int and count > 0 else Load()
