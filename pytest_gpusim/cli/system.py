"""``gpusim doctor`` and ``gpusim vidur``."""

from __future__ import annotations

import argparse
from pathlib import Path

from pytest_gpusim.artifacts import DEFAULT_ROOT
from pytest_gpusim.cli.common import Subparsers, add_json, add_profiling_root, print_json
from pytest_gpusim.printing import print_lines
from pytest_gpusim.registry import Registry


def add_commands(commands: Subparsers, registry: Registry) -> None:
    """Declare the commands of this module."""
    doctor = commands.add_parser("doctor", help="report what is installed and what can run here")
    add_profiling_root(doctor)
    add_json(doctor)
    doctor.set_defaults(run=_doctor)

    vidur = commands.add_parser(
        "vidur",
        help="run Vidur's own command line with this project's models and devices",
        add_help=False,
        prefix_chars="\0",
    )
    vidur.add_argument(
        "arguments", nargs=argparse.REMAINDER, metavar="-- ARGS", help="Vidur's own options"
    )
    vidur.set_defaults(run=_vidur)

    clean = commands.add_parser(
        "clean", help="remove generated artifacts; profiles and recordings stay"
    )
    clean.add_argument(
        "--artifacts", type=Path, default=DEFAULT_ROOT, metavar="DIR", help="the directory to clean"
    )
    clean.add_argument(
        "--older-than", type=float, default=0, metavar="DAYS", help="remove only what is older"
    )
    clean.add_argument("--all", action="store_true", help="also remove profiles and recordings")
    clean.add_argument("--dry-run", action="store_true", help="only list what would be removed")
    clean.set_defaults(run=_clean)


def _doctor(options: argparse.Namespace, registry: Registry) -> int:
    from pytest_gpusim.doctor import examine, report_lines

    findings = examine(registry, options.profiling_root)
    if options.json:
        print_json(findings)
    else:
        print_lines(report_lines(findings))
    return 0


def _clean(options: argparse.Namespace, registry: Registry) -> int:
    from pytest_gpusim.places import removable, remove, size_of

    total = 0
    for path in removable(options.artifacts, days=options.older_than, everything=options.all):
        total += size_of(path)
        print(path)
        if not options.dry_run:
            remove(path)
    verb = "would free" if options.dry_run else "freed"
    print(f"{verb} {total / 1e6:,.1f} MB below {options.artifacts}")
    return 0


def _vidur(options: argparse.Namespace, registry: Registry) -> int:
    from pytest_gpusim.simulators.vidur.main import run_main

    arguments = list(options.arguments)
    if arguments and arguments[0] == "--":
        arguments = arguments[1:]
    run_main(arguments, registry)
    return 0
