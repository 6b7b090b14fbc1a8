"""The JSON schema of ``comparison.json``; metrics, statistics and checks are the declared ones."""

from __future__ import annotations

from functools import cache
from typing import Any, get_args

from pytest_gpusim.artifacts import SCHEMA_VERSION
from pytest_gpusim.checks import Status
from pytest_gpusim.compare.checks import CHECKS
from pytest_gpusim.compare.judging.tolerances import Verdict
from pytest_gpusim.compare.metrics import METRICS, WHOLE, Metric


def require_valid(document: dict[str, Any]) -> None:
    """Raise `jsonschema.ValidationError` unless a comparison's document is that of the contract."""
    from jsonschema import Draft202012Validator

    Draft202012Validator(comparison_schema()).validate(document)


@cache
def comparison_schema() -> dict[str, Any]:
    """The schema."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "comparison.json of pytest-gpusim",
        **_object(
            {
                "schema_version": {"const": SCHEMA_VERSION},
                "real_runs": {"type": "array", "minItems": 1, "items": {"type": "string"}},
                "sim_run": {"type": "string"},
                "metrics": _object({name: _metric(metric) for name, metric in METRICS.items()}),
                "checks": {
                    "type": "array",
                    "minItems": len(CHECKS),
                    "maxItems": len(CHECKS),
                    "items": _object(
                        {
                            "name": {"enum": list(CHECKS)},
                            "status": {"enum": list(get_args(Status))},
                            "detail": {"type": "string"},
                        }
                    ),
                },
                "verdict": {"enum": list(get_args(Verdict))},
            }
        ),
    }


def _metric(metric: Metric) -> dict[str, Any]:
    figure = _object(
        {
            "real_ns": {"type": "integer"},
            "sim_ns": {"type": "integer"},
            "error": {"type": ["number", "null"]},
            "noise": {"type": ["number", "null"], "minimum": 0},
        }
    )
    if metric.statistics == (WHOLE,):
        return {"oneOf": [{"type": "null"}, figure]}
    table = _object({statistic.name: figure for statistic in metric.statistics})
    return {"oneOf": [{"type": "null"}, table]}


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    """A JSON object that has all of these properties and no other."""
    return {
        "type": "object",
        "additionalProperties": False,
        "required": list(properties),
        "properties": properties,
    }
