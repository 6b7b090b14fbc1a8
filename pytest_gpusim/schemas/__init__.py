"""JSON schemas of the metadata files, for other people's scripts: ``<name>.json`` beside this.

They say what this version writes; keys that they do not name may be there.
"""

from __future__ import annotations

import json
from importlib import resources
from typing import Any


def schema_names() -> list[str]:
    """The files that have a schema, without ``.json``."""
    files = (path.name for path in resources.files(__name__).iterdir())
    return sorted([*(name[:-5] for name in files if name.endswith(".json")), "comparison"])


def schema_of(name: str) -> dict[str, Any]:
    """The schema of a file; that of a comparison follows from its declared metrics and checks."""
    if name == "comparison":
        from pytest_gpusim.compare.schema import comparison_schema

        return comparison_schema()
    text = resources.files(__name__).joinpath(f"{name}.json").read_text(encoding="utf-8")
    return dict(json.loads(text))
