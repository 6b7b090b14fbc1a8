"""Finding settings in the table: by every spelling, in files, configurations and runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_gpusim.deployment.settings.defaults import Deployment
from pytest_gpusim.deployment.settings.names import FLAGS
from pytest_gpusim.deployment.settings.setting import SECTIONS, Setting
from pytest_gpusim.deployment.settings.table import MODELLED, SETTINGS

_BY_NAME = {name: setting for setting in SETTINGS for name in setting.spellings}
_BY_FLAG = {flag: setting for setting in SETTINGS for flag in setting.flags} | {
    flag: _BY_NAME[name] for flag, name in FLAGS.items()
}


def modelled() -> tuple[Setting, ...]:
    """The settings that a simulation follows, in the order of `EngineSettings`."""
    return MODELLED


def find(key: str) -> tuple[Setting, bool] | None:
    """The setting that ``key`` names, and whether it names its opposite (``no-…``).

    ``key`` may have underscores or dashes, lead with dashes, or with the part of vLLM's resolved
    configuration (``cache_config.block_size``).
    """
    bare = key.lstrip("-")
    name = bare.replace("-", "_")
    section, dot, inner = name.rpartition(".")
    if dot and section in SECTIONS:
        name = inner
    if name in _BY_NAME:
        return _BY_NAME[name], False
    if name.startswith("no_") and name[3:] in _BY_NAME:
        return _BY_NAME[name[3:]], True
    if key.startswith("-") and bare in _BY_FLAG:
        return _BY_FLAG[bare], False
    return None


def find_option(option: str) -> tuple[Setting, bool] | None:
    """`find` for an option of a command line, which may be cut short as far as it is the only one
    that begins so (argparse's ``allow_abbrev``, which vLLM leaves on).
    """
    match = find(option)
    if match is None and option.startswith("--"):
        start = option.lstrip("-").replace("-", "_")
        begun = {setting.name for name, setting in _BY_NAME.items() if name.startswith(start)}
        match = find(begun.pop()) if start and len(begun) == 1 else None
    return match


def flat(document: Mapping[str, Any]) -> dict[str, Any]:
    """The settings without the parts of the resolved configuration around them, nulls left out.

    Of a part its own settings are taken, and those that a simulation follows; other names may mean
    other things there.
    """
    found: dict[str, Any] = {}
    for key, value in document.items():
        if key in SECTIONS and isinstance(value, Mapping):
            for name, inner in value.items():
                match = find(str(name))
                if match is None or inner is None:
                    continue
                if match[0].section == key or match[0].role == "modelled":
                    found.setdefault(str(name), inner)
        elif value is not None:
            found[str(key)] = value
    return found


def first_stated(*documents: Any) -> dict[str, Any]:
    """What several documents state, under the table's own names; the first to state it counts.

    What is no mapping states nothing.
    """
    named: dict[str, Any] = {}
    for document in documents:
        if isinstance(document, Mapping):
            for name, value in by_name(flat(document)).items():
                named.setdefault(name, value)
    return named


def by_name(stated: Mapping[str, Any]) -> dict[str, Any]:
    """What is stated under the table's own names; the first of several spellings counts."""
    named: dict[str, Any] = {}
    for key, value in stated.items():
        match = find(key)
        if match is not None and value is not None:
            named.setdefault(match[0].name, _turned(value, match[1]))
    return named


def _turned(value: Any, opposite: bool) -> Any:
    """``no-key: true`` is ``key: false``."""
    return not value if opposite and isinstance(value, bool) else value


def unmodelled(stated: Mapping[str, Any]) -> list[tuple[str, Any, str]]:
    """(key, value, what is not modelled) for all that ``stated`` asks for and nobody models."""
    stated = flat(stated)
    named = by_name(stated)
    found = []
    for key, value in stated.items():
        match = find(key)
        if match is not None and match[0].asks(_turned(value, match[1]), named):
            found.append((key, value, match[0].refused or match[0].words))
    return found


def default(name: str, deployment: Deployment) -> Any:
    """What vLLM takes for the setting where nobody states it; None where that has no rule."""
    rule = _BY_NAME[name].default
    return None if rule is None else rule.value(deployment)
