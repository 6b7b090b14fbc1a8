"""``gpusim history``: what comparisons came to, over commits."""

from __future__ import annotations

import argparse
from pathlib import Path

from pytest_gpusim.artifacts import DEFAULT_ROOT
from pytest_gpusim.cli.common import Subparsers, add_json, print_json
from pytest_gpusim.errors import CheckFailed, UsageError
from pytest_gpusim.printing import print_lines, printed_width
from pytest_gpusim.registry import Registry


def add_commands(commands: Subparsers, registry: Registry) -> None:
    """Declare the commands of this module."""
    history = commands.add_parser(
        "history", help="show how the errors of comparisons changed over commits"
    )
    history.add_argument(
        "case", nargs="?", metavar="CASE", help="the name of a case (default: list all)"
    )
    history.add_argument(
        "--dir",
        type=Path,
        default=DEFAULT_ROOT / "history",
        metavar="DIR",
        help="the directory given to --gpusim-history (default: tmp/history)",
    )
    history.add_argument(
        "--figures",
        default="",
        metavar="NAME,…",
        help="figures to show (default: those that were judged)",
    )
    history.add_argument(
        "--out", type=Path, metavar="FILE.svg", help="draw a chart of the case into this file"
    )
    history.add_argument(
        "--fail-on-regression",
        action="store_true",
        help="exit with 1 if a case is worse or missing",
    )
    add_json(history)
    history.set_defaults(run=_history)


def _history(options: argparse.Namespace, registry: Registry) -> int:
    from pytest_gpusim.history import History
    from pytest_gpusim.history.show import alarm_lines, case_lines, draw_case, overview_lines

    found = History.read(options.dir)
    if not found.entries:
        raise UsageError(
            f"no history at {options.dir}: make one with pytest --gpusim-history DIR (ini "
            "gpusim_history) or gpusim compare --history DIR, and name it with --dir DIR"
        )
    entries = [one for one in found.entries if options.case in (None, one.case)]
    if not entries:
        known = ", ".join(sorted({one.case for one in found.entries}))
        raise UsageError(f"no case {options.case!r} in {options.dir}; known are {known}")
    figures = [name.strip() for name in options.figures.split(",") if name.strip()]
    if options.out:
        if options.case is None:
            raise UsageError("--out draws one case: name it")
        draw_case(entries, figures, options.out)
    alarms = alarm_lines(entries)
    if options.json:
        document = [one.to_json() for one in entries]
        print_json({"schema_version": 1, "entries": document, "alarms": alarms})
    else:
        if options.case:
            print_lines([*case_lines(entries, figures, printed_width()), *alarms])
        else:
            print_lines(overview_lines(entries))
        if options.out:
            print(options.out)
    return CheckFailed.exit_code if alarms and options.fail_on_regression else 0
