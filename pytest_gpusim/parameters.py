"""Options of a simulator or backend itself: declared once, read from a shell and from a test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pytest_gpusim.errors import UsageError, meant

Kind = Literal["text", "integer", "number", "yes or no"]
_WORDS = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}


@dataclass(frozen=True)
class Parameter:
    """An option, ``--param NAME=VALUE`` in a shell and ``params={NAME: VALUE}`` in a test.

    Attributes:
        name: What the user types.
        kind: Of its value. Numbers must be above 0.
        help: One line.
        default: What holds where it is not given; None where nothing does, or something is found.
        choices: The only values that it can have, where there are only some.
    """

    name: str
    kind: Kind
    help: str
    default: Any = None
    choices: tuple[str, ...] = ()

    def read(self, value: Any) -> Any:
        """``value`` in this parameter's kind.

        Raises:
            UsageError: It is of another kind, or none of the choices.
        """
        if self.choices and value not in self.choices:
            known = ", ".join(self.choices)
            raise UsageError(f"parameter {self.name}={value}: known are {known}")
        if self.kind == "text":
            if isinstance(value, bool | Mapping):
                raise UsageError(f"parameter {self.name}={value}: expected a text")
            return str(value)
        if self.kind == "yes or no":
            read = value if isinstance(value, bool) else _WORDS.get(str(value).lower())
            if read is None:
                raise UsageError(f"parameter {self.name}={value}: expected yes or no")
            return read
        number = _number(value, int if self.kind == "integer" else float)
        if number is None or not 0 < number < float("inf"):
            whole = "a positive whole number" if self.kind == "integer" else "a positive number"
            raise UsageError(f"parameter {self.name}={value}: expected {whole}")
        return number

    @property
    def values(self) -> str:
        """What it can be, and its default, in words."""
        kind = " or ".join(self.choices) if self.choices else self.kind
        if self.default is None:
            return kind
        known = self.default
        if isinstance(known, bool):
            known = "yes" if known else "no"
        return f"{kind}; default {known}"

    def __str__(self) -> str:
        return f"{self.name}: {self.help} ({self.values})"


def _number(value: Any, kind: type[int] | type[float]) -> float | None:
    if isinstance(value, bool) or (kind is int and isinstance(value, float)):
        return None
    try:
        return kind(value)
    except (TypeError, ValueError, OverflowError):
        return None


def read_parameters(
    known: Sequence[Parameter], params: Mapping[str, Any], owner: str
) -> dict[str, Any]:
    """The given parameters in their kinds; those that are None count as not given.

    Args:
        known: What is declared.
        params: What was given.
        owner: Who takes them, for messages: "the vllm backend".

    Raises:
        UsageError: One is unknown or of another kind.
    """
    declared = {parameter.name: parameter for parameter in known}
    read = {}
    for name, value in params.items():
        if name not in declared:
            names = f"known are {', '.join(declared)}" if declared else "it takes none"
            hint = meant(name, declared)
            raise UsageError(f"parameter {name!r} is unknown to {owner}{hint}; {names}")
        if value is not None:
            read[name] = declared[name].read(value)
    return read
