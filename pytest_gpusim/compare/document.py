"""A comparison as JSON documents: what every report is made from."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_gpusim.artifacts import provenance, utc_now
from pytest_gpusim.compare.judging.equivalence import estimate
from pytest_gpusim.json_documents import SCHEMA_VERSION
from pytest_gpusim.runs.identity import run_digest

if TYPE_CHECKING:
    from pytest_gpusim.compare.comparison import Comparison
    from pytest_gpusim.compare.figures import Figure
    from pytest_gpusim.compare.sides import Sides
    from pytest_gpusim.runs import Run


@dataclass(frozen=True)
class ComparisonDocument:
    """A comparison as its directory holds it.

    Attributes:
        comparison: ``comparison.json``.
        meta: ``run_meta.json``: sources, judgements, causes, attribution, provenance.
        path: The directory; None before it is written.
        told_by: What tells it from others of its name, such as its test.
    """

    comparison: dict[str, Any]
    meta: dict[str, Any]
    path: Path | None = None
    told_by: str = ""

    @property
    def case(self) -> str:
        """What was compared, such as ``qwen3-0.6b-cpu-poisson``: the name without its time."""
        name = re.sub(r"-\d{8}T\d{6}-[0-9a-f]{6}$", "", self.name)
        return f"{name} ({self.told_by})" if self.told_by else name

    @property
    def title(self) -> str:
        """Model, hardware and simulator, as far as known."""
        model = str(self.meta.get("model") or "unknown model")
        device = self.meta.get("device_name") or self.meta.get("hardware") or "unknown device"
        return f"{model} on {device}, simulated by {self.meta.get('simulator') or 'unknown'}"

    @property
    def verdict(self) -> str:
        """The verdict as a reader sees it, with what was accepted."""
        word = str(self.comparison["verdict"]).replace("_", " ")
        accepted = [
            check["name"] for check in self.comparison["checks"] if check["status"] == "accepted"
        ]
        return f"{word} ({', '.join(accepted)} accepted)" if accepted else word

    @property
    def against(self) -> list[dict[str, Any]]:
        """The checks that forbid a pass."""
        return [
            check
            for check in self.comparison["checks"]
            if check["status"] == "fail" or (check["needed"] and check["status"] == "unknown")
        ]

    @property
    def judgements(self) -> list[dict[str, Any]]:
        """What was judged."""
        return list(self.comparison["judgements"])

    @property
    def name(self) -> str:
        """The directory's name, or the simulated run's."""
        return self.path.name if self.path is not None else str(self.comparison["sim_run"])


def document_of(comparison: Comparison, path: Path | None = None) -> ComparisonDocument:
    """The two documents of a comparison that is, or will be, at ``path``."""
    from pytest_gpusim.compare.schema import require_valid

    document = comparison.to_json()
    require_valid(document)
    return ComparisonDocument(document, _meta(comparison, path), path)


def _meta(comparison: Comparison, path: Path | None) -> dict[str, Any]:
    sides = comparison.sides
    real, sim = sides.real[0].meta, sides.sim.meta
    return {
        "schema_version": SCHEMA_VERSION,
        "run_id": path.name if path is not None else None,
        "run_type": "compare",
        "case": comparison.name,
        "simulator": sim.get("run_type"),
        "backend": real.get("backend"),
        "model": real.get("model") or sim.get("model"),
        "hardware": real.get("hardware") or sim.get("hardware"),
        "device_name": real.get("device_name"),
        "workload_dir": real.get("workload_dir"),
        "workload_digest": real.get("workload_digest"),
        "profiling_root": sim.get("profiling_root"),
        "profiling_digest": sim.get("profiling_digest"),
        "engine": real.get("engine"),
        "sim_engine": sim.get("engine"),
        "load": _load(sides),
        "real": [_source(run) for run in sides.real],
        "sim": _source(sides.sim),
        "sim_seeds": [_source(run) for run in sides.sims[1:]],
        "engine_version": (real.get("engine") or {}).get("engine_version"),
        "engine_mode": _engine_mode(real),
        "run_digests": [run_digest(run) for run in sides.real],
        "estimates": {
            name: _estimate(figure)
            for name, figure in comparison.figures.by_name.items()
            if not figure.estimate.absolute
        },
        "left_out": dict(comparison.left_out),
        "accepted": list(comparison.accepted),
        "stated": {
            run.run_id: run.meta["stated"]
            for run in (*sides.real, *sides.sims)
            if run.meta.get("stated")
        },
        "causes": comparison.causes,
        "unavailable": dict(comparison.figures.unavailable),
        "num_requests": len(sides.sim_metrics.requests),
        "num_left_out": len(sides.left_out),
        "attribution": comparison.attribution,
        "written_at": utc_now(),
        **provenance(),
    }


def _load(sides: Sides) -> dict[str, Any]:
    """What the workload asked of the engine: requests a second, or how many at once; and how."""
    requests = sides.real[0].requests
    arrivals = requests["arrival_time_ns"].sort_values()
    span = float(arrivals.max() - arrivals.min())
    limit = (sides.real[0].meta.get("load") or {}).get("max_concurrency")
    rate = (len(arrivals) - 1) * 1e9 / span if span > 0 and limit is None else None
    turns = requests["turn"].fillna(0).max() if "turn" in requests else 0
    return {
        "requests_per_second": rate,
        "max_concurrency": limit,
        "arrivals": _arrivals(arrivals.diff().iloc[1:]) if rate else None,
        "conversations": bool(turns),
    }


def _arrivals(gaps: Any) -> str:
    """How they are spread, by the gaps' coefficient of variation: 0 when even, 1 for Poisson's."""
    variation = float(gaps.std(ddof=0) / gaps.mean())
    return "even" if variation < 0.5 else "random" if variation < 1.5 else "in bursts"


def _engine_mode(meta: Mapping[str, Any]) -> str | None:
    """``eager`` or ``compiled``."""
    eager = (meta.get("engine") or {}).get("enforce_eager")
    return None if eager is None else "eager" if eager else "compiled"


def _estimate(figure: Figure) -> dict[str, Any]:
    """A figure's logs; ``run_sd`` is that of this comparison's runs alone, without a history."""
    found = figure.estimate
    return {
        "num_runs": found.num_runs,
        "mean_log": math.log(found.real),
        "run_sd": estimate(figure.real, figure.sim).run_sd,
        "offset": found.offset,
        "low": found.low,
        "high": found.high,
    }


def _source(run: Run) -> dict[str, Any]:
    keys = ("run_type", "workload_digest", "started_at", "git_commit")
    return {
        "run_id": run.run_id,
        "path": str(run.path),
        **{key: run.meta.get(key) for key in keys},
    }
