"""What all pages share: their templates, and how one is written whole."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from pytest_gpusim.artifacts import atomic_file
from pytest_gpusim.compare.format import (
    LABELS,
    entries,
    interval,
    milliseconds,
    percent,
    quantity,
    signed_percent,
)
from pytest_gpusim.compare.metrics import HEADLINES, STATISTICS
from pytest_gpusim.errors import plain_lines


def render(template: str, **content: Any) -> str:
    """The text of a page; what is not there to fill in is an error, and markup only text."""
    return str(_environment().get_template(template).render(**content))


def write_page(out: Path | str, template: str, **content: Any) -> None:
    """Write a page, whole or not at all; its directory is made."""
    text = render(template, **content)
    with atomic_file(Path(out)) as partial:
        partial.write_text(text, encoding="utf-8")


def _plain(value: Any) -> Any:
    """What is filled in, with nothing in it that acts: turned writing, control characters."""
    return plain_lines(value) if type(value) is str else value


@cache
def _environment() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("pytest_gpusim.report"),
        autoescape=True,
        finalize=_plain,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        ms=milliseconds,
        signed=signed_percent,
        percent=percent,
        interval=interval,
        quantity=quantity,
        label=LABELS.__getitem__,
    )
    environment.globals.update(
        entries=entries, headlines=HEADLINES, statistics=[each.name for each in STATISTICS]
    )
    return environment
