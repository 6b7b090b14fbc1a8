"""The reference pages, each made from the declarations in the code; ``pages`` has all of them."""

from __future__ import annotations

import argparse
import inspect
import io
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import redirect_stdout
from functools import cached_property
from typing import Any


def pages() -> dict[str, str]:
    """Path below ``docs/`` -> Markdown."""
    return {
        "reference/commands.md": commands(),
        "reference/pytest.md": pytest_surface(),
        "reference/api.md": api(),
        "reference/checks.md": checks(),
        "reference/figures.md": figures(),
        "reference/models.md": models(),
        "reference/settings.md": settings(),
        "reference/parameters.md": parameters(),
        "reference/schemas.md": schemas(),
    }


def commands() -> str:
    """Each command's own help."""
    lines = ["# Commands", "", "What `gpusim COMMAND --help` prints.", ""]
    before, os.environ["COLUMNS"] = os.environ.get("COLUMNS"), "96"
    try:
        for parser in _parsers():
            stream = io.StringIO()
            with redirect_stdout(stream):
                parser.print_help()
            lines += [f"## {parser.prog}", "", "```text", stream.getvalue().rstrip(), "```", ""]
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before
    return "\n".join(lines)


def _parsers() -> Iterator[argparse.ArgumentParser]:
    from pytest_gpusim.cli import command_parser
    from pytest_gpusim.registry import builtin_registry

    yield from _below(command_parser(builtin_registry()))


def _below(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for one in action.choices.values():
                if one.add_help:  # Vidur's own has none
                    yield from _below(one)


class _Options:
    """Takes what the plugin declares in pytest's parser."""

    def __init__(self) -> None:
        self.options: list[tuple[str, dict[str, Any]]] = []
        self.ini: list[tuple[str, str]] = []

    def getgroup(self, *_: Any) -> _Options:
        return self

    def addoption(self, name: str, **given: Any) -> None:
        self.options.append((name, given))

    def parse_known_args(self, _: list[str]) -> None:
        """Nothing is parsed here."""

    def addini(self, name: str, help: str, **_: Any) -> None:
        self.ini.append((name, help))


def pytest_surface() -> str:
    """Options, fixtures, markers and what the fixtures take."""
    from pytest_gpusim import plugin
    from pytest_gpusim.hookspec import pytest_gpusim_register
    from pytest_gpusim.plugin.judging import MARKER
    from pytest_gpusim.plugin.sim_vs_real import CheckedComparison, SimVsReal
    from pytest_gpusim.registry import builtin_registry

    found = _Options()
    plugin.pytest_addoption(found)  # type: ignore[arg-type]
    rows = [
        (f"`{_spelling(name, given)}`", f"{given['help']}{_default(given)}")
        for name, given in found.options
    ]
    fixtures = [
        (f"`{name}`", " ".join((inspect.getdoc(value) or "").split()).replace("``", "`"))
        for name, value in vars(plugin).items()
        if type(value).__name__ == "FixtureFunctionDefinition"
    ]
    hardware = ", ".join(f"`{name}`" for name in builtin_registry().hardware.names())
    markers = [
        ("`prereq`", "Checks of what a run needs: no GPU, no engine, no network."),
        ("`sim_vs_real`", "Set on every test that uses the fixture, for `-m sim_vs_real`."),
        (f"`{MARKER}(**tolerances)`", "What `check()` judges where it states no tolerances."),
        (hardware, "The hardware that the test is about; at most one for each test."),
    ]
    return "\n".join(
        [
            "# In pytest",
            "",
            "## Options",
            "",
            *_table(("option", "what it does"), rows),
            "",
            *_table(("ini", "what it does"), [(f"`{n}`", h) for n, h in found.ini]),
            "",
            "## Fixtures",
            "",
            *_table(("fixture", "what it is"), fixtures),
            "",
            "## sim_vs_real(…)",
            "",
            *_documented(SimVsReal.__call__),
            "",
            "## check(…)",
            "",
            *_documented(CheckedComparison.check),
            "",
            "## require_prerequisites(…)",
            "",
            *_documented(SimVsReal.require_prerequisites),
            "",
            "## Markers",
            "",
            *_table(("marker", "what it is"), markers),
            "",
            "## The hook",
            "",
            *_documented(pytest_gpusim_register),
            "",
        ]
    )


def _spelling(name: str, given: dict[str, Any]) -> str:
    value = given.get("metavar") or "|".join(given.get("choices", ()))
    return f"{name} {value}".strip()


def _default(given: dict[str, Any]) -> str:
    said = given.get("default") and "(default:" not in given["help"]
    return f" (default: {given['default']})" if said else ""


def api() -> str:
    """The names of ``pytest_gpusim``."""
    import pytest_gpusim

    lines = ["# Python", "", "What `from pytest_gpusim import …` gives.", ""]
    for name in sorted(pytest_gpusim.__all__, key=str.lower):
        value = getattr(pytest_gpusim, name)
        lines += [f"## {name}", "", *_documented(value), *_members(value), ""]
    return "\n".join(lines)


def _members(value: Any) -> list[str]:
    """Public methods and properties of a class, those of its base in this package included."""
    if not inspect.isclass(value):
        return []
    found: dict[str, Any] = {}
    for base in reversed(value.__mro__):
        if base.__module__.startswith("pytest_gpusim"):
            found |= vars(base)
    rows = []
    for name, member in found.items():
        documented = inspect.getdoc(member)
        if name.startswith("_") or not documented:
            continue
        if isinstance(member, property | cached_property):
            rows.append((f"`{name}`", _prose(documented)))
        elif callable(getattr(value, name, None)):
            taken = inspect.signature(getattr(value, name)).parameters.values()
            names = [str(one.replace(annotation=one.empty, default=one.empty)) for one in taken]
            given = ", ".join(one for one in names if one != "self")
            rows.append((f"`{name}({given})`", _prose(documented)))
    return ["", *_table(("member", "what it is"), rows)] if rows else []


def checks() -> str:
    """The checks of a comparison."""
    from pytest_gpusim.compare.checks import CHECKS

    rows = []
    for declared in CHECKS.values():
        rows.append(
            (
                f"`{declared.name}`",
                _prose(inspect.getdoc(declared.judge) or ""),
                declared.protects.value,
                "yes" if getattr(declared, "needed", False) else "",
            )
        )
    head = ("check", "what it asks", "protects", "needed for a pass")
    lines = ["# Checks", "", "In the order in which they decide.", "", *_table(head, rows), ""]
    return "\n".join(lines)


def figures() -> str:
    """Metrics and statistics."""
    from pytest_gpusim.compare.metrics import METRICS

    rows = [
        (
            f"`{name}`",
            metric.label,
            f"each {metric.per}" if metric.per != "run" else "the run",
            ", ".join(statistic.name for statistic in metric.statistics if statistic.name) or "—",
        )
        for name, metric in METRICS.items()
    ]
    head = ("metric", "label", "one value for", "statistics")
    named = "A tolerance is named `<metric>_<statistic>`, such as `ttft_p50`."
    return "\n".join(["# Metrics", "", named, "", *_table(head, rows), ""])


def models() -> str:
    """Families, models known by name, and what of a model or an engine is refused by name."""
    from pytest_gpusim.deployment.architectures import ARCHITECTURES, REFUSED_FEATURES
    from pytest_gpusim.deployment.quantization import SCHEMES
    from pytest_gpusim.deployment.settings import SETTINGS
    from pytest_gpusim.prediction.interval import PREDICTABLE
    from pytest_gpusim.registry import builtin_registry

    families = [
        (
            f"`{name}`",
            "experts" if kind.experts else "dense",
            "over all heads" if kind.norm_over_heads else "each head" if kind.qk_norm else "none",
        )
        for name, kind in ARCHITECTURES.items()
    ]
    registry = builtin_registry()
    known = []
    for name in registry.models.names():
        shape = registry.model(name)
        experts, numbers = shape.experts, shape.quantization
        known.append(
            (
                f"`{name}`",
                f"{shape.num_parameters() / 1e9:.1f}",
                f"{experts.per_token} of {experts.num_experts}" if experts else "",
                numbers.scheme if numbers else "",
                shape.kv_cache_dtype(shape.torch_dtype),
            )
        )
    refused = [
        (refusal.name, ", ".join(f"`{key}`" for key in refusal.keys), "the model's `config.json`")
        for refusal in REFUSED_FEATURES
    ]
    refused += [
        (
            (setting.refused or setting.words).rsplit(" ", 1)[0],
            f"`{setting.name}`",
            "engine settings",
        )
        for setting in SETTINGS
        if setting.role == "refused" or setting.refused
    ]
    refused.append(
        ("data-parallel attention", "`moe_tensor_parallel`, `data_parallel`", "a measured point")
    )
    refused += [
        ("an interval of a prediction", f"`{name}` other than `{usual}`", "`simulate --samples`")
        for name, usual in PREDICTABLE.items()
    ]
    heads = (
        ("family", "kind", "norm of Q and K"),
        ("model", "10^9 parameters", "experts per token", "quantization", "KV cache"),
        ("not modelled", "told by", "of"),
    )
    return "\n".join(
        [
            "# Models",
            "",
            f"Quantized weights: {', '.join(f'`{scheme}`' for scheme in SCHEMES)}.",
            "",
            *("## Families", "", *_table(heads[0], families), ""),
            *("## Known by name", "", *_table(heads[1], known), ""),
            *("## Refused by name", "", *_table(heads[2], refused), ""),
        ]
    )


def settings() -> str:
    """The table of engine settings."""
    from pytest_gpusim.deployment.settings import SETTINGS

    values = SETTINGS.values() if isinstance(SETTINGS, dict) else SETTINGS
    rows = [
        (f"`{s.name}`", s.kind, s.role, "yes" if s.mirrored else "", s.words or s.refused)
        for s in sorted(values, key=lambda s: (s.role != "modelled", s.role, s.name))
    ]
    roles = (
        "`modelled`: the simulation follows it. `refused`: an engine that uses it is not "
        "modelled. `profiled`: the profile has measured what it does. `ignored`: it concerns the "
        "server alone."
    )
    head = ("setting", "kind", "role", "mirrored", "what it is")
    return "\n".join(["# Engine settings", "", roles, "", *_table(head, rows), ""])


def parameters() -> str:
    """Options of simulators and backends themselves."""
    from pytest_gpusim.registry import builtin_registry

    registry = builtin_registry()
    lines = [
        "# Simulators and backends",
        "",
        "`--param NAME=VALUE`, or `params={…}` in a test.",
        "",
    ]
    for names in (registry.simulators, registry.backends):
        for name in names.names():
            declared = names.get(name).declared()
            rows = [(f"`{p.name}`", p.help, p.values) for p in declared]
            table = _table(("parameter", "what it does", "values"), rows)
            lines += [f"## {names.what} {name}", "", *(table if rows else ["It takes none."]), ""]
    return "\n".join(lines)


def schemas() -> str:
    """JSON schemas of the files, as the package ships them."""
    from pytest_gpusim.schemas import schema_names, schema_of

    lines = ["# JSON schemas", "", "`pytest_gpusim/schemas/` of the installed package.", ""]
    for name in schema_names():
        text = json.dumps(schema_of(name), indent=1)
        lines += [f"## {name}", "", f"```json\n{text}\n```", ""]
    return "\n".join(lines)


def _documented(value: Any) -> list[str]:
    """Signature and docstring of a function or class."""
    lines = []
    if callable(value):
        try:
            signature = str(inspect.signature(value)).replace("(self, ", "(")
            signature = re.sub(r"(: |-> )'([^']*)'", r"\1\2", signature)
            signature = re.sub(r"ForwardRef\('([^']*)'\)", r"\1", signature)
            signature = signature.replace("<factory>", "…").replace("<class 'dict'>", "dict")
            signature = re.sub(r': "([^"]*)"', r": \1", signature)
        except (TypeError, ValueError):
            signature = ""
        shown = f"{value.__name__}{signature}".replace("__call__", "sim_vs_real")
        if len(signature) > 12:
            lines += ["```python", _wrapped(shown), "```", ""]
    return [*lines, *_sections(inspect.getdoc(value) or "")]


def _wrapped(signature: str) -> str:
    """One argument a line where they do not fit into one."""
    if len(signature) < 90:
        return signature
    depth, lines, start = 0, [], 0
    for at, letter in enumerate(signature):
        depth += letter in "([{"
        depth -= letter in ")]}"
        if (letter == "(" and depth == 1) or (letter == "," and depth == 1):
            lines.append(signature[start : at + 1].strip())
            start = at + 1
        elif letter == ")" and depth == 0 and lines[-1:] != [")"]:
            lines += [signature[start:at].strip(), signature[at:].strip()]
            break
    return "\n".join([lines[0], *(f"    {line}" for line in lines[1:-1]), lines[-1]])


def _sections(doc: str) -> list[str]:
    """A docstring with its ``Args:`` and the like as lists, its literal blocks as code."""
    lines: list[str] = []
    for line in doc.splitlines():
        if re.fullmatch(r"(Args|Returns|Raises|Attributes):", line.strip()):
            lines += ["", f"**{line.strip()[:-1]}**", ""]
        elif match := re.fullmatch(r" {4}(\w[\w, ]*): (.*)", line):
            lines.append(f"- `{match[1]}`: {match[2]}")
        elif line.endswith("::"):
            lines += [line[:-1], ""]
        else:
            lines.append(line if line.startswith("    ") and "::" in doc else line.strip())
    return [line.replace("``", "`") for line in lines]


def _prose(doc: str) -> str:
    """The first paragraph of a docstring."""
    return " ".join(doc.split("\n\n")[0].split()).replace("``", "`")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    def cell(text: str) -> str:
        # What lies between backticks is shown as it is, bars included.
        parts = " ".join(str(text).split()).split("`")
        parts[::2] = [part.replace("|", "\\|").replace("<", "&lt;") for part in parts[::2]]
        return "`".join(parts)

    return [
        f"| {' | '.join(head)} |",
        "| --- " * len(head) + "|",
        *(f"| {' | '.join(map(cell, row))} |" for row in rows),
    ]
