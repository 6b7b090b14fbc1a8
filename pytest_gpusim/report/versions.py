"""Comparisons on disk, those of earlier versions as this one reads them.

Schema versions of ``comparison.json``: 1, of the first release, has ``noise`` (the largest distance
of a real run from their median) where 2 has the spread and an interval, judgements in
``run_meta.json`` alone, and the status ``overridden``; where nothing was judged it says ``pass``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pytest_gpusim.compare.checks import CHECKS
from pytest_gpusim.compare.comparison import COMPARISON_SCHEMA
from pytest_gpusim.compare.document import ComparisonDocument
from pytest_gpusim.compare.metrics import METRICS, THROUGHPUTS, WHOLE, find_figure
from pytest_gpusim.errors import InputError
from pytest_gpusim.json_documents import check_schema_version, read_json

COMPARISON, META = "comparison.json", "run_meta.json"


def read_document(path: Path | str) -> ComparisonDocument:
    """Read a comparison's directory.

    Raises:
        InputError: It is incomplete or was written by a newer version.
    """
    path = Path(path)
    fix = "make it with 'gpusim compare'"
    comparison = read_json(path / COMPARISON, fix=fix)
    if not isinstance(comparison, dict):
        raise InputError(path / COMPARISON, "", "expected a JSON object", fix)
    check_schema_version(path / COMPARISON, comparison, newest=COMPARISON_SCHEMA)
    meta = read_json(path / META, fix=fix)
    if comparison["schema_version"] == 1:
        comparison = upgrade_comparison(comparison, meta)
    return ComparisonDocument(comparison, meta, path)


def upgrade_comparison(comparison: dict[str, Any], meta: dict[str, Any]) -> dict[str, Any]:
    """A comparison of schema version 1 in the shape of version 2."""
    judgements = [_judgement(item) for item in meta.get("judgements", [])]
    verdict = comparison["verdict"]
    return {
        **comparison,
        "schema_version": 2,
        "metrics": {name: _metric(name, table) for name, table in comparison["metrics"].items()},
        "throughput": dict.fromkeys(THROUGHPUTS),
        "goodput": None,
        "distribution": {},
        "checks": [_check(check) for check in comparison["checks"]],
        "judgements": judgements,
        "verdict": "not_judged" if verdict == "pass" and not judgements else verdict,
    }


def _metric(name: str, table: Any) -> Any:
    if not table:
        return None
    if METRICS[name].statistics == (WHOLE,):
        return _figure(table)
    return {statistic: _figure(entry) for statistic, entry in table.items()}


def _figure(entry: dict[str, Any]) -> dict[str, Any]:
    kept = {key: entry[key] for key in ("real_ns", "sim_ns", "error")}
    return {**kept, "run_sd": None, "interval": None}


def _check(check: dict[str, Any]) -> dict[str, Any]:
    declared = CHECKS.get(check["name"])
    status = "accepted" if check["status"] == "overridden" else check["status"]
    return {**check, "status": status, "needed": declared is not None and declared.needed}


def _judgement(item: dict[str, Any]) -> dict[str, Any]:
    metric, statistic = find_figure(item["name"])
    return {
        "name": item["name"],
        "metric": metric.name,
        "statistic": statistic.name,
        "outcome": item["outcome"],
        "real": item["real_ns"],
        "sim": item["sim_ns"],
        "unit": "ns",
        "error": item["error"],
        "interval": None,
        "tolerance": item["tolerance"],
        "floor": item["floor_ns"],
        "decided_by": "tolerance",
        "num_runs": 1 if item.get("noise") is None else 2,
        "run_sd": None,
        "pooled": False,
        "runs_needed": None,
        "reason": item.get("reason", ""),
    }
