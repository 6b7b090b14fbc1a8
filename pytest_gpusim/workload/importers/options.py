"""What can be chosen when a trace becomes a workload, for the command line and for callers."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from pytest_gpusim.columns import UNITS_NS
from pytest_gpusim.errors import UsageError
from pytest_gpusim.limits import LARGEST
from pytest_gpusim.workload.generate import ARRIVALS, Arrivals, Seconds

_LATEST_S = 9e9
SELECTION = ("start", "end", "first", "only_model", "skip_bad", "columns", "tokenizer")
"""What chooses among requests, of a trace and of a result alike, and how both are read."""


_TRACES = (
    "azure",
    "burstgpt",
    "csv",
    "lengths",
    "llmservingsim",
    "mooncake",
    "run",
    "sharegpt",
    "vidur",
)
_WITHOUT_ARRIVALS = ("sharegpt", "lengths", "csv")
_KINDS = {
    "unit": ("vidur", "burstgpt", "mooncake", "csv"),
    "block_size": ("mooncake", "vidur"),
    "tokenizer": ("sharegpt", "mooncake", "run"),
    "arrivals": _WITHOUT_ARRIVALS,
    "burst_size": _WITHOUT_ARRIVALS,
    "think_time": ("sharegpt",),
    "drop_failed": ("run",),
}
"""Options that not all kinds have a use for."""


@dataclass(frozen=True)
class ImportOptions:
    """Which records are taken, and what is changed about them; in this order.

    ``start`` and ``end`` bound arrivals in seconds on the trace's clock (end excluded), which then
    starts at ``start``; ``first`` keeps so many records of those. ``rate_scale`` multiplies the
    request rate, ``rate`` sets its mean (requests per second). ``clip_prefill``, ``clip_decode``
    and ``max_model_len`` shorten requests; the last as an engine does, the output first.
    ``arrivals``, ``burst_size`` and ``seed`` make arrivals for formats that have none, and
    ``think_time`` (seconds, or ``MIN:MAX``) the time from an answer to the next turn.
    ``concurrency`` limits how many requests are under way at once.
    ``drop_failed`` leaves out the failed requests of a run, whose ids then are other ones.
    ``only_model`` takes the requests of one model; ``skip_bad`` leaves out, and counts, records
    that cannot be used. ``unit`` is that of a trace's times, ``block_size`` the tokens of its
    blocks, where they are not the format's own; ``columns`` names those of a table of any other
    form (see `pytest_gpusim.columns`).
    """

    first: int | None = None
    start: float | None = None
    end: float | None = None
    rate: float | None = None
    rate_scale: float | None = None
    clip_prefill: int | None = None
    clip_decode: int | None = None
    max_model_len: int | None = None
    arrivals: Arrivals = "poisson"
    burst_size: int = 8
    seed: int = 0
    tokenizer: str | None = None
    model: str | None = None
    drop_failed: bool = False
    concurrency: int | None = None
    only_model: str | None = None
    skip_bad: bool = False
    unit: str | None = None
    block_size: int | None = None
    columns: str | None = None
    think_time: str | None = None

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> ImportOptions:
        """The options of a mapping; absent ones and None take their defaults.

        Raises:
            UsageError: A value makes no sense.
        """
        known = {field.name for field in fields(cls)}
        made = cls(**{k: v for k, v in options.items() if k in known and v is not None})
        for name, least in (
            ("first", 1), ("clip_prefill", 1), ("clip_decode", 1), ("max_model_len", 2),
            ("burst_size", 1), ("concurrency", 1), ("block_size", 1),
        ):  # fmt: skip
            value = getattr(made, name)
            if value is not None and value < least:
                raise UsageError(f"{_flag(name)} {value}: expected at least {least}")
        for name in ("rate", "rate_scale"):
            value = getattr(made, name)
            if value is not None and not 0 < value < LARGEST:
                raise UsageError(f"{_flag(name)} {value}: expected a number above 0")
        if made.rate is not None and made.rate_scale is not None:
            raise UsageError("--rate and --rate-scale: give one of them")
        if made.think_time is not None:
            Seconds.parse(made.think_time, "--think-time")
        start, end = made.start or 0.0, made.end if made.end is not None else _LATEST_S
        if not 0 <= start < end <= _LATEST_S:
            window = f"--start {made.start} --end {made.end}"
            raise UsageError(f"{window}: expected 0 <= start < end, in seconds up to 9e9")
        if made.unit is not None and made.unit not in UNITS_NS:
            raise UsageError(f"--unit {made.unit}: known are {', '.join(UNITS_NS)}")
        if made.arrivals not in ARRIVALS:
            raise UsageError(f"--arrivals {made.arrivals}: known are {', '.join(ARRIVALS)}")
        return made

    def to_json(self) -> dict[str, Any]:
        """What was asked for, for the workload's metadata."""
        changed = (field.name for field in fields(self))
        return {
            name: getattr(self, name)
            for name in changed
            if getattr(self, name) != getattr(ImportOptions, name)
        }


def add_selection_arguments(parser: argparse.ArgumentParser) -> None:
    """Which requests of a trace or a result are taken, and how it is read: the same for both."""
    take = parser.add_argument_group("which requests")
    take.add_argument("--start", type=float, metavar="S", help="from this second on")
    take.add_argument("--end", type=float, metavar="S", help="up to this second, excluded")
    take.add_argument("--first", type=int, metavar="N", help="the first N of those")
    take.add_argument("--only-model", metavar="NAME", help="of several models, this one's")
    take.add_argument(
        "--skip-bad",
        action="store_true",
        default=None,
        help="leave out, and count, records that cannot be used",
    )
    read = parser.add_argument_group("how it is read")
    read.add_argument(
        "--columns",
        metavar="ROLE=COLUMN,…",
        help="a CSV or JSON lines of your own, such as arrival=ts,prefill=in,decode=out,unit=s",
    )
    read.add_argument("--tokenizer", metavar="DIR", help="a local tokenizer.json, for texts")


def add_import_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of traces on a parser."""
    add_selection_arguments(parser)
    change = parser.add_argument_group("what is changed")
    change.add_argument(
        "--rate", type=float, metavar="R", help="stretch arrivals to R requests a second on average"
    )
    change.add_argument("--rate-scale", type=float, metavar="F", help="multiply the request rate")
    change.add_argument("--clip-prefill", type=int, metavar="N", help="at most N prompt tokens")
    change.add_argument("--clip-decode", type=int, metavar="N", help="at most N output tokens")
    change.add_argument(
        "--max-model-len", type=int, metavar="N", help="clip to a context of N tokens"
    )
    change.add_argument(
        "--concurrency", type=int, metavar="N", help="at most N requests under way, first come"
    )
    make = parser.add_argument_group("for formats without arrivals (lengths, sharegpt)")
    make.add_argument("--arrivals", choices=ARRIVALS, help="default: poisson")
    make.add_argument("--burst-size", type=int, metavar="N", help="requests of a burst; default: 8")
    make.add_argument(
        "--think-time", metavar="S|MIN:MAX", help="seconds from an answer to the next turn"
    )
    make.add_argument("--seed", type=int, metavar="S", help="default: 0")
    read = parser.add_argument_group("for traces whose times or blocks are not the format's own")
    read.add_argument("--unit", choices=list(UNITS_NS), help="of the trace's times")
    read.add_argument("--block-size", type=int, metavar="N", help="tokens of a hash id's block")
    parser.add_argument(
        "--drop-failed",
        action="store_true",
        default=None,
        help="of a run: without its failed ones (ids change: it compares no more)",
    )
    parser.add_argument("--model", help="noted in the metadata")


def options_from(namespace: argparse.Namespace) -> dict[str, Any]:
    """The options of a parsed command line, as importers take them; checked."""
    found = {
        field.name: getattr(namespace, field.name)
        for field in fields(ImportOptions)
        if getattr(namespace, field.name, None) is not None
    }
    ImportOptions.of(found)
    return found


def require_used(kind: str, options: Mapping[str, Any]) -> None:
    """Raise `UsageError` for an option that a kind of ours would pass over."""
    for name, kinds in _KINDS.items():
        if kind in _TRACES and kind not in kinds and options.get(name) is not None:
            raise UsageError(f"{_flag(name)}: is for {', '.join(kinds)}; {kind} has no use for it")


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
