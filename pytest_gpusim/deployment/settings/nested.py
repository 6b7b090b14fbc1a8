"""Settings inside the files that deploy an engine, or measure one.

- a mapping under a name such as ``engine_args``, ``engine_kwargs`` (Ray Serve),
  ``server_parameters`` (vLLM's own performance tests, where ``""`` is a flag) or ``vllmConfig``
  (vLLM's production stack, which spells ``maxModelLen`` and has more in ``extraArgs``);
- ``command`` and ``args`` of a container, as Kubernetes, llm-d's values and docker compose have
  them, with its image and environment.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_gpusim.deployment.settings.command_line import is_command, read_command, words_of
from pytest_gpusim.deployment.settings.lookup import by_name, find
from pytest_gpusim.deployment.settings.setting import SECTIONS
from pytest_gpusim.errors import InputError, UsageError

_AROUND = frozenset(
    "engine engineargs engineconfig enginekwargs engineparams enginesettings llmkwargs serverargs "
    "serverparameters vllm vllmargs vllmconfig vllmengineargs vllmkwargs".split()
)
_WORDS = ("command", "entrypoint", "args", "extraArgs", "extra_args")
_DECIDE = ("modelled", "refused", "profiled")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


@dataclass(frozen=True)
class _Engine:
    """The settings of one engine, where in the file they stand, and notes on what is left out."""

    place: str
    settings: dict[str, Any]
    notes: list[str]


def unwrap(document: Any, path: Path, part: str = "") -> tuple[dict[str, Any], list[str]]:
    """The settings of the one engine in a file, and notes on where they stand.

    Args:
        document: What the file holds; settings that stand there plainly are given back.
        path: The file, for messages.
        part: Where its engine is, of several; the beginning is enough (``decode``).

    Raises:
        InputError: It has several engines, or none where one is asked for.
        UsageError: An engine asks for what is not modelled.
    """
    if isinstance(document, Mapping) and not part and _is_plain(document):
        return dict(document), []
    engines = [found for found in _engines(document, "", path) if found.place.startswith(part)]
    if not engines and isinstance(document, Mapping) and not part:
        return dict(document), []
    if not engines:
        asked = f" at {part}" if part else ""
        raise InputError(path, "", f"expected a mapping of engine settings{asked}")
    if len(engines) > 1:
        places = " and ".join(found.place for found in engines[:4])
        raise InputError(
            path,
            "",
            f"has the settings of {len(engines)} engines: {places}",
            f"name one: {path}#{engines[0].place}",
        )
    engine = engines[0]
    notes = [f"{path.name}: the engine's settings are those of {engine.place}", *engine.notes]
    if not isinstance(document, Mapping) or engine.place not in document:
        return engine.settings, notes
    next_to, others = _beside(document, engine, path)
    notes += [f"{path.name}: passed over: {', '.join(others)[:200]}"] if others else []
    return {**next_to, **engine.settings}, notes


def _is_plain(document: Mapping[Any, Any]) -> bool:
    """Whether settings stand in the document itself and in nothing around them."""
    if any(_is_around(key) and isinstance(value, Mapping) for key, value in document.items()):
        return False
    matches = [find(str(key)) for key in document if key not in SECTIONS]
    known = [match for match in matches if match is not None]
    return len(known) == len(matches) or any(match[0].role == "modelled" for match in known)


def _beside(
    document: Mapping[Any, Any], engine: _Engine, path: Path
) -> tuple[dict[str, Any], list[str]]:
    """The settings that stand next to those of the engine, and the names that are none."""
    next_to = {str(key): value for key, value in document.items() if key != engine.place}
    others = [key for key in next_to if find(key) is None]
    own = by_name(engine.settings)
    for name, value in by_name(next_to).items():
        if name in own and own[name] != value:
            problem = f"is {value!r}, {engine.place} says {own[name]!r}"
            raise InputError(path, name, problem[:200], "say it once")
    return {key: value for key, value in next_to.items() if key not in others}, others


def _is_around(key: Any) -> bool:
    return str(key).replace("_", "").replace("-", "").lower() in _AROUND


def _engines(value: Any, place: str, path: Path) -> Iterator[_Engine]:
    if isinstance(value, list):
        for number, item in enumerate(value):
            yield from _engines(item, f"{place}[{number}]", path)
        return
    if not isinstance(value, Mapping):
        return
    command = _command(value)
    if command is not None:
        yield _Engine(place or "args", *read_command(command, f"{path}: {place}"))
        return
    for key, inner in value.items():
        where = f"{place}.{key}" if place else str(key)
        if _is_around(key) and isinstance(inner, Mapping) and any(map(_known, inner)):
            yield _Engine(where, *_mapping(inner, f"{path}: {where}"))
        else:
            yield from _engines(inner, where, path)


def _known(key: Any) -> bool:
    return find(_plain_name(key)) is not None or key in SECTIONS


def _plain_name(key: Any) -> str:
    return _HUMP.sub("_", str(key)).lower() if _HUMP.search(str(key)) else str(key)


def _mapping(value: Mapping[Any, Any], where: str) -> tuple[dict[str, Any], list[str]]:
    found: dict[str, Any] = {}
    more: dict[str, Any] = {}
    notes: list[str] = []
    for key, item in value.items():
        if key in _WORDS:
            words = ["vllm", "serve", *_split(item)]
            more, notes = read_command(shlex.join(words), where)
        elif key == "v1":  # the production stack's VLLM_USE_V1
            if str(item).lower() in ("0", "false"):
                raise UsageError(f"{where}: v1={item}: vLLM's first engine is not modelled")
        else:
            found[_plain_name(key)] = True if item == "" else item
    return {**found, **more}, notes


def _command(value: Mapping[Any, Any]) -> str | None:
    """The command of a container, where it starts vLLM or has options that decide a schedule."""
    words = [word for name in _WORDS for word in _split(value.get(name))]
    image = value.get("image", value)  # in the values of vLLM's chart the command stands inside it
    if isinstance(image, Mapping):
        image = ":".join(str(image[key]) for key in ("repository", "tag") if image.get(key))
    before = [*_environment(value), *([image] if isinstance(image, str) and image else [])]
    text = shlex.join([*before, *words])
    if words and is_command(text):
        return text
    matches = (find(re.sub(r"[.=].*", "", word)) for word in words if word.startswith("-"))
    if any(match is not None and match[0].role in _DECIDE for match in matches):
        return shlex.join([*before, "vllm", "serve", *words])
    return None


def _environment(value: Mapping[Any, Any]) -> Iterator[str]:
    found = value.get("env", value.get("environment"))
    pairs: list[tuple[Any, Any]] = list(found.items()) if isinstance(found, Mapping) else []
    if isinstance(found, list):
        pairs = [(e.get("name"), e.get("value")) for e in found if isinstance(e, Mapping)]
        yield from (each for each in found if isinstance(each, str) and each.startswith("VLLM_"))
    for name, content in pairs:
        if str(name).startswith("VLLM_"):
            yield f"{name}={content}"


def _split(value: Any) -> list[str]:
    """The words of a command that is one text, or a list of them."""
    if isinstance(value, str):
        try:
            return words_of(value)
        except ValueError:
            return []
    return [str(word) for word in value] if isinstance(value, list) else []
