"""The shipped schemas are schemas, and what ships with the repository is as they say."""

from __future__ import annotations

import json

import pytest
from jsonschema import Draft202012Validator

from benchmarks.cases import RECORDINGS
from pytest_gpusim.schemas import schema_names, schema_of


@pytest.mark.parametrize("name", schema_names())
def test_it_is_a_schema(name):
    Draft202012Validator.check_schema(schema_of(name))


@pytest.mark.parametrize("name", ["run_meta", "workload_meta", "profile_meta", "recording"])
def test_what_ships_is_as_its_schema_says(name):
    found = list(RECORDINGS.rglob(f"{name}.json"))
    assert len(found) >= 6
    validator = Draft202012Validator(schema_of(name))
    for path in found:
        document = json.loads(path.read_text())
        assert not list(validator.iter_errors(document)), path
        # The schema names what is written; a key that it has and no file has would be made up.
        assert set(schema_of(name)["required"]) <= set(document)
