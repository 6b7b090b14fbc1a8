"""``gpusim doctor`` and ``gpusim vidur``."""

from __future__ import annotations

import argparse
from pathlib import Path

from pytest_gpusim.cli.common import Subparsers, add_json, print_json
from pytest_gpusim.registry import Registry


def add_commands(commands: Subparsers, registry: Registry) -> None:
    """Declare the commands of this module."""
    doctor = commands.add_parser("doctor", help="what is here, and what can run")
    doctor.add_argument("--profiling-root", type=Path, metavar="DIR")
    add_json(doctor)
    doctor.set_defaults(run=_doctor)

    vidur = commands.add_parser(
        "vidur",
        help="Vidur's own main, with this project's models and devices",
        add_help=False,
        prefix_chars="\0",
    )
    vidur.add_argument("arguments", nargs=argparse.REMAINDER, metavar="-- ARGS")
    vidur.set_defaults(run=_vidur)


def _doctor(options: argparse.Namespace, registry: Registry) -> int:
    from pytest_gpusim.doctor import examine, report_lines

    findings = examine(registry, options.profiling_root)
    if options.json:
        print_json(findings)
    else:
        for line in report_lines(findings):
            print(line)
    return 0


def _vidur(options: argparse.Namespace, registry: Registry) -> int:
    from pytest_gpusim.simulators.vidur.main import run_main

    arguments = list(options.arguments)
    if arguments and arguments[0] == "--":
        arguments = arguments[1:]
    run_main(arguments, registry)
    return 0
