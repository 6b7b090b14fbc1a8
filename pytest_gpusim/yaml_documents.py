"""YAML files of users and other tools: plain values, within limits, errors by line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_gpusim.errors import InputError, shortly
from pytest_gpusim.limits import DEPTH, YAML_BYTES, YAML_NODES
from pytest_gpusim.texts import read_text_within


def read_yaml(path: Path | str) -> Any:
    """The document of a YAML file: mappings, lists, texts, numbers, booleans and dates.

    Raises:
        InputError: It is no YAML, larger or deeper than the limits, its aliases unfold to more
            values than the limit, a key stands twice in one mapping, or a value is none of its
            type (``!!int ''``); names the line.
    """
    documents = read_yaml_documents(path)
    if len(documents) > 1:
        raise InputError(path, "", f"expected one YAML document, has {len(documents)}")
    return documents[0] if documents else None


def read_yaml_documents(path: Path | str) -> list[Any]:
    """The documents of a YAML file, which ``---`` parts; see `read_yaml`."""
    import yaml

    path = Path(path)
    text = read_text_within(path, YAML_BYTES)
    try:
        # Events are read without recursion: depth and aliases are known before anything is built.
        _check_events(path, yaml.parse(text, Loader=_parser()))
        return list(yaml.load_all(text, Loader=_loader(path)))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        line = f"line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "characters that YAML does not allow"
        if "maximum nesting depth" in problem:  # libyaml's own, above ours
            said = f"is nested deeper than {DEPTH.value}"
            raise InputError(path, line, said, DEPTH.advice) from None
        raise InputError(path, line, f"not YAML: {problem}") from None
    except RecursionError:
        raise InputError(path, "", "not usable YAML: it is nested too deeply") from None


@dataclass(slots=True)
class _Open:
    """A collection that has not ended: its anchor, its values so far, a mapping's keys so far."""

    anchor: str | None
    size: int
    keys: set[str] | None = None
    key_is_next: bool = True


def _check_events(path: Path, events: Any) -> None:
    """Hold depth, the number of values (those behind aliases each time), and that no key of a
    mapping stands twice: PyYAML would take the last.
    """
    import yaml

    most, deepest = YAML_NODES.value, DEPTH.value
    sizes: dict[str, int] = {}
    open_nodes = [_Open(None, 0)]
    for event in events:
        line = f"line {event.start_mark.line + 1}"
        owner = open_nodes[-1]
        if isinstance(event, yaml.NodeEvent) and owner.keys is not None:
            if owner.key_is_next and isinstance(event, yaml.ScalarEvent):
                # A merge key may: each brings the keys of another mapping.
                if event.value in owner.keys and event.value != "<<":
                    raise InputError(path, line, f"the key {shortly(event.value)} stands twice")
                owner.keys.add(event.value)
            owner.key_is_next = not owner.key_is_next
        if isinstance(event, yaml.CollectionStartEvent):
            is_mapping = isinstance(event, yaml.MappingStartEvent)
            open_nodes.append(_Open(event.anchor, 1, set() if is_mapping else None))
            if len(open_nodes) > deepest + 1:
                raise InputError(path, line, f"is nested deeper than {deepest}", DEPTH.advice)
            continue
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise InputError(path, line, f"*{event.anchor} names nothing that is complete")
            anchor, size = None, sizes[event.anchor]
        elif isinstance(event, yaml.ScalarEvent):
            anchor, size = event.anchor, 1
        elif isinstance(event, yaml.CollectionEndEvent):
            ended = open_nodes.pop()
            anchor, size = ended.anchor, ended.size
        else:
            continue
        if anchor is not None:
            sizes[anchor] = size
        open_nodes[-1].size += size
        if open_nodes[-1].size > most:
            raise InputError(path, line, f"holds more than {most:,} values", YAML_NODES.advice)


def _parser() -> Any:
    """PyYAML's safe loader; libyaml's, which is ten times as quick, where it has that."""
    import yaml

    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _loader(path: Path) -> Any:
    class Loader(_parser()):  # type: ignore[misc]
        """PyYAML's, but a scalar that it cannot build is an error of that line."""

        def construct_object(self, node: Any, deep: bool = False) -> Any:
            try:
                return super().construct_object(node, deep=deep)
            except (ValueError, LookupError, ArithmeticError, TypeError, AttributeError):
                kind = str(node.tag).rpartition(":")[2]
                line = f"line {node.start_mark.line + 1}"
                text = str(node.value)
                said = f"{text[:40]!r} is no {kind}"
                if kind == "int" and text.lstrip("+-").isdecimal():
                    # Python reads no decimal of more digits than sys.get_int_max_str_digits().
                    said = f"a whole number of {len(text):,} digits is too large"
                raise InputError(path, line, f"not usable YAML: {said}") from None

    return Loader
