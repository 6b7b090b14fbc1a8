"""The JSON schema of ``comparison.json``; metrics, statistics and checks are the declared ones."""

from __future__ import annotations

from functools import cache
from typing import Any, get_args

from pytest_gpusim.checks import Status
from pytest_gpusim.compare.checks import CHECKS
from pytest_gpusim.compare.comparison import COMPARISON_SCHEMA
from pytest_gpusim.compare.judging.equivalence import Outcome
from pytest_gpusim.compare.judging.verdict import Verdict
from pytest_gpusim.compare.metrics import (
    AGREEMENTS,
    HEADLINES,
    METRICS,
    PER_REQUEST,
    THROUGHPUTS,
    TIMES,
    WHOLE,
    Metric,
)


def require_valid(document: dict[str, Any]) -> None:
    """Raise `jsonschema.ValidationError` unless a comparison's document is that of the contract."""
    from jsonschema import Draft202012Validator

    Draft202012Validator(comparison_schema()).validate(document)


@cache
def comparison_schema() -> dict[str, Any]:
    """The schema, version `COMPARISON_SCHEMA`."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "comparison.json of pytest-gpusim",
        **_object(
            {
                "schema_version": {"const": COMPARISON_SCHEMA},
                "real_runs": {"type": "array", "minItems": 1, "items": {"type": "string"}},
                "sim_run": {"type": "string"},
                "metrics": _object({name: _metric(METRICS[name]) for name in TIMES}),
                "throughput": _object({name: _metric(METRICS[name]) for name in THROUGHPUTS}),
                "goodput": _or_null(
                    _object(
                        {
                            "limits_ns": {
                                "type": "object",
                                "propertyNames": {"enum": list(PER_REQUEST)},
                                "additionalProperties": {"type": "number", "minimum": 0},
                            },
                            **_figure(METRICS["goodput"]),
                        }
                    )
                ),
                "distribution": {
                    "type": "object",
                    "propertyNames": {
                        "enum": [f"{m}_{each.name}" for m in HEADLINES for each in AGREEMENTS]
                    },
                    "additionalProperties": _object(
                        {"real": _NUMBER, "sim": {"type": "number"}, "interval": _INTERVAL}
                    ),
                },
                "checks": {
                    "type": "array",
                    "minItems": len(CHECKS),
                    "maxItems": len(CHECKS),
                    "items": _object(
                        {
                            "name": {"enum": list(CHECKS)},
                            "status": {"enum": list(get_args(Status))},
                            "detail": {"type": "string"},
                            "needed": {"type": "boolean"},
                        }
                    ),
                },
                "judgements": {"type": "array", "items": _object(_JUDGEMENT)},
                "verdict": {"enum": list(get_args(Verdict))},
            }
        ),
    }


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    """A JSON object that has all of these properties and no other."""
    return {
        "type": "object",
        "additionalProperties": False,
        "required": list(properties),
        "properties": properties,
    }


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    return {"oneOf": [{"type": "null"}, schema]}


_NUMBER: dict[str, Any] = {"type": ["number", "null"]}
_INTERVAL = _or_null({"type": "array", "minItems": 2, "maxItems": 2, "items": {"type": "number"}})
_JUDGEMENT: dict[str, Any] = {
    "name": {"type": "string"},
    "metric": {"enum": list(METRICS)},
    "statistic": {"type": "string"},
    "outcome": {"enum": list(get_args(Outcome))},
    "real": _NUMBER,
    "sim": _NUMBER,
    "unit": {"type": "string"},
    "error": _NUMBER,
    "interval": _INTERVAL,
    "tolerance": {"type": "number", "minimum": 0},
    "floor": {"type": "number", "minimum": 0},
    "decided_by": {"enum": ["tolerance", "floor", "limit"]},
    "num_runs": {"type": "integer"},
    "run_sd": _NUMBER,
    "pooled": {"type": "boolean"},
    "runs_needed": {"type": ["integer", "null"]},
    "reason": {"type": "string"},
}


def _figure(metric: Metric) -> dict[str, Any]:
    common = {"error": _NUMBER, "run_sd": _NUMBER, "interval": _INTERVAL}
    if metric.unit == "ns":
        return {"real_ns": {"type": "integer"}, "sim_ns": {"type": "integer"}, **common}
    number = {"type": "number"}
    return {"real": number, "sim": number, "unit": {"const": metric.unit}, **common}


def _metric(metric: Metric) -> dict[str, Any]:
    figure = _object(_figure(metric))
    if metric.statistics == (WHOLE,):
        return _or_null(figure)
    return _or_null(_object({statistic.name: figure for statistic in metric.statistics}))
