"""Settings from the YAML file that ``vllm serve --config`` reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_gpusim.deployment.settings.defaults import release_of
from pytest_gpusim.deployment.settings.lookup import find
from pytest_gpusim.errors import InputError
from pytest_gpusim.yaml_documents import read_yaml_documents

# Before this release ``key: false`` was dropped, and the default held
# (vllm/utils/argparse_utils.py: FlexibleArgumentParser.load_config_file).
_FALSE_COUNTS_SINCE = (0, 28)


def read_config(path: Path) -> dict[str, Any]:
    """The settings of a file, as its keys spell them; see `settle_false` on ``key: false``.

    Values go to the command line's parser, so an object may be a text of JSON.

    Raises:
        InputError: It is no YAML file of settings.
    """
    found = read_config_documents(path)
    if not isinstance(found, dict):
        raise InputError(path, "", "expected a mapping of engine settings")
    return found


def read_config_documents(path: Path) -> Any:
    """As `read_config`; a list of all that the file holds where that is not one mapping."""
    documents = read_yaml_documents(path)
    if len(documents) != 1 or not isinstance(documents[0], dict):
        return documents
    return {str(key): _object(value) for key, value in documents[0].items()}


def _object(value: Any) -> Any:
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def settle_false(document: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """A file's settings as vLLM takes them, and notes on what that changes.

    ``no-key: true`` turns a setting off in every release. ``key: false`` does since 0.28; before,
    vLLM drops it. That concerns keys with dashes, which only vLLM's own file has.
    """
    version = document.get("engine_version")
    release = release_of(version) if isinstance(version, str) else None
    settled, notes = dict(document), []
    for key, value in document.items():
        match = find(key)
        if "-" not in key or value is not False or match is None or match[0].kind != "bool":
            continue
        if release is not None and release < _FALSE_COUNTS_SINCE:
            del settled[key]
            notes.append(f"{key}: false is dropped by vLLM {version}; say no-{key}: true")
        elif release is None:
            notes.append(
                f"{key}: false is taken for off, as vLLM does since 0.28; earlier releases drop it"
            )
    return settled, notes
