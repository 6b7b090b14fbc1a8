"""Settings from the command that started a server: ``vllm serve MODEL --max-num-seqs 64 -tp 2``."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pytest_gpusim.deployment.settings.lookup import by_name, find
from pytest_gpusim.errors import InputError

_STARTS = re.compile(r"\bvllm\s+serve\b|vllm\.entrypoints\.|vllm/vllm-openai\b")
_IMAGE = re.compile(r"vllm/vllm-openai(?:-cpu)?:v?(\d+\.\d+\.\d+\S*)")
_MOST_CHARACTERS = 1 << 20
_PLAIN = re.compile(r"-?\d+(\.\d+)?")


def is_command(text: str) -> bool:
    """Whether ``text`` is a command that starts vLLM's server, and no file's name."""
    return len(text.split(None, 1)) == 2 and _STARTS.search(text) is not None


def read_command(text: str, where: str) -> dict[str, Any]:
    """The settings of a command under the table's own names; unknown options under theirs.

    Also ``python -m vllm.entrypoints.openai.api_server …`` and a container's ``docker run …
    vllm/vllm-openai:v0.19.0 …``, whose tag tells the release. The last of several values counts, as
    in vLLM. ``--config FILE`` is read, and what stands on the command line goes before it.

    Args:
        text: The command, over one line or several.
        where: What it is called in messages.

    Raises:
        InputError: Its quotes are not closed.
    """
    try:
        words = shlex.split(text.replace("\\\n", " "), comments=True)
    except ValueError as error:
        raise InputError(where, "", f"not a command line: {error}") from None
    image = _IMAGE.search(text)
    found: dict[str, Any] = {"engine_version": image[1]} if image else {}
    asked: dict[str, Any] = {}
    for option, values in _options(_arguments(words)):
        if option == "--config" and values:
            from pytest_gpusim.deployment.settings.config_file import read_config

            found = {**by_name(read_config(Path(values[0]))), **found}
            continue
        name, value = _setting(option, values)
        asked[name] = value
    return {**found, **asked}


def read_script(path: Path) -> str:
    """The command in a shell script, from the line that starts vLLM to where it is not continued.

    Raises:
        InputError: There is none.
    """
    try:
        with path.open(encoding="utf-8") as stream:
            lines = stream.read(_MOST_CHARACTERS).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        said = getattr(error, "strerror", None) or "is not UTF-8 text"
        raise InputError(path, "", f"cannot be read: {said}") from None
    command: list[str] = []
    for line in lines:
        if command or (_STARTS.search(line) and not line.lstrip().startswith("#")):
            command.append(line.rstrip().removesuffix("\\"))
            if not line.rstrip().endswith("\\"):
                return " ".join(command)
    raise InputError(path, "", "no command of it starts vLLM ('vllm serve …')")


def _arguments(words: list[str]) -> list[str]:
    """What comes after the program: its own options before it (docker's, Python's) are none."""
    for number, word in enumerate(words):
        if word == "serve" and number and words[number - 1].rpartition("/")[2] == "vllm":
            return words[number + 1 :]
        if word.startswith("vllm.entrypoints.") or "vllm/vllm-openai" in word:
            return words[number + 1 :]
    return words


def _options(words: list[str]) -> Iterator[tuple[str, list[str]]]:
    """(option, its values); what stands before the first option is the model."""
    option = ""
    values: list[str] = []
    for word in words:
        if word in ("&&", "||", ";", "|", "&", ">", "2>&1") or re.match(r"\d?>", word):
            break
        if word.startswith("-") and not _PLAIN.fullmatch(word):
            if option:
                yield option, values
            option, equals, value = word.partition("=")
            values = [value] if equals else []
        elif option:
            values.append(word)
    if option:
        yield option, values


def _setting(option: str, values: list[str]) -> tuple[str, Any]:
    """An option's name in the table, and its value; a part of an object stands for the object."""
    root = re.sub(r"^(-+[^.]+)\..*$", r"\1", option)
    level = re.fullmatch(r"-O(\d)", root)
    if level:
        root, values = "-O", [level[1]]
    match = find(root)
    if match is None:
        return root, values[0] if values else True
    setting, opposite = match
    if root != option:
        return setting.name, {option.partition(".")[2]: values[0] if values else True}
    if opposite or (setting.kind == "bool" and not values):
        return setting.name, not opposite
    if not values:
        return setting.name, True
    return setting.name, _literal(values[0]) if len(values) == 1 else values


def _literal(text: str) -> Any:
    """JSON where it is an object, a list or a plain number; else the text."""
    if text[:1] in "{[" or _PLAIN.fullmatch(text):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return text
    words: dict[str, Any] = {"none": None, "true": True, "false": False}
    return words.get(text.lower(), text)
