"""``gpusim points``: measured operating points against their simulation."""

from __future__ import annotations

import argparse
from pathlib import Path

from pytest_gpusim.cli.common import Subparsers, add_json, add_report, print_json
from pytest_gpusim.printing import print_lines, printed_width
from pytest_gpusim.registry import Registry


def add_commands(commands: Subparsers, registry: Registry) -> None:
    """Declare the command of this module."""
    points = commands.add_parser(
        "points", help="simulate measured operating points (lengths, clients, TTFT, TPOT)"
    )
    points.add_argument("table", type=Path, metavar="CSV", help="measured points, one per row")
    points.add_argument("--simulator", default="reference", metavar="NAME", help="the simulator")
    points.add_argument(
        "--kernels-alone",
        action="store_true",
        help="add no engine time (default: fitted on the release's other configurations)",
    )
    add_report(points)
    add_json(points)
    points.set_defaults(run=_points)


def _points(options: argparse.Namespace, registry: Registry) -> int:
    from pytest_gpusim.points.report import judge_points
    from pytest_gpusim.points.shown import points_lines

    document = judge_points(
        options.table,
        registry,
        simulator=options.simulator,
        engine_time=not options.kernels_alone,
    )
    if options.report:
        from pytest_gpusim.points.page import write_points_page

        write_points_page(document, options.table, options.report)
    if options.json:
        print_json(document)
    else:
        print_lines(points_lines(document, printed_width()))
    return 0
