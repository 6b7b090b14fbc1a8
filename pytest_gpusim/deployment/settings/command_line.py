"""Settings from the command that started a server: ``vllm serve MODEL --max-num-seqs 64 -tp 2``."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pytest_gpusim.deployment.settings.defaults import is_first_engine
from pytest_gpusim.deployment.settings.lookup import by_name, find_option
from pytest_gpusim.deployment.settings.setting import Setting
from pytest_gpusim.errors import InputError, UsageError
from pytest_gpusim.texts import open_text, whole_number

_STARTS = re.compile(r"\bvllm\s+serve\b|vllm\.entrypoints\.|vllm/vllm-openai\b")
_IMAGE = re.compile(r"vllm/vllm-openai(?:-\w+)*:v?(\d+\.\d+\.\d+\S*)")
_MOST_CHARACTERS = 1 << 20
_LONGEST_COMMAND = 1 << 17
"""Linux takes no longer argument (MAX_ARG_STRLEN), and shlex takes its time squared for a word."""
_PLAIN = re.compile(r"-?\d+(\.\d+)?")
_ENVIRONMENT = re.compile(r"(?:--env=|-e)?(VLLM_\w+)=(.*)", re.DOTALL)
_QUOTED = re.compile(r"\bvllm\s+serve\s|\bvllm\.entrypoints\.")
"""A word with the whole command in it: what a shell, or a remote one, is told to run."""
_VARIABLE = re.compile(r"\$\{(\w+):?-([^${}]*)\}")
_GIB = 1 << 30
_TRUTH: dict[str, Any] = {"none": None, "true": True, "false": False}


def is_command(text: str) -> bool:
    """Whether ``text`` is a command that starts vLLM's server, and no file's name."""
    return len(text.split(None, 1)) == 2 and _STARTS.search(text) is not None


def read_command(text: str, where: str) -> tuple[dict[str, Any], list[str]]:
    """The settings of a command under the table's own names, and notes on what is left out.

    Also ``python -m vllm.entrypoints.openai.api_server …`` and a container's ``docker run …
    vllm/vllm-openai:v0.19.0 …``, whose tag tells the release. The last of several values counts, as
    in vLLM. ``--config FILE`` is read, and what stands on the command line goes before it. Unknown
    options keep their names. ``${NAME:-value}`` is the value.

    Args:
        text: The command, over one line or several.
        where: What it is called in messages.

    Raises:
        InputError: Its quotes are not closed.
        UsageError: Its environment asks for what is not modelled, or its release has it.
    """
    unset = [name for name, _ in _VARIABLE.findall(text)]
    text = _VARIABLE.sub(r"\2", text)
    try:
        words = words_of(text)
    except ValueError as error:
        raise InputError(where, "", f"not a command line: {error}") from None
    begun = _begin(words)
    found, notes = _environment(words[:begun], where)
    if unset:
        notes.append(f"{', '.join(unset)}: taken for what the command says where they are not set")
    image = _IMAGE.search(text)
    found |= {"engine_version": image[1]} if image else {}
    if image and is_first_engine(image[1], v1_asked="VLLM_USE_V1=1" in text):
        raise UsageError(f"{where}: vLLM {image[1]}: its first engine is not modelled")
    several = (word for word in words if len(word.split(None, 1)) > 1)
    quoted = next((word for word in several if _QUOTED.search(word)), None)
    if quoted is not None:
        inner, more = read_command(quoted, where)
        return {**found, **inner}, [*notes, *more]
    asked: dict[str, Any] = {}
    model = None
    for option, values in _options(words[begun:]):
        if option == "--config" and values:
            from pytest_gpusim.deployment.settings.config_file import read_config

            found = {**by_name(read_config(Path(values[0]))), **found}
            continue
        match = find_option(_root(option)) if option else None
        values, others = _own_values(match, values) if option else ([], values)
        model = others[0] if others else model
        if option:
            name, value = _setting(option, match, values)
            asked[name] = value
    if model is not None:
        asked["model"] = model  # a positional one wins (vllm/entrypoints/cli/serve.py)
    return {**found, **asked}, notes


def words_of(text: str) -> list[str]:
    """The words of a command as a shell parts them; raises ValueError for what none would take."""
    if len(text) > _LONGEST_COMMAND:
        raise ValueError(f"has more than {_LONGEST_COMMAND:,} characters")
    return shlex.split(text.replace("\\\n", " "), comments=True)


def read_script(path: Path) -> str:
    """The command in a shell script, from the line that starts vLLM to where it is not continued.

    Raises:
        InputError: There is none.
    """
    with open_text(path) as stream:
        lines = stream.read(_MOST_CHARACTERS).splitlines()
    command: list[str] = []
    for line in lines:
        if command or (_STARTS.search(line) and not line.lstrip().startswith("#")):
            command.append(line.rstrip().removesuffix("\\"))
            if not line.rstrip().endswith("\\"):
                return " ".join(command)
    raise InputError(path, "", "no command of it starts vLLM ('vllm serve …')")


def _begin(words: list[str]) -> int:
    """Where the program's arguments begin: what stands before it is the environment, or docker's.

    An image that is called without ``serve`` begins with its arguments.
    """
    begun = 0
    for number, word in enumerate(words, start=1):
        if word == "serve" and words[max(0, number - 2)].rpartition("/")[2] == "vllm":
            return number
        if word.startswith("vllm.entrypoints.") or "vllm/vllm-openai" in word:
            begun = number
    return begun + (words[begun : begun + 1] == ["serve"])


def _environment(words: list[str], where: str) -> tuple[dict[str, Any], list[str]]:
    """Settings that variables before the program make, and a note that names the others."""
    found: dict[str, Any] = {}
    others = []
    for match in filter(None, map(_ENVIRONMENT.fullmatch, words)):
        name, value = match.groups()
        if name == "VLLM_USE_V1":
            if value == "0":
                raise UsageError(f"{where}: VLLM_USE_V1=0: vLLM's first engine is not modelled")
        elif name == "VLLM_CPU_KVCACHE_SPACE" and (size := whole_number(value)) is not None:
            # platforms/cpu.py: GiB, for --kv-cache-memory-bytes
            found["kv_cache_memory_bytes"] = size * _GIB
        else:
            others.append(name)
    names = ", ".join(others)
    return found, [f"{names}: of the environment, not looked into"] if others else []


def _options(words: list[str]) -> Iterator[tuple[str, list[str]]]:
    """(option, what stands behind it); first what stands before all options, which has none."""
    option = ""
    values: list[str] = []
    for word in words:
        if word in ("&&", "||", ";", "|", "&", ">", "2>&1") or re.match(r"\d?>", word):
            break
        if word.startswith("-") and not _PLAIN.fullmatch(word):
            yield option, values
            option, equals, value = word.partition("=")
            values = [value] if equals else []
        else:
            values.append(word)
    yield option, values


def _own_values(
    match: tuple[Setting, bool] | None, values: list[str]
) -> tuple[list[str], list[str]]:
    """The values of an option, and what stands behind them: the model, where it comes late."""
    most = len(values)
    if match is not None and match[0].kind != "any":
        flag = match[0].kind == "bool" and values[:1] and values[0].lower() not in _TRUTH
        most = 0 if match[1] or flag else 1
    return values[:most], values[most:]


def _root(option: str) -> str:
    """An option without the part of its object that it sets."""
    if re.fullmatch(r"-O\d", option):
        return "-O"
    root, _, part = option.partition(".")
    return root if part and root.strip("-") else option


def _setting(option: str, match: tuple[Setting, bool] | None, values: list[str]) -> tuple[str, Any]:
    """An option's name in the table, and its value; a part of an object stands for the object."""
    root = _root(option)
    if root == "-O" and option != root and "." not in option:
        values = [option[2:]]
    if match is None:
        return root, values[0] if values else True
    setting, opposite = match
    if root != option and "." in option:
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
    return _TRUTH.get(text.lower(), text)
