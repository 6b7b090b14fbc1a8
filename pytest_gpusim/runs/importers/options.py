"""What can be chosen of another tool's result, for the command line and for importers."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from pytest_gpusim.errors import UsageError
from pytest_gpusim.faults import plugin_call, plugin_result
from pytest_gpusim.runs.reader import read_run
from pytest_gpusim.runs.run import Run

ALL = "all"


@dataclass(frozen=True)
class RunOptions:
    """Which requests of a result are taken, and what helps to read it.

    ``start`` and ``end`` bound arrivals in seconds from the first one (end excluded), ``first``
    keeps so many requests of those, ``only_model`` those of one model. ``skip_bad`` leaves out, and
    counts, records that cannot be used. ``tokenizer`` tells how many tokens prompts share.
    ``columns`` names columns of a table of the user's own (see `pytest_gpusim.columns`).
    """

    first: int | None = None
    start: float | None = None
    end: float | None = None
    only_model: str | None = None
    skip_bad: bool = False
    tokenizer: str | None = None
    columns: str | None = None

    @classmethod
    def of(cls, options: Mapping[str, Any] | None) -> RunOptions:
        """The options of a mapping; absent ones and None take their defaults.

        Raises:
            UsageError: A value makes no sense.
        """
        known = {field.name for field in fields(cls)}
        given = {k: v for k, v in (options or {}).items() if k in known and v is not None}
        made = cls(**given)
        if made.first is not None and made.first < 1:
            raise UsageError(f"--first {made.first}: expected at least 1")
        if not 0 <= (made.start or 0.0) < (made.end if made.end is not None else float("inf")):
            window = f"--start {made.start} --end {made.end}"
            raise UsageError(f"{window}: expected 0 <= start < end, in seconds")
        return made

    @property
    def chosen(self) -> list[str]:
        """The options that leave requests out, as they are typed."""
        said: list[tuple[str, object]] = [("start", self.start), ("end", self.end)]
        said += [("first", self.first), ("only-model", self.only_model)]
        return [f"--{name} {value}" for name, value in said if value is not None]


def call_importer(
    kind: str,
    importer: Callable[..., None],
    files: Sequence[Path],
    out: Path,
    options: Mapping[str, Any],
) -> Run:
    """Call the run importer ``kind``, with ``options`` where it takes any; returns what it wrote.

    Raises:
        UsageError: Options were given and this importer, of a plugin, takes none.
        PluginError: A plugin's importer failed, or wrote no run.
    """
    given = {k: value for k, value in options.items() if value is not None and value is not False}
    arguments: list[Any] = [files, out]
    if _takes_options(importer):
        arguments.append(given)
    elif given:
        flags = ", ".join("--" + key.replace("_", "-") for key in sorted(given))
        raise UsageError(f"{flags}: the importer {kind!r} takes no options")
    what = f"the importer {kind!r}"
    with plugin_call(what, importer, [out]) as vacant:
        importer(*arguments)
    with plugin_result(what, importer, vacant):
        return read_run(out)


def _takes_options(importer: Callable[..., None]) -> bool:
    try:
        return len(inspect.signature(importer).parameters) > 2
    except (TypeError, ValueError):  # what is written in C may have none
        return False
