"""One engine setting: how vLLM spells it, what kind of value it has, what becomes of it here."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pytest_gpusim.deployment.dtypes import plain_dtype
from pytest_gpusim.deployment.settings.defaults import Default
from pytest_gpusim.errors import InputError
from pytest_gpusim.limits import KV_BLOCKS

Kind = Literal["int", "float", "bool", "str", "any"]
Role = Literal["modelled", "refused", "profiled", "ignored"]
SECTIONS = ("scheduler_config", "cache_config", "model_config", "parallel_config")
"""The parts of vLLM's resolved configuration that are read."""
_UNITS = {
    **{letter.lower(): 1000**power for power, letter in enumerate("KMGT", 1)},
    **{letter: 1024**power for power, letter in enumerate("KMGT", 1)},
}
_WITH_UNIT = re.compile(r"(\d+(?:\.\d+)?)([kKmMgGtT])", re.ASCII)
_SUFFIXED = ("max_model_len", "max_num_batched_tokens", "kv_cache_memory_bytes")
"""What vLLM takes ``8k`` for (``engine/arg_utils.py``: ``human_readable_int_args``)."""
_NOTHING: tuple[Any, ...] = (None, {}, [], "", "None")


@dataclass(frozen=True)
class Setting:
    """A row of the table.

    Attributes:
        name: vLLM's name with underscores; the name in `EngineSettings` and in a run's metadata.
        kind: Of its value; ``any`` where the value is not looked into.
        role: ``modelled``: the simulation follows it. ``refused``: an engine that uses it is not
            modelled. ``profiled``: it decides how long steps take, which the profile has measured.
            ``ignored``: it concerns the server, or the loading of the model, alone.
        words: What it is; of a refused one what is not modelled, with its verb.
        section: The part of vLLM's resolved configuration that holds it.
        others: Its other names: in the resolved configuration, and in other releases.
        flags: Short options of the command line.
        mirrored: Whether it must be the same in a simulation and in the run it is compared with.
        essential: Whether nothing can be judged unless both sides state it.
        least: The least whole number that it can be.
        automatic: Whether -1 leaves it to the engine, as ``auto`` does.
        harmless: Values under which an engine is as modelled; no value at all is always one.
        unless: Whether a value is harmless beside the other settings.
        values: Of a modelled setting, the only values that are modelled; None: all.
        refused: What the other values ask for, in words with a verb.
        default: What vLLM takes where nobody states it, by release.
    """

    name: str
    kind: Kind
    role: Role
    words: str
    section: str = ""
    others: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    mirrored: bool = False
    essential: bool = False
    least: int = 1
    automatic: bool = False
    harmless: tuple[Any, ...] = ()
    unless: Callable[[Any, Mapping[str, Any]], bool] | None = None
    values: tuple[str, ...] | None = None
    refused: str = ""
    default: Default | None = None

    @property
    def spellings(self) -> tuple[str, ...]:
        """All its names, with underscores."""
        return (self.name, *self.others)

    def asks(self, value: Any, beside: Mapping[str, Any]) -> bool:
        """Whether ``value`` asks for what is not modelled, given the settings ``beside`` it."""
        if self.values is not None:
            known = isinstance(value, str) and plain_dtype(value) in self.values
            return value not in (*_NOTHING, "auto") and not known
        if self.role != "refused" or value in _NOTHING or value in self.harmless:
            return False
        if self.kind != "bool" and value is False:
            return False
        return self.unless is None or not self.unless(value, beside)

    def read(self, value: Any, where: Path | str, key: str) -> Any:
        """The value in this setting's kind, None where it says nothing.

        Numbers may be texts, as vLLM's command line takes them (``utils/argparse_utils.py``):
        ``8192``, ``8_192``, and where it does so ``8k`` (thousands) and ``8K`` (1024s).

        Raises:
            InputError: It is of another kind.
        """
        if isinstance(value, str):
            value = value.strip()
        if value in _NOTHING or (isinstance(value, str) and value.lower() == "auto"):
            return None
        if self.automatic and value in (-1, "-1"):
            return None
        if self.kind == "any":
            return value
        if self.kind == "str":
            if isinstance(value, str):
                return plain_dtype(value) if self.name.endswith("dtype") else value
        elif self.kind == "bool":
            if isinstance(value, bool):
                return value
        else:
            number = self._number(value)
            if self.kind == "float" and number is not None and 0 < number <= 1:
                return float(number)
            if self.kind == "int" and isinstance(number, int) and number >= self.least:
                if self.name == "num_gpu_blocks":
                    KV_BLOCKS.check(where, key, number)
                return number
        raise InputError(
            where, key, f"expected a valid {self.kind}, found {brief(value)}", self._advice(value)
        )

    def _number(self, value: Any) -> int | float | None:
        if isinstance(value, bool) or value != value:
            return None
        if isinstance(value, int | float):
            return value
        if not isinstance(value, str) or len(value) > 20 or not value.isascii():
            return None
        match = _WITH_UNIT.fullmatch(value)
        try:
            if match is None:
                return int(value) if self.kind == "int" else float(value)
            # Of 1024s vLLM takes whole numbers alone.
            whole = match[2].isupper()
            number = int(match[1]) if whole else float(match[1])
            return int(number * _UNITS[match[2]]) if self.name in _SUFFIXED else None
        except ValueError:
            return None

    def _advice(self, value: Any) -> str:
        """How vLLM writes what looks like a number with a unit."""
        text = str(value)
        if self.kind != "int" or not isinstance(value, str) or not text[:1].isdecimal():
            return ""
        if self.name in _SUFFIXED:
            return "vLLM takes 8192, 8k (8,000) or 8K (8,192)"
        return "vLLM takes digits alone here"


def brief(value: Any) -> str:
    """``repr`` of a foreign value, short enough for a message."""
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 200:
        return "a number of more than 60 digits"
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
