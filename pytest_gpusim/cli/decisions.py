"""``gpusim decide``: does the simulator choose what reality does?"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

from pytest_gpusim.artifacts import DEFAULT_ROOT, atomic_directory
from pytest_gpusim.cli.common import Subparsers, add_json, add_out, out_of, print_json
from pytest_gpusim.errors import CheckFailed, UsageError
from pytest_gpusim.json_documents import write_json
from pytest_gpusim.printing import print_lines, printed_width
from pytest_gpusim.registry import Registry


def add_commands(commands: Subparsers, registry: Registry) -> None:
    """Declare the commands of this module."""
    decide = commands.add_parser(
        "decide", help="compare the simulator's choice of a setting with reality's"
    )
    decide.add_argument(
        "decision",
        type=Path,
        metavar="DECISION.toml",
        help="the settings, with their real and simulated runs",
    )
    decide.add_argument(
        "--regret",
        type=float,
        metavar="F",
        help="fail where the simulator's choice costs more than this ratio",
    )
    add_json(decide)
    add_out(decide, str(DEFAULT_ROOT / "decisions"))
    decide.set_defaults(run=_decide)


def _decide(options: argparse.Namespace, registry: Registry) -> int:
    from pytest_gpusim.planning.curves import draw_row
    from pytest_gpusim.planning.decided import document_of, lines_of
    from pytest_gpusim.planning.decision_file import read_question
    from pytest_gpusim.planning.decision_page import LOAD, panels_of, write_decision_page

    if options.regret is not None and not 0 <= options.regret < math.inf:
        raise UsageError(f"--regret {options.regret}: expected a fraction of at least 0")
    out = out_of(options, "decisions", "decision")
    with atomic_directory(out) as partial:
        question = read_question(options.decision, registry, partial / "imported")
        decisions = question.decisions()
        if options.regret is not None and not decisions:
            raise UsageError("--regret: one setting and no objective: nothing is chosen")
        document, lines = document_of(question, decisions), lines_of(question, decisions)
        write_json(partial / "decision.json", document)
        (partial / "decision.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        draw_row(panels_of(question, decisions), LOAD, partial / "decision.svg")
        write_decision_page(question, decisions, partial / "decision.html")
        printed = lines_of(question, decisions, printed_width())
    if options.json:
        print_json(document)
    else:
        print_lines(printed)
        print(out)
    failed = 0
    for decision in decisions if options.regret is not None else ():
        try:
            decision.check(options.regret)
        except CheckFailed as error:
            print(f"gpusim: {error}", file=sys.stderr)
            failed = error.exit_code
    return failed
